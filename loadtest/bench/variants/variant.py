"""The interface of a variant, and the base of rivals, served by gunicorn and uvloop with our front's settings."""

import contextlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import ClassVar

import asyncpg
import msgspec
from aiohttp.http import SERVER_SOFTWARE

from loadtest.bench.ground import Ground
from loadtest.stage.cores import pinned, yield_to_others
from loadtest.stage.ports import free_port
from reservasi.supervisor import Role

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1"
VARIABLE = "BENCH_BASELINE"
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "--worker-class", "aiohttp.GunicornUVLoopWebWorker"),
    *("--backlog", "4096", "--keep-alive", "15", "--timeout", "60", "--log-level", "warning", "--no-control-socket"),
)


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a rival's processes, as JSON in their environment."""

    answer_bytes: int  # of our front's answer, head and body
    redis_url: str
    postgres_dsn: str
    status: int

    @classmethod
    def read(cls) -> "Baseline":
        return msgspec.json.decode(os.environ[VARIABLE], type=cls)

    @property
    def body_bytes(self) -> int:
        """The body size that makes the whole answer as large as our front's."""
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: \r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
        )
        rest = self.answer_bytes - len(head)
        return rest - len(str(rest - 3))  # the length is written in as many digits


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
        """The roots of its process trees by role; `front` is always present."""

    @abstractmethod
    async def start(self) -> None:
        """Start the processes, without waiting until they answer."""

    @abstractmethod
    async def stop(self) -> None: ...

    async def settle(self) -> None:  # noqa: B027 - most have nothing left to do
        """Wait until the background work of the last measurement is done."""

    async def held(self) -> int | None:
        """How many claims its store holds; None when it stores none."""
        return None


class Rival(Variant):
    """A variant with a store of its own. The function with its name, in its module, creates the application."""

    def __init__(self, ground: Ground, status: int = 201) -> None:
        super().__init__(ground)
        self.port = free_port()
        baseline = Baseline(
            answer_bytes=ground.answer_bytes,
            redis_url=ground.redis_url,
            postgres_dsn=ground.postgres_dsn,
            status=status,
        )
        self._environment = {VARIABLE: msgspec.json.encode(baseline).decode()}
        flags = ("--bind", f"127.0.0.1:{self.port}", "--workers", str(ground.settings.front_processes))
        self.roles = {"front": self.role("front", *GUNICORN, *flags, f"{type(self).__module__}:{self.name}")}

    def role(self, what: str, *argv: str) -> Role:
        name = f"{self.name}-{what}"
        return Role(name=name, argv=argv, env=self._environment, log_path=self.ground.settings.data_dir / f"{name}.log")

    @property
    def pids(self) -> dict[str, int]:
        return {what: pid_of(role) for what, role in self.roles.items()}

    async def prepare(self) -> None:
        """Create the places in the store."""

    async def start(self) -> None:
        await self.prepare()
        for what, role in self.roles.items():
            with pinned(self.ground.cores.front if what == "front" else self.ground.cores.rest):
                await role.start()

    async def stop(self) -> None:
        for role in self.roles.values():
            await role.stop()


@asynccontextmanager
async def connected(dsn: str, **settings: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(dsn, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def quieten_backends(dsn: str, application: str) -> None:
    """Give PostgreSQL's processes for these sessions (a pattern of LIKE) the lowest priority."""
    async with connected(dsn) as connection:
        for (pid,) in await connection.fetch(BACKENDS, application):
            with contextlib.suppress(ProcessLookupError):
                yield_to_others(pid)


def pid_of(role: Role) -> int:
    """The pid of a process that must be running."""
    if role.pid is None:
        raise RuntimeError(f"{role.name} has ended; see {role.log_path}")
    return role.pid
