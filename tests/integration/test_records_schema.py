"""The migrations create the schema of the code, also from several processes at once."""

import asyncio
import time

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine

from reservasi.errors import RecordsUnavailable, SchemaMissing
from reservasi.records import Records, upgrades
from reservasi.records.partitions import SCHEMA_KEY
from reservasi.records.revision import check
from reservasi.records.schema import metadata
from reservasi.records.upgrades import upgrade


@pytest.fixture
def database(empty_database: str) -> str:
    """These tests bring the schema themselves."""
    return empty_database


async def test_an_empty_database_is_brought_up_to_date_once(database: str) -> None:
    before = await check(database)
    assert (before.current, before.up_to_date) == ("", False)

    states = await asyncio.gather(*(upgrade(database) for _ in range(6)))

    assert {state.up_to_date for state in states} == {True}
    assert await check(database) == states[0]
    assert await upgrade(database) == states[0]  # nothing to do


def _differences(connection: Connection) -> list[object]:
    differences: list[object] = list(compare_metadata(MigrationContext.configure(connection), metadata))
    inspector = inspect(connection)
    for table in metadata.sorted_tables:
        wanted = {str(c.name) for c in table.constraints if isinstance(c, CheckConstraint)}
        existing = {str(c["name"]) for c in inspector.get_check_constraints(table.name)}
        differences += [(table.name, name) for name in wanted ^ existing]
    return differences


async def test_the_migrations_make_what_the_schema_says(database: str) -> None:
    await upgrade(database)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(database))
    async with engine.connect() as connection:
        assert await connection.run_sync(_differences) == []
    await engine.dispose()


async def test_a_schema_of_a_later_version_stays_as_it_is(database: str) -> None:
    """So that this version can be gone back to: an upgrade by it changes nothing, and says so."""
    await upgrade(database)
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    for state in (await upgrade(database), await check(database)):
        assert (state.current, state.up_to_date, state.newer) == ("9999", False, True)


async def test_an_upgrade_gives_up_rather_than_wait_for_ever(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrades, "TURN_TIMEOUT_MS", 100)
    other = await asyncpg.connect(database)
    await other.execute("SELECT pg_advisory_lock($1)", SCHEMA_KEY)
    started_s = time.monotonic()
    with pytest.raises(RecordsUnavailable, match="timeout"):
        await upgrade(database)
    assert time.monotonic() - started_s < 10
    await other.close()
    assert (await upgrade(database)).up_to_date


async def test_a_missing_table_or_column_is_told_from_a_lost_server(database: str) -> None:
    records = await Records.open(database, 1)
    with pytest.raises(SchemaMissing, match="db upgrade"):
        await records.position("surabaya")
    await upgrade(database)
    assert await records.position("surabaya") is None
    owner = await asyncpg.connect(database)
    await owner.execute("ALTER TABLE positions DROP COLUMN chain")
    await owner.close()
    with pytest.raises(SchemaMissing, match="chain"):
        await records.position("surabaya")
    await records.close()


async def test_without_a_server_the_records_are_unavailable(database: str) -> None:
    nowhere = "postgresql://reservasi@/reservasi?host=/nonexistent"
    for attempt in (check(nowhere), upgrade(nowhere), Records.open(nowhere, 1)):
        with pytest.raises(RecordsUnavailable) as raised:
            await attempt
        assert not isinstance(raised.value, SchemaMissing)
    with pytest.raises(RecordsUnavailable):
        await check(database.replace("@/", "@/no_such_"))
