"""The processes of an `up` that was killed: they end automatically, and the next `up` waits for that.

Worker and fronts inherit a lock on a file of the data directory, and hold it as long as one of them lives. The owner of
the lock therefore knows that none of them listens or records any more.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from reservasi.embedded.places import Places
from reservasi.errors import ConfigurationError

POLL_S = 0.02
QUIET_S = 0.3  # no message before this time: most have ended by then
KILLED_WAIT_S = 5.0  # from SIGKILL to the end
COMMAND_CHARS_MAX = 120


class Left(NamedTuple):
    """A process that was left behind."""

    pid: int
    command: str


@contextlib.contextmanager
def processes_lock(data_dir: Path, wait_s: float, waits_for: Callable[[list[Left]], None]) -> Iterator[int]:
    """The locked file descriptor that worker and fronts inherit; waits for the processes of a previous `up`.

    `waits_for` is called once with the processes. After `wait_s`, the time for requests in progress, they are killed,
    as their own `up` would have done.

    Raises:
        ConfigurationError: they do not end.
    """
    path = Places.of(data_dir).data_dir / "processes.lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        if not _locked(fd, QUIET_S):
            waits_for(holders(fd))
            if not _locked(fd, wait_s):
                for left in holders(fd):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(left.pid, signal.SIGKILL)
                _refuse_living(fd)
        yield fd
    finally:
        os.close(fd)


def _refuse_living(fd: int) -> None:
    if _locked(fd, KILLED_WAIT_S):
        return
    who = described(holders(fd)) or "of another account"
    raise ConfigurationError(f"processes of an earlier `reservasi up` do not end: {who}; end them first")


def described(processes: list[Left]) -> str:
    """The processes as a message."""
    return ", ".join(f"{left.pid} ({left.command})" for left in processes)


def holders(fd: int) -> list[Left]:
    """The other processes that hold the lock on the file, as far as they are visible."""
    path, inode = os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd).st_ino
    others: list[Left] = []
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        if pid != os.getpid() and _holds(process, path, inode):
            others.append(Left(pid, command_of(pid)))
    return sorted(others)


def command_of(pid: int) -> str:
    """The command line of a process, shortened; its name if it has none, "" if it has ended."""
    process = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return (words or (process / "comm").read_text().strip())[:COMMAND_CHARS_MAX]
    return ""


def _holds(process: Path, path: str, inode: int) -> bool:
    """Whether it has the file open by a locked descriptor; an inherited one counts.

    Other processes may only read the file. The file itself is not opened: a file of a server that does not answer would
    block.
    """
    with contextlib.suppress(OSError):  # it has ended, or belongs to another account
        for each in os.listdir(process / "fd"):
            with contextlib.suppress(OSError):
                if os.readlink(process / "fd" / each) == path and _is_locked(process / "fdinfo" / each, inode):
                    return True
    return False


def _is_locked(fdinfo: Path, inode: int) -> bool:
    """Whether fdinfo has a line such as `lock: 1: FLOCK ADVISORY WRITE 4711 fe:00:2146845 0 EOF` for the inode."""
    for line in fdinfo.read_text().splitlines():
        words = line.split()
        if words[:1] == ["lock:"] and "FLOCK" in words and any(word.endswith(f":{inode}") for word in words):
            return True
    return False


def _locked(fd: int, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        else:
            return True
