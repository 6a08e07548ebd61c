"""TLS to Debian's PostgreSQL, and the whole service with both stores over TLS, with passwords and the shipped users."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from loadtest.checker.check import check as check_promises
from loadtest.crowd.crowd import Crowd
from loadtest.crowd.scenario import Plan, Result
from loadtest.stage.ports import free_ports
from loadtest.stage.processes import running
from loadtest.stage.program import program_file
from reservasi.bootstrap.commands import open_operations
from reservasi.cli.findings import server_findings
from reservasi.cli.importing import import_program
from reservasi.embedded.places import DATABASE, ROLE
from reservasi.errors import RecordsUnavailable
from reservasi.ledger.access import ADMIN, FRONT, WORKER
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.records.revision import check
from reservasi.records.roles import RUNTIME_ROLES
from reservasi.records.upgrades import upgrade
from reservasi.settings import Settings
from tests.authority import Authority
from tests.debian import DebianPostgres, DebianRedis, tls_lines
from tests.users import password_of

QUOTAS, PLACES = 2, 5
PEOPLE, AT_ONCE = 16, 4
HOLD_S = 7200
CHECK_TIMEOUT_S = 60.0
UNTRUSTED = "certificate verify failed|CERTIFICATE_VERIFY_FAILED"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
async def postgres(data_dir: Path, authority: Authority) -> AsyncIterator[DebianPostgres]:
    """With the roles and the database of docs/operations/deployment.md; each role's password is its name behind `p@`."""
    (port,) = free_ports(1)
    server = DebianPostgres(data_dir / "postgres", port, authority)
    try:
        await server.start()
        connection = await asyncpg.connect(server.superuser_dsn)
        for role in (ROLE, *RUNTIME_ROLES.values()):
            await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p@{role}'")
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        await connection.close()
        yield server
    finally:
        await server.stop()


def _dsn(postgres: DebianPostgres, authority: Authority, role: str = ROLE) -> str:
    certificate, key = authority.issue(role)
    proof = f"sslmode=verify-full&sslrootcert={authority.ca}&sslcert={certificate}&sslkey={key}"
    return f"postgresql://{role}:p%40{role}@127.0.0.1:{postgres.port}/{DATABASE}?{proof}"


async def test_the_records_over_tls_with_verify_full(
    postgres: DebianPostgres, authority: Authority, tmp_path: Path
) -> None:
    ours = _dsn(postgres, authority)
    assert (await upgrade(ours)).up_to_date
    records = await Records.open(ours, 1)
    await records.ping()
    async with records.lead("p") as lead:
        assert await lead.take()
    await records.close()
    plain = ours.partition("?")[0]
    stranger = Authority(tmp_path, "stranger")
    for refused, why in (
        (ours.replace(str(authority.ca), str(stranger.ca)), UNTRUSTED),
        (f"{plain}?sslmode=verify-full&sslrootcert={authority.ca}", "valid client certificate"),
        (ours.replace("127.0.0.1", "localhost"), UNTRUSTED),  # the certificate is another name's
        (f"{plain}?sslmode=disable", "no encryption"),
        (ours.replace("p%40", "wrong"), "password authentication failed"),
    ):
        with pytest.raises(RecordsUnavailable, match=why):
            await check(refused)
        with pytest.raises(RecordsUnavailable, match=why):
            await Records.open(refused, 1)


async def test_the_service_with_both_stores_over_tls(
    postgres: DebianPostgres, authority: Authority, data_dir: Path, program: str
) -> None:
    (port,) = free_ports(1)
    redis = DebianRedis(data_dir / "redis", further=tls_lines(authority, "redis", port))
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)
    try:
        await redis.start()

        def stores(user: str, role: str) -> dict[str, str]:
            ledger = f"rediss://{user}:{password_of(redis.url, user)}@127.0.0.1:{port}?{authority.proof(user)}"
            return {"redis_url": ledger, "postgres_dsn": _dsn(postgres, authority, role)}

        settings = Settings(data_dir=data_dir).model_copy(update=stores(ADMIN, ROLE))
        await upgrade(settings.postgres_dsn)
        async with open_operations(settings) as operations:
            file = data_dir / f"{program}.toml"
            file.write_text(program_file(QUOTAS, PLACES, day, HOLD_S, program))
            await import_program(operations, read_program(file), day, day, open_now=True, quiet=True)
            assert [each for each in await server_findings(operations) if not each.ok] == []
        as_worker, as_front = stores(WORKER, RUNTIME_ROLES["worker"]), stores(FRONT, RUNTIME_ROLES["front"])
        async with running("worker", settings, **as_worker), running("api", settings, **as_front) as front:
            crowd = Crowd(front.url, Plan(program=program, people=PEOPLE, think_s_max=0.2), at_once=AT_ONCE)
            await asyncio.wait_for(crowd.run(), CHECK_TIMEOUT_S)
        assert crowd.results.total() == PEOPLE
        assert not crowd.results.keys() & {Result.SURPRISED, Result.UNANSWERED, Result.CONFIRMING}
        (finding,) = await check_promises(
            settings.redis_url, settings.postgres_dsn, crowd.history, [program], recorded_timeout_s=CHECK_TIMEOUT_S
        )
        assert finding.violations == ()
        assert finding.booked == finding.confirmed > 0
    finally:
        await redis.stop()
