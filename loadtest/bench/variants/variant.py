"""The interface of a variant, the bare handler, and all that rivals share but their stores.

Rivals are served by gunicorn and uvloop with our front's settings. They leave out what makes ours dearer (full
validation, sealed personal data, a journal, metrics), so that they are hard to beat.
"""

import contextlib
import hmac
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import ClassVar, NamedTuple

import asyncpg
import msgspec
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

from loadtest.bench.ground import Ground
from loadtest.stage.cores import pinned, yield_to_others
from loadtest.stage.ports import free_port
from reservasi.front.process.garbage_collector import set_aside_what_stays
from reservasi.supervisor import Role

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1"
VARIABLE = "BENCH_BASELINE"
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "--worker-class", "aiohttp.GunicornUVLoopWebWorker"),
    *("--backlog", "4096", "--keep-alive", "15", "--timeout", "60", "--log-level", "warning", "--no-control-socket"),
)
HOLD_MS = 7_200_000
KEY = b"a key of the benchmark alone"
GRANTED = ("held", "exists")


class Applicant(msgspec.Struct):
    nik: str
    name: str
    birth_date: str


class ClaimBody(msgspec.Struct):
    quota: str
    applicants: list[Applicant]
    contact: dict[str, str]


class Claim(NamedTuple):
    reservation_id: str
    quota: str
    person: str
    fingerprint: str


class Verdict(NamedTuple):
    outcome: str  # "held", "exists", or why not
    deadline_ms: int  # 0 when refused


Decide = Callable[[Claim], Awaitable[Verdict]]


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
    if role.pid is None:
        raise RuntimeError(f"{role.name} has ended; see {role.log_path}")
    return role.pid


class Bare(Rival):
    """The upper bound: it does not even read the request. Other statuses are for answers other than claims."""

    name = "bare"
    title = "bare aiohttp handler, a constant answer of the same size, no store"


async def bare() -> web.Application:
    baseline = Baseline.read()
    body = b'{"padding":"' + b"x" * (baseline.body_bytes - 14) + b'"}'

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=baseline.status, body=body, content_type="application/json")

    app = web.Application()
    if baseline.status == 200:
        app.router.add_get("/v1/availability", answer)
    else:
        app.router.add_post("/v1/reservations", answer)
        app.router.add_post("/v1/openings/{id}/tickets", answer)
    set_aside_what_stays()
    return app


def claim_app(decide: Decide, close: Callable[[], Awaitable[None]]) -> web.Application:
    """A front that decides claims with `decide`."""
    decoder = msgspec.json.Decoder(ClaimBody)
    total_bytes = Baseline.read().body_bytes

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        wanted = decoder.decode(body)
        person = _keyed_hash(b"person", wanted.applicants[0].nik.encode())
        name = _keyed_hash(b"reservation", (person + request.headers["Idempotency-Key"]).encode())
        outcome, deadline_ms = await decide(Claim(name, wanted.quota, person, _keyed_hash(b"fingerprint", body)))
        if outcome not in GRANTED:
            return web.json_response({"outcome": outcome}, status=409)
        fields = {"id": name, "status": "held", "quota": wanted.quota, "hold_expires_at": deadline_ms, "padding": ""}
        text = msgspec.json.encode(fields)
        padded = text[:-2] + b"x" * (total_bytes - len(text)) + b'"}'
        return web.Response(status=201, body=padded, content_type="application/json")

    async def close_store(_app: web.Application) -> None:
        await close()

    app = web.Application()
    app.router.add_post("/v1/reservations", answer)
    app.on_cleanup.append(close_store)
    set_aside_what_stays()
    return app


def _keyed_hash(purpose: bytes, content: bytes) -> str:
    return hmac.digest(KEY, purpose + content, "sha256").hex()[:26]
