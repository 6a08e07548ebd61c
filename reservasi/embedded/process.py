"""One server process of ours: started, watched until it answers, tied to our lifetime, stopped.

A process that we start dies with the thread that started it (Linux ties the parent-death signal to the thread), so
servers are started from the main thread, in which the event loop runs.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reservasi.embedded.accounts import Account
from reservasi.errors import EmbeddedServerError

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
LOG_BYTES_MAX = 8 * 1024 * 1024  # a larger log is renamed at the next start
LOG_TAIL_LINES = 12
LOG_TAIL_BYTES = 16_384
POLL_S = 0.02
# A server gets nothing of our environment: a PGPORT or LC_ALL would change its behaviour.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

_LIBC = ctypes.CDLL(None, use_errno=True)


def dies_with_us(death_signal: signal.Signals) -> Callable[[], None]:
    """A function that a new child calls before exec, so that it gets `death_signal` when we die.

    It must run after any setuid, which clears the setting; `subprocess` calls a `preexec_fn` last.
    """
    parent = os.getpid()

    def tie() -> None:
        if _LIBC.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(1)  # we died in between; nothing else would end this child

    return tie


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child to end and return its exit code; a cancellation leaves it running."""
    code = process.poll()
    if code is not None:
        return code
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    try:
        loop.add_reader(pidfd, event.set)
        await event.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return process.wait()


async def end(process: subprocess.Popen[bytes], signals: Sequence[signal.Signals], timeout_s: float) -> int:
    """End a child: each signal gets `timeout_s`, then SIGKILL follows."""
    for number in signals:
        if process.poll() is None:
            process.send_signal(number)
            try:
                return await asyncio.wait_for(ended(process), timeout_s)
            except TimeoutError:
                continue
    process.kill()
    return await ended(process)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerKind:
    """The differences between the servers in starting and stopping."""

    name: str  # as people write it
    death_signal: signal.Signals  # sent when we die
    stop_signals: tuple[signal.Signals, ...]  # from gentle to forced


class ServerProcess:
    """A server that holds a lock file as long as it, or a child of it, lives.

    The lock outlives us if we die first: a new start waits until the old server has ended, instead of opening the same
    files, and the owner of the lock knows that pid files and sockets left behind are stale.
    """

    def __init__(self, kind: ServerKind, *, log: Path, lock: Path, account: Account | None) -> None:
        self._kind = kind
        self._log = log
        self._lock = lock
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0  # offset of this start's lines in the log

    @property
    def pid(self) -> int | None:
        """The running server's process id; None if it was not started or has ended."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    async def start(
        self,
        argv: Sequence[str],
        *,
        stale: Sequence[Path],
        ready: Callable[[int], Awaitable[bool]],
        timeout_s: float,
    ) -> None:
        """Start the server and return once `ready(pid)` is true; `stale` files are removed first.

        Raises:
            EmbeddedServerError: it already runs, has ended, or was not ready within `timeout_s`.
        """
        if self.pid is not None:
            raise EmbeddedServerError(f"{self._kind.name} is already running")
        deadline = time.monotonic() + timeout_s
        lock_fd = await self._locked(deadline)
        try:
            for path in stale:
                path.unlink(missing_ok=True)
            process = self._process = self._spawn(argv, lock_fd, stdin=subprocess.DEVNULL)
        finally:
            os.close(lock_fd)  # the server now has its own copy, and with it the lock
        try:
            while not await ready(process.pid):
                self._refuse_failed(process, deadline, timeout_s)
                await asyncio.sleep(POLL_S)
        except BaseException:
            process.kill()  # a half-started server must not be left running, even after an interruption
            process.wait()
            raise

    async def run(self, argv: Sequence[str], *, stdin: str = "", timeout_s: float) -> None:
        """Run one of the server's own programs to its end, under the server's account.

        Raises:
            EmbeddedServerError: it failed, or did not end within `timeout_s`.
        """
        lock_fd = await self._locked(time.monotonic() + timeout_s)
        try:
            process = self._spawn(argv, lock_fd, stdin=subprocess.PIPE)
        finally:
            os.close(lock_fd)
        program = Path(argv[0]).name
        try:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # it has already ended; its exit code says why
                    process.stdin.write(stdin.encode())
                    process.stdin.close()
            code = await asyncio.wait_for(ended(process), timeout_s)
        except TimeoutError as error:
            raise EmbeddedServerError(self._message(f"{program} did not finish within {timeout_s:g} s")) from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if code != 0:
            raise EmbeddedServerError(self._message(f"{program} ended with {code}"))

    async def stop(self, timeout_s: float) -> None:
        """Stop the server if it runs; `timeout_s` applies to each of its stop signals."""
        if self._process is not None:
            await end(self._process, self._kind.stop_signals, timeout_s)

    async def wait(self) -> int:
        """Wait until the server ends and return its exit code."""
        if self._process is None:
            raise EmbeddedServerError(f"{self._kind.name} was not started")
        return await ended(self._process)

    def _spawn(self, argv: Sequence[str], lock_fd: int, *, stdin: int) -> subprocess.Popen[bytes]:
        """Start a program whose output goes to the log and whose lifetime is tied to ours."""
        account = self._account
        log_fd = self._open_log()
        try:
            return subprocess.Popen(  # noqa: S603  # a program of our own wheels, without a shell
                argv,
                stdin=stdin,
                stdout=log_fd,
                stderr=log_fd,
                cwd="/",
                env=ENVIRONMENT,
                pass_fds=(lock_fd,),
                start_new_session=True,  # Ctrl-C in a terminal is for us; we stop servers last, and in order
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=account.groups if account else None,
                preexec_fn=dies_with_us(self._kind.death_signal),  # noqa: PLW1509  # one prctl, loaded before
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedServerError(f"{self._kind.name}: {argv[0]} cannot be started: {error}") from error
        finally:
            os.close(log_fd)

    async def _locked(self, deadline: float) -> int:
        """The server's lock file, locked; waits for the previous server to end."""
        try:
            fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EmbeddedServerError(f"{self._kind.name}: {self._lock} cannot be opened: {error}") from error
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                pass
            if time.monotonic() > deadline:
                os.close(fd)
                raise EmbeddedServerError(f"{self._kind.name}: another one still uses {self._lock.parent}")
            await asyncio.sleep(POLL_S)

    def _open_log(self) -> int:
        """The log, opened for appending; one that is too long is renamed first."""
        try:
            if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
                self._log.replace(self._log.with_suffix(".log.1"))
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._log, flags, 0o640)
        except OSError as error:
            raise EmbeddedServerError(f"{self._kind.name}: {self._log} cannot be written: {error}") from error
        self._log_start = os.fstat(fd).st_size
        return fd

    def _refuse_failed(self, process: subprocess.Popen[bytes], deadline: float, timeout_s: float) -> None:
        code = process.poll()
        if code is not None:
            raise EmbeddedServerError(self._message(f"ended with {code} before it was ready"))
        if time.monotonic() > deadline:
            raise EmbeddedServerError(self._message(f"was not ready within {timeout_s:g} s"))

    def _message(self, what: str) -> str:
        """The text of a fault: the event, and the last lines of this start in the server's log."""
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"{self._kind.name} {what}; the end of {self._log}:", *(f"  {line}" for line in lines)])
