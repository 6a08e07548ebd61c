"""Fixtures of all tests: real servers, and a random program for each test."""

import asyncio
import gc
import os
import secrets
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog

from loadtest.stage.nginx import nginx_path
from reservasi.embedded import EmbeddedPostgres, EmbeddedValkey, Places
from reservasi.records.upgrades import upgrade
from tests.any_server import SERVERS, NewLedgerServer
from tests.debian import DebianRedis, redis_program
from tests.temporary_files import on_disk, pytest_configure
from tests.turns import pytest_collection_modifyitems, pytest_xdist_make_scheduler

__all__ = ["on_disk", "pytest_collection_modifyitems", "pytest_configure", "pytest_xdist_make_scheduler"]

# Each process would read the system's authorities at its start, and none of them talks to other machines.
os.environ["SSL_CERT_FILE"] = os.devnull
START_TIMEOUT_S = 60
TEMPLATE = "upgraded"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what must hold on every server that we promise to work with on Debian's Redis 7.0 as well."""
    marked = metafunc.definition.get_closest_marker("any_server") or "lua" in metafunc.definition.path.parts
    if marked and "ledger_server" in metafunc.fixturenames:
        metafunc.parametrize("ledger_server", list(SERVERS), indirect=True)


def pytest_collection_finish() -> None:
    """Set the thousands of collected tests aside: the garbage collector would look through them again and again."""
    gc.collect()
    gc.freeze()


def _finish(work: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine on a loop of its own: fixtures outlive the loops that tests run on."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.fixture(autouse=True)
def _logging_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test configures of the logs, as every command does, ends with it: a cached logger would keep it for good."""
    configure, before = structlog.configure, structlog.get_config()
    monkeypatch.setattr(structlog, "configure", lambda **how: configure(**{**how, "cache_logger_on_first_use": False}))
    yield
    configure(**before)


def _new_data_dir() -> Path:
    """A directory with a path short enough for sockets, which the servers' account can pass through."""
    directory = Path(tempfile.mkdtemp(prefix="rv-"))
    directory.chmod(0o711)
    return directory


def _remove(data_dir: Path) -> None:
    for directory in {data_dir, Places.of(data_dir).run}:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory of this test's own, for servers that it starts, kills and starts again."""
    directory = _new_data_dir()
    yield directory
    _remove(directory)


@pytest.fixture(scope="module")
def shared_data_dir() -> Iterator[Path]:
    """One that the tests of a file share."""
    directory = _new_data_dir()
    yield directory
    _remove(directory)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The Valkey of this test run, with the configuration that production has: `unix:///...`."""
    directory = _new_data_dir()
    server = EmbeddedValkey(directory, START_TIMEOUT_S)
    try:
        _finish(server.start())
        yield server.url
    finally:
        _finish(server.stop())
        _remove(directory)


@pytest.fixture
def ledger_server(request: pytest.FixtureRequest) -> NewLedgerServer:
    """Makes a server of the kind that this run of the test is about, in a data directory of its own."""
    kind = getattr(request, "param", "valkey")
    if kind != "valkey":
        redis_program()
    return SERVERS[kind]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Debian's Redis 7.0 of this test run, set up by the shipped files."""
    directory = _new_data_dir()
    server = DebianRedis(directory)
    try:
        _finish(server.start())
        yield server.url
    finally:
        _finish(server.stop())
        _remove(directory)


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The PostgreSQL of this test run, at its database `reservasi`; tests that write want `database`."""
    directory = _new_data_dir()
    server = EmbeddedPostgres(directory, START_TIMEOUT_S)
    try:
        _finish(server.start())
        yield server.dsn
    finally:
        _finish(server.stop())
        _remove(directory)


@pytest.fixture(scope="session")
def upgraded_database(postgres_dsn: str) -> str:
    """The name of a database at the newest schema. Others are copied from it, which takes a tenth of migrating them."""
    _finish(_execute(postgres_dsn, f'CREATE DATABASE "{TEMPLATE}"'))
    _finish(upgrade(_named(postgres_dsn, TEMPLATE)))
    return TEMPLATE


@pytest.fixture
def database(postgres_dsn: str, upgraded_database: str) -> Iterator[str]:
    """The DSN of a fresh database at the newest schema: `postgresql://reservasi@/<name>?host=<directory>`."""
    with _new_database(postgres_dsn, f' TEMPLATE "{upgraded_database}"') as dsn:
        yield dsn


@pytest.fixture
def empty_database(postgres_dsn: str) -> Iterator[str]:
    """The DSN of a fresh database without a schema."""
    with _new_database(postgres_dsn) as dsn:
        yield dsn


@contextmanager
def _new_database(postgres_dsn: str, made_of: str = "") -> Iterator[str]:
    """A database that is dropped afterwards. Copying its files takes less than writing them to the WAL first."""
    name = f"t_{secrets.token_hex(6)}"
    _finish(_execute(postgres_dsn, f'CREATE DATABASE "{name}"{made_of} STRATEGY FILE_COPY'))
    yield _named(postgres_dsn, name)
    _finish(_execute(as_superuser(postgres_dsn), f'DROP DATABASE "{name}" WITH (FORCE)'))


def _named(postgres_dsn: str, name: str) -> str:
    return postgres_dsn.replace("@/reservasi?", f"@/{name}?")


def as_superuser(dsn: str) -> str:
    """Who may end whatever still works in a database, also the server's own vacuum."""
    return dsn.replace("//reservasi@", "//postgres@")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def program() -> str:
    """A program id that no other test has, so that tests share a server and not their data."""
    return f"t-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def nginx_installed() -> None:
    """Skips what needs nginx, but never where CI runs."""
    if nginx_path() is None:
        assert os.environ.get("CI") != "true", "nginx must be installed where CI runs"
        pytest.skip("nginx is not on this machine: apt-get install nginx")
