"""Finds the services that `up` runs for this user, so that commands in another terminal find their data directory.

Each `up` keeps a small file while it runs. A file is valid as long as the process that it names lives, identified by
its pid and start time.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

FILES_MAX = 64  # files that are read
FILE_BYTES_MAX = 4096
_SUFFIX = ".json"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A running `up`."""

    pid: int
    started: str  # start time of the process, by the kernel's clock
    data_dir: str
    api: str


@contextmanager
def announced(data_dir: Path, api: str) -> Iterator[None]:
    """Let commands find this process's service during the block; no effect if the file cannot be written."""
    pid = os.getpid()
    running = Running(pid=pid, started=_started(pid), data_dir=str(data_dir), api=api)
    paths = []
    for place in _places():
        with suppress(OSError):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours(place):
                path = place / f"{pid}{_SUFFIX}"
                paths.append(path)
                new = path.with_suffix(".new")
                new.write_text(json.dumps(msgspec.structs.asdict(running)))
                new.replace(path)
    try:
        yield
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def services() -> list[Running]:
    """Every running `up` of this user, by data directory; files of killed ones are removed."""
    running: dict[int, Running] = {}
    for place in _places():
        with suppress(OSError):
            if not _is_ours(place):
                continue
            for path in sorted(place.glob(f"*{_SUFFIX}"))[:FILES_MAX]:
                one = _read(path)
                if one is not None and _lives(one):
                    running[one.pid] = one
                else:
                    path.unlink(missing_ok=True)
    return sorted(running.values(), key=lambda each: each.data_dir)


def _places() -> list[Path]:
    """Directories of this user, at least one of which is the same in all of their terminals and scheduled jobs.

    Only a login session has the first one.
    """
    user = os.geteuid()
    session = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}")
    always = Path(tempfile.gettempdir()) / f"reservasi-{user}"  # ours, or not used
    return [session / "reservasi", always] if session.is_dir() else [always]


def _is_ours(place: Path) -> bool:
    """Whether only we can have written there."""
    status = place.lstat()
    return place.is_dir() and not place.is_symlink() and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _read(path: Path) -> Running | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(FILE_BYTES_MAX), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def _lives(running: Running) -> bool:
    try:
        return _started(running.pid) == running.started
    except OSError:
        return False


def _started(pid: int) -> str:
    """The start time of the process in the kernel's ticks since boot, which distinguishes reused pids."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
