"""Keeps the processes of one `up` running: starts them in order, restarts those that die, stops them in reverse order.

A member is anything with `start`, `stop` and `wait`: an embedded server, or a `Role`, which is a command of ours. The
parent-death signal ties every member to our lifetime, so that even `kill -9` of this process leaves none behind.

A member that has never worked will not work after a restart: its settings are wrong, and the supervisor gives up with
its reason. A member that has worked is restarted without limit, since a disk may be full for hours; what depends on it
is not ready meanwhile. A member has worked if it ran for a while, or if it is a server whose start succeeded.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from reservasi.embedded.process import dies_with_us, end, ended
from reservasi.errors import EmbeddedServerError, ReservasiError
from reservasi.logs import get_logger

ORPHANS_GRACE_S = 2.0  # how long children of a crashed role may take to end
POLL_S = 0.02

log = get_logger()


class Member(Protocol):
    """A process that the supervisor keeps running."""

    @property
    def name(self) -> str:
        """The name for messages."""

    @property
    def pid(self) -> int | None:
        """The running process; None if it does not run."""

    @property
    def works_when_started(self) -> bool:
        """Whether `start` returns only once it works, not when its process runs."""

    async def start(self) -> None:
        """Start it, and return once it can be relied on; may be called again after it ended."""

    async def stop(self) -> None:
        """Stop it within a bounded time; no effect if it does not run."""

    async def wait(self) -> int:
        """Wait until it ends and return its exit code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartLimits:
    """How often and how soon a member that dies is restarted."""

    delay_first_s: float = 0.1  # before the first restart; doubles with each further crash in a row
    delay_max_s: float = 5.0
    settled_s: float = 5.0  # a member that runs so long works, and its next crash counts as the first
    crashes_max: int = 8  # in a row, of a member that has never worked; after one more the supervisor gives up


class Crashes:
    """How often one member has crashed in a row."""

    def __init__(self, member: str, limits: RestartLimits, *, has_worked: bool = False) -> None:
        self._member = member
        self._limits = limits
        self._in_a_row = 0
        self._has_worked = has_worked

    def delay_s(self, ran_s: float, reason: str) -> float:
        """How long to wait before the next start, after a run of `ran_s`; 0 if it did not even start.

        Raises:
            EmbeddedServerError: it has never worked and has crashed too often.
        """
        limits = self._limits
        if ran_s >= limits.settled_s:
            self._has_worked, self._in_a_row = True, 0
        self._in_a_row += 1
        if self._in_a_row > limits.crashes_max and not self._has_worked:
            raise EmbeddedServerError(
                f"{self._member} failed {self._in_a_row} times in a row and never ran for {limits.settled_s:g} s, no "
                f"further start is tried; the last time: {reason}"
            )
        delay_s = limits.delay_first_s
        for _ in range(1, self._in_a_row):
            delay_s *= 2
            if delay_s >= limits.delay_max_s:
                return limits.delay_max_s
        return delay_s


@dataclass(kw_only=True)
class Role:
    """A command of ours that runs as a process, such as the recorder or the fronts."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)  # added to our own environment
    stop_timeout_s: float = 25.0  # from SIGTERM to SIGKILL
    log_path: Path | None = None  # its output is appended here; None: our own output
    keeps_open: tuple[int, ...] = ()  # file descriptors that it and its children inherit
    # called before each start, when nothing of a previous process runs any more
    before_start: Callable[[], None] | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def works_when_started(self) -> bool:
        """No: after `start` it has not even read its settings."""
        return False

    @property
    def pid(self) -> int | None:
        """The running process; None if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    async def start(self) -> None:
        """Start the command; processes left by a crashed predecessor are ended first.

        Raises:
            EmbeddedServerError: the command or its log cannot be opened.
        """
        await self._end_orphans(ORPHANS_GRACE_S)
        if self.before_start is not None:
            self.before_start()
        try:
            self._process = self._spawn()
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedServerError(f"{self.name}: {self.argv[0]} cannot be started: {error}") from error

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after `stop_timeout_s`; its own children are ended as well."""
        if self._process is not None:
            await end(self._process, (signal.SIGTERM,), self.stop_timeout_s)
            await self._end_orphans(0)

    async def wait(self) -> int:
        """Wait until the process ends and return its exit code."""
        if self._process is None:
            raise EmbeddedServerError(f"{self.name} was not started")
        return await ended(self._process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with contextlib.ExitStack() as files:
            output = files.enter_context(self.log_path.open("ab")) if self.log_path else None
            return subprocess.Popen(  # noqa: S603  # our own command, without a shell
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.env},
                pass_fds=self.keeps_open,
                start_new_session=True,  # Ctrl-C in a terminal is for us; members are stopped in order
                preexec_fn=_before_exec(),  # noqa: PLW1509  # two system calls, loaded before
            )

    async def _end_orphans(self, grace_s: float) -> None:
        """End what is left of the process group, which would keep ports and connections open."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # the usual case: the group is empty
            os.killpg(self._process.pid, signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while time.monotonic() < deadline:
                os.killpg(self._process.pid, 0)
                await asyncio.sleep(POLL_S)
            os.killpg(self._process.pid, signal.SIGKILL)


def _before_exec() -> Callable[[], None]:
    """Tie a role to our lifetime, and block SIGHUP, whose default ends a process that is still starting."""
    tie = dies_with_us(signal.SIGTERM)

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        tie()

    return prepare


class Supervisor:
    """Starts members in the order of the calls and keeps them running; leaving the block stops them in reverse
    order.
    """

    def __init__(self, limits: RestartLimits | None = None) -> None:
        self._limits = limits or RestartLimits()
        self._members: list[Member] = []
        self._watches: list[asyncio.Task[None]] = []
        self._renewals: dict[str, asyncio.Event] = {}  # by member: set while it is to be restarted on request

    async def __aenter__(self) -> "Supervisor":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, member: Member) -> None:
        """Start a member and watch it from now on.

        Raises:
            ReservasiError: its first start failed; only a member that has run once is restarted.
        """
        self._members.append(member)  # first, so that a start that is interrupted is stopped as well
        await member.start()
        log.info("member_started", member=member.name, pid=member.pid)
        self._renewals[member.name] = asyncio.Event()
        self._watches.append(asyncio.create_task(self._keep_alive(member), name=f"watch {member.name}"))

    async def run_until(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set.

        Raises:
            EmbeddedServerError: a member has never worked, and crashed too often.
        """
        stopping = asyncio.create_task(stop.wait(), name="stop asked for")
        try:
            done, _ = await asyncio.wait({stopping, *self._watches}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        for watch in done - {stopping}:
            watch.result()  # a watch ends only by giving up, so that this raises

    def pass_on(self, name: str, received: signal.Signals) -> None:
        """Send a signal to a running member; one that is being restarted does not need it."""
        for member in self._members:
            if member.name == name and member.pid is not None:
                os.kill(member.pid, received)

    def renew(self, name: str) -> None:
        """Stop and restart a member in the background; this does not count as a crash."""
        if name in self._renewals:
            self._renewals[name].set()

    async def stop(self) -> None:
        """Stop watching, then stop every member, the last one started first."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._watches.clear()
        while self._members:
            member = self._members.pop()
            try:
                await member.stop()
            except (ReservasiError, OSError):  # the others must be stopped as well
                log.exception("member_stop_failed", member=member.name)
            else:
                log.info("member_stopped", member=member.name)

    async def _keep_alive(self, member: Member) -> None:
        """Restart a member whenever it ends, with growing pauses."""
        crashes = Crashes(member.name, self._limits, has_worked=member.works_when_started)
        while True:
            started_s = time.monotonic()
            reason = await self._ended_or_renewed(member)
            ran_s = time.monotonic() - started_s
            while reason is not None:
                delay_s = crashes.delay_s(ran_s, reason)
                log.warning("member_ended", member=member.name, reason=reason, ran_s=round(ran_s, 1), delay_s=delay_s)
                await asyncio.sleep(delay_s)
                try:
                    await member.start()
                except ReservasiError as error:
                    reason, ran_s = str(error), 0.0
                else:
                    reason = None
                    log.info("member_restarted", member=member.name, pid=member.pid)

    async def _ended_or_renewed(self, member: Member) -> str | None:
        """Why the member must be restarted; None if it was restarted on request."""
        ended = asyncio.ensure_future(member.wait())
        renewal = asyncio.ensure_future(self._renewals[member.name].wait())
        try:
            await asyncio.wait({ended, renewal}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return f"ended with {ended.result()}"
        finally:
            ended.cancel()
            renewal.cancel()
        self._renewals[member.name].clear()
        await member.stop()
        try:
            await member.start()
        except ReservasiError as error:
            return str(error)
        log.info("member_renewed", member=member.name, pid=member.pid)
        return None
