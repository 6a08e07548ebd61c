"""The whole service on real servers: a front behind a real socket, the worker's tasks, and one program."""

import asyncio
import itertools
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import asyncpg
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from reservasi.bootstrap.commands import Operations
from reservasi.bootstrap.fronts import open_front
from reservasi.bootstrap.worker import open_worker
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.front.app import FrontServices, create_app
from reservasi.front.serving import create_runner
from reservasi.ledger import keys
from reservasi.ledger.access import FRONT
from reservasi.ledger.connection import LedgerConnection
from reservasi.model import Outcome, Quota, QuotaTerms, SetQuota
from reservasi.programs.files import read_program
from reservasi.records.roles import FRONT_ROLE
from reservasi.records.upgrades import upgrade
from reservasi.sealing import Sealing, load_key_ring
from reservasi.settings import Settings
from tests.acceptance.imported import Deployment
from tests.acceptance.lines import Line, connect
from tests.users import as_user

PROGRAM_FILE = Path(__file__).parents[2] / "config" / "programs" / "surabaya.toml"
WAIT_S = 60.0
GENERAL_MEMBERS = {"type", "title", "status", "detail", "next"}


@dataclass
class Stack:
    """One running service, and what a test needs to speak to it and to look behind it."""

    url: str
    client: aiohttp.ClientSession
    front: FrontServices
    worker: Operations
    ledger: LedgerConnection
    program: str
    operator_key: str
    viewer_key: str
    _quotas: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _people: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def quota(self, **changes: Any) -> str:
        """A new quota with room for ten; `changes` are terms."""
        number = next(self._quotas)
        channel = changes.get("channel", "online")
        day, minutes = divmod(number, 600)
        start = f"{8 + minutes // 60:02}:{minutes % 60:02}"
        terms = {
            "capacity": 10,
            "opens_at_ms": 0,
            "closes_at_ms": 0,
            "cancel_until_ms": 0,
            "hold_ms": 7_200_000,
            "return_min_ms": 0,
            "return_max_ms": 0,
            "closed": False,
            "office": "kanim",
            "service": "baru",
            "channel": channel,
            "date": f"2027-03-{day + 1:02}",
            "start": start,
            "end": f"{8 + (minutes + 1) // 60:02}:{(minutes + 1) % 60:02}",  # windows of a line never overlap
            **changes,
        }
        quota = f"{self.program}.kanim.baru.202703{day + 1:02}.{start.replace(':', '')}.{channel}"
        answer = await self.front.reservations.set_quota(SetQuota(quota=quota, terms=QuotaTerms(**terms)))
        assert answer.outcome is Outcome.QUOTA_SET
        await self.seen(quota, lambda _: True)
        return quota

    def at(self, url: str) -> "Stack":
        """The same, speaking to another front."""
        return replace(self, url=url)

    def nik(self) -> str:
        """A valid NIK that no other call returned."""
        number = next(self._people)
        return f"357801{1 + number // 10_000 % 28:02}0790{number % 10_000:04}"

    def applicant(self, **changes: Any) -> dict[str, Any]:
        return {"nik": self.nik(), "name": "Siti Aminah", "birth_date": "1990-07-01", **changes}

    def body(self, quota: str, applicants: int = 1, **changes: Any) -> dict[str, Any]:
        return {"quota": quota, "applicants": [self.applicant() for _ in range(applicants)], **changes}

    async def request(self, method: str, path: str, **options: Any) -> "Reply":
        async with self.client.request(method, self.url + path, **options) as response:
            return Reply(response.status, response.headers.copy(), await response.read())

    async def claim(self, body: Any, key: str | None = None, **headers: str) -> "Reply":
        headers = {"Idempotency-Key": key or secrets.token_hex(8), **headers}
        return await self.request("POST", "/v1/reservations", json=body, headers=headers)

    async def held(self, quota: str, applicants: int = 1) -> dict[str, Any]:
        """The answer to a claim that got its places."""
        reply = await self.claim(self.body(quota, applicants))
        assert reply.status == 201, reply.text
        held: dict[str, Any] = reply.json
        return held

    async def managed(self, method: str, held: dict[str, Any], suffix: str = "", **options: Any) -> "Reply":
        """A call with the reservation's manage token."""
        headers = {"Authorization": f"Bearer {held['manage_token']}", **options.pop("headers", {})}
        return await self.request(method, f"/v1/reservations/{held['id']}{suffix}", headers=headers, **options)

    async def staff(self, method: str, path: str, key: str | None = None, **options: Any) -> "Reply":
        headers = {"X-API-Key": key or self.operator_key, **options.pop("headers", {})}
        return await self.request(method, path, headers=headers, **options)

    async def seen(self, quota_id: str, condition: Callable[[Quota], bool]) -> Quota:
        """The quota once the view fulfils the condition."""
        availability = self.front.availability
        async with asyncio.timeout(WAIT_S):
            while True:
                version = availability.version
                quota = availability.quota(quota_id)
                if quota is not None and condition(quota):
                    return quota
                await availability.wait_change(version, WAIT_S)

    async def eventually(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the condition holds."""
        await eventually(condition)

    async def ledger_state(self) -> tuple[int, dict[str, int], list[Quota]]:
        """How many reservations there are, each opening's version, and every quota: the same when nothing was changed.

        Not the ledger's seq: the marks of other tests' openings move meanwhile.
        """
        snapshot = await self.ledger.snapshot(WAIT_S)
        assert snapshot is not None
        reservations = await cast(Any, self.worker.client.hlen(keys.reservations(self.program)))
        openings = {opening.id: opening.version for opening in snapshot.openings}
        return reservations, openings, sorted(snapshot.quotas, key=lambda quota: quota.id)


class Reply:
    """An answer, read to its end."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def is_problem(self, name: str, status: int) -> dict[str, Any]:
        """Check that this is that refusal, whole and well-formed; its members."""
        assert self.status == status, self.text
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.headers["Content-Language"] in ("id", "en")
        assert "Accept-Language" in self.headers["Vary"]
        problem: dict[str, Any] = self.json
        assert problem["type"] == f"/problems/{name}"
        assert problem["status"] == status
        assert all(problem[member] for member in ("title", "detail", "next"))
        assert problem.keys() - GENERAL_MEMBERS <= set(PROBLEM_TYPES[name].members), "declare it with the problem type"
        return problem


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds; fail when it does not within WAIT_S."""
    async with asyncio.timeout(WAIT_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for is outside this process
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(valkey_url: str, postgres_dsn: str) -> AsyncIterator[Stack]:
    """The service, started once for all acceptance tests; each test makes quotas of its own."""
    name, program_id = f"t_{secrets.token_hex(6)}", f"t-{secrets.token_hex(4)}"
    data_dir = Path(tempfile.mkdtemp(prefix="rv-front-"))
    await _execute(postgres_dsn, f'CREATE DATABASE "{name}"')
    settings = Settings(
        keepalive_s=300,  # commands that a test waits for hold the loop up; an idle connection must outlive them
        data_dir=data_dir,
        redis_url=valkey_url,
        postgres_dsn=postgres_dsn.replace("@/reservasi?", f"@/{name}?"),
        catalogue_refresh_ms=100,
        body_timeout_ms=500,
        processes=1,  # one front, whatever the machine has
    )
    try:
        await upgrade(settings.postgres_dsn)
        as_front = {
            "redis_url": as_user(valkey_url, FRONT),
            "postgres_dsn": settings.postgres_dsn.replace("//reservasi@", f"//{FRONT_ROLE}@"),
        }
        async with open_worker(settings) as running, open_front(settings.model_copy(update=as_front)) as front:
            worker = running.operations
            program = msgspec.structs.replace(read_program(PROGRAM_FILE), id=program_id)
            await worker.records.save_program(program)
            operator_key, viewer_key = await _staff(worker, "operator"), await _staff(worker, "viewer")
            await eventually(lambda: _serves(front, program_id))
            async with (
                _listening(front) as url,
                aiohttp.ClientSession(headers={"Accept-Encoding": "identity"}) as client,
            ):
                ledger = worker.ledgers.connection(program_id)
                yield Stack(url, client, front, worker, ledger, program_id, operator_key, viewer_key)
                await ledger.drop()
    finally:
        superuser = postgres_dsn.replace("//reservasi@", "//postgres@")  # may end the server's own vacuum as well
        await _execute(superuser, f'DROP DATABASE "{name}" WITH (FORCE)')
        shutil.rmtree(data_dir)


async def _serves(front: FrontServices, program: str) -> bool:
    return front.catalogue.program(program) is not None and front.availability.knows(program)


async def _staff(worker: Operations, role: str) -> str:
    key = f"key-{secrets.token_hex(16)}"
    sealing = Sealing(load_key_ring(worker.settings.secrets_path, create=False))
    await worker.records.add_staff(f"a {role}", role, sealing.api_key_hash(key))
    return key


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


class _listening:  # noqa: N801 - reads as a phrase
    """The public application on a free port of loopback."""

    def __init__(self, front: FrontServices) -> None:
        self._runner = create_runner(create_app(front), front.settings)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.fixture
def anyone() -> str:
    """A reservation id of the right form that does not exist."""
    return "a" * 26


@pytest.fixture(scope="session")
def listening() -> type[_listening]:
    """Another front of the same service, for tests that stop it."""
    return _listening


@pytest.fixture
def deployment(
    valkey_url: str, database: str, data_dir: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """Two offices with 40 places on each of two days, in four windows of an hour."""
    monkeypatch.setenv("RESERVASI_REDIS_URL", valkey_url)
    monkeypatch.setenv("RESERVASI_POSTGRES_DSN", database)
    monkeypatch.setenv("RESERVASI_DATA_DIR", str(data_dir))
    instance = Deployment(program, data_dir / f"{program}.toml")
    instance.write()
    assert instance.imports()["created"] == 16
    return instance


@pytest_asyncio.fixture(loop_scope="session")
async def line(stack: Any) -> AsyncIterator[Line]:
    """A connection for the byte transport."""
    opened = await connect(stack.url)
    yield opened
    opened.writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def long_line(stack: Any) -> AsyncIterator[Line]:
    """A connection that is left to aiohttp."""
    opened = await connect(stack.url)
    yield opened
    opened.writer.close()
