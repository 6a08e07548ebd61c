"""What the benchmark asks of a variant."""

import contextlib
import sys
from typing import ClassVar, Protocol

import asyncpg

from loadtest.bench.ground import Ground
from loadtest.bench.serving import (
    ANSWER_BYTES_VARIABLE,
    PORT_VARIABLE,
    POSTGRES_DSN_VARIABLE,
    PROCESSES_VARIABLE,
    REDIS_URL_VARIABLE,
)
from loadtest.stage.cores import pinned, yield_to_others
from loadtest.stage.ports import free_port
from reservasi.supervisor import Role

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1"


class Variant(Protocol):
    """Something that answers claims over HTTP."""

    name: ClassVar[str]  # as printed
    title: ClassVar[str]  # one line on what it does

    def __init__(self, ground: Ground) -> None:
        """Do not start anything yet."""

    @property
    def port(self) -> int:
        """Where it listens."""

    @property
    def pids(self) -> dict[str, int]:
        """The roots of its process trees by what they are; `front` is always there."""

    async def start(self) -> None:
        """Start it; it need not answer yet."""

    async def stop(self) -> None:
        """Stop it."""

    async def settle(self) -> None:
        """Wait until what the last measurement left to do in the background is done."""

    async def held(self) -> int | None:
        """How many claims its store holds; None when it stores none."""


class Rival:
    """A variant whose front is one process of its own module, and whose store is prepared beforehand."""

    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.port = free_port()
        self._front = baseline_front(ground, f"loadtest.bench.variants.{self.name}", self.port)

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

    async def settle(self) -> None:
        """Nothing is left to do."""

    async def held(self) -> int | None:
        return None


def baseline_front(ground: Ground, module: str, port: int, *arguments: str) -> Role:
    """The process of a baseline whose module serves when it is run."""
    name = "-".join((module.rpartition(".")[2], *arguments))
    return Role(
        name=name,
        argv=(sys.executable, "-m", module, *arguments),
        env={
            PORT_VARIABLE: str(port),
            ANSWER_BYTES_VARIABLE: str(ground.answer_bytes),
            REDIS_URL_VARIABLE: ground.redis_url,
            POSTGRES_DSN_VARIABLE: ground.postgres_dsn,
            PROCESSES_VARIABLE: str(ground.processes),
        },
        log_path=ground.log_dir / f"{name}.log",
    )


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
