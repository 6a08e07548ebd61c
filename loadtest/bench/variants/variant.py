"""What the benchmark asks of a variant."""

import contextlib
import sys
from abc import ABC, abstractmethod
from typing import ClassVar

import asyncpg

from loadtest.bench.ground import Ground
from loadtest.bench.serving import Baseline
from loadtest.stage.cores import pinned, yield_to_others
from loadtest.stage.ports import free_port
from reservasi.supervisor import Role

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1"


class Variant(ABC):
    """Something that answers claims over HTTP."""

    name: ClassVar[str]  # as printed
    title: ClassVar[str]  # one line on what it does
    port: int

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    @property
    @abstractmethod
    def pids(self) -> dict[str, int]:
        """The roots of its process trees by what they are; `front` is always there."""

    @abstractmethod
    async def start(self) -> None:
        """Start it; it need not answer yet."""

    @abstractmethod
    async def stop(self) -> None: ...

    async def settle(self) -> None:  # noqa: B027 - most have nothing left to do
        """Wait until what the last measurement left to do in the background is done."""

    async def held(self) -> int | None:
        """How many claims its store holds; None when it stores none."""
        return None


class Rival(Variant):
    """A variant whose front is one process of its own module, and whose store is prepared beforehand."""

    def __init__(self, ground: Ground, status: int = 201) -> None:
        super().__init__(ground)
        self.port = free_port()
        self._baseline = Baseline(
            port=self.port,
            processes=ground.processes,
            answer_bytes=ground.answer_bytes,
            redis_url=ground.redis_url,
            postgres_dsn=ground.postgres_dsn,
            status=status,
        )
        self._front = self.role()

    def role(self, *arguments: str) -> Role:
        """The process that runs when its module is."""
        name = "-".join((self.name, *arguments))
        return Role(
            name=name,
            argv=(sys.executable, "-m", f"loadtest.bench.variants.{self.name}", *arguments),
            env=self._baseline.environment,
            log_path=self.ground.log_dir / f"{name}.log",
        )

    @property
    def pids(self) -> dict[str, int]:
        return {"front": pid_of(self._front)}

    async def prepare(self) -> None:
        """Offer the places."""

    async def start(self) -> None:
        await self.prepare()
        await start_on(self._front, self.ground.cores.front)

    async def stop(self) -> None:
        await self._front.stop()


async def quieten_backends(dsn: str, application: str) -> None:
    """Let PostgreSQL's processes for these sessions (a pattern of LIKE) use only the time that others leave."""
    connection = await asyncpg.connect(dsn)
    try:
        backends = await connection.fetch(BACKENDS, application)
    finally:
        await connection.close()
    for (pid,) in backends:
        with contextlib.suppress(ProcessLookupError):
            yield_to_others(pid)


async def start_on(role: Role, cores: frozenset[int]) -> None:
    """Start a process that stays, with its children, on these cores."""
    with pinned(cores):
        await role.start()


def pid_of(role: Role) -> int:
    """The pid of a process that must be running."""
    if role.pid is None:
        raise RuntimeError(f"{role.name} has ended; see {role.log_path}")
    return role.pid
