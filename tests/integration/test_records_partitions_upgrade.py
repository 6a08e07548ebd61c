"""Upgrades from unpartitioned tables keep every row, also if they are interrupted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic import command

from reservasi.errors import RecordsUnavailable
from reservasi.events import JournalEntry
from reservasi.model import Position
from reservasi.programs.files import read_program
from reservasi.records import Recorded, Records, upgrades
from reservasi.records.partitions import PARTITIONED, partition
from reservasi.records.revision import check
from reservasi.records.upgrades import upgrade
from tests.integration.conftest import JournalWriter, Tables
from tests.integration.test_records import PROGRAM_FILES
from tests.integration.test_records_histories import History

DEADLINE_S = 60
PROGRAMS = ("surabaya", "batam", "t-1")
WHOLE = read_program(PROGRAM_FILES[0])


async def record(records: Records, program: str, expected: Position | None, *entries: JournalEntry) -> Recorded:
    return await records.record(program, expected, entries, booking_code=str.upper)


@pytest.fixture
def database(empty_database: str) -> str:
    """These tests bring the schema themselves."""
    return empty_database


@pytest.fixture
async def owner(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the tables' owner."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def before_partitions(database: str) -> None:
    """The schema as it was."""
    async with upgrades._connection(database) as connection:
        await connection.run_sync(lambda sync: command.upgrade(upgrades._config(sync), "0002"))
        await connection.commit()


async def columns(database: str) -> dict[str, list[str]]:
    """The columns of each table."""
    query = """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY table_name, ordinal_position
    """
    names: dict[str, list[str]] = {}
    for table, column in await Tables(database).rows(query):
        names.setdefault(str(table), []).append(str(column))
    return names


async def copy_rows(source: str, target: str) -> None:
    """Bring the rows of one database into another one, in the columns that it has."""
    reading, writing = await asyncpg.connect(source), await asyncpg.connect(target)
    for table, names in (await columns(target)).items():
        if table == "programs":  # an upgrade finds those that have rows
            continue
        rows = await reading.fetch(f"SELECT {', '.join(names)} FROM {table}")
        await writing.copy_records_to_table(table, records=[tuple(row) for row in rows], columns=names)
    await writing.execute("SELECT setval(pg_get_serial_sequence('dead_letters', 'id'), max(id)) FROM dead_letters")
    await reading.close()
    await writing.close()


async def histories(database: str) -> list[JournalWriter]:
    """What recording leaves in a database without partitions: of three programs, and a fourth that is only stored.

    Recording itself needs today's tables, so it is done in another database.
    """
    await before_partitions(database)
    name = urlsplit(database).path.removeprefix("/")
    today = database.replace(f"/{name}", f"/{name}_today", 1)
    connection = await asyncpg.connect(database)
    await connection.execute(f'CREATE DATABASE "{name}_today"')
    await upgrade(today)
    await Tables(today).rows(f"INSERT INTO programs (id, spec) SELECT unnest(ARRAY{list(PROGRAMS)}), '{{}}'")
    await upgrade(today)  # makes their partitions
    records = await Records.open(today, 1)
    writers = []
    for seed, program in enumerate(PROGRAMS):
        writer = JournalWriter()
        entries = History(seed, writer, ids=program).entries(200)
        writer.quota_set("q", 5)
        for person in range(3):
            writer.held(f"{program}-held-{person}", "q", f"waiting {person}")
        writer.held("dead", "nowhere", "nobody")
        recorded = await record(records, program, None, *entries, writer.entry())
        assert len(recorded.dead) == 1
        writers.append(writer)
    await records.close()
    await copy_rows(today, database)
    await connection.execute(f'DROP DATABASE "{name}_today"')
    await connection.execute("INSERT INTO programs (id, spec) VALUES ('stored-only', '{}')")
    await connection.close()
    return writers


async def all_rows(database: str, columns_of: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
    """Every row in the columns that are known, in an order that does not depend on where it lies."""
    tables = Tables(database)
    return {
        name: sorted(await tables.rows(f"SELECT {', '.join(names)} FROM {name}"), key=repr)
        for name, names in columns_of.items()
    }


async def parts(tables: Tables) -> set[tuple[object, ...]]:
    """Every partition of every table."""
    return set(await tables.rows("SELECT inhparent::regclass::text, inhrelid::regclass::text FROM pg_inherits"
                                 " JOIN pg_class ON oid = inhrelid WHERE relkind = 'r'"))  # fmt: skip


async def test_an_upgrade_keeps_every_row_and_recording_goes_on(database: str, tables: Tables) -> None:
    writers = await histories(database)
    columns_of = await columns(database)
    before = await all_rows(database, columns_of)
    assert min(len(before[name]) for name in PARTITIONED) >= 9

    states = await asyncio.gather(*(upgrade(database) for _ in range(3)))
    assert {state.up_to_date for state in states} == {True}

    assert await all_rows(database, columns_of) == before
    assert len(await parts(tables)) == len(PARTITIONED) * (len(PROGRAMS) + 1)
    for program in PROGRAMS:
        for table in PARTITIONED:
            name = partition(table, program)
            assert await tables.rows(f'SELECT DISTINCT program FROM "{name}"') in ([(program,)], [])
    assert await tables.rows("SELECT relname FROM pg_class WHERE relname LIKE 'old%'") == []

    records = await Records.open(database, 1)
    for program, writer in zip(PROGRAMS, writers, strict=True):
        position = writer.position
        writer.quota_set("new", 5)
        writer.held("another", "new", "somebody")
        writer.confirmed("another")
        writer.held("of one who has one", "new", "somebody")
        recorded = await record(records, program, position, writer.entry())
        assert [letter.reservation_id for letter in recorded.dead] == ["of one who has one"]
        assert "another" in await records.booking_ids(program)
    await records.close()


async def waits(connection: asyncpg.Connection[asyncpg.Record], statement: str) -> int:
    """The process that waits in a statement like this."""
    deadline_s = time.monotonic() + DEADLINE_S
    query = """
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1 AND pid <> pg_backend_pid()
    """
    while (pid := await connection.fetchval(query, f"%{statement}%")) is None:
        assert time.monotonic() < deadline_s, "nobody waits"
        await asyncio.sleep(0.01)
    return int(pid)


async def test_an_upgrade_that_is_cut_off_halfway_has_changed_nothing(
    database: str, tables: Tables, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    await histories(database)
    columns_of = await columns(database)
    before = await all_rows(database, columns_of)
    in_the_way = owner.transaction()
    await in_the_way.start()
    await owner.execute("CREATE TABLE bookings_of_surabaya (a int)")  # holds are copied by then

    upgrading = asyncio.create_task(upgrade(database))
    other = await asyncpg.connect(database)
    await other.execute("SELECT pg_terminate_backend($1)", await waits(other, "bookings_of_"))
    await other.close()
    with pytest.raises(RecordsUnavailable):
        await upgrading
    await in_the_way.rollback()

    assert (await check(database)).current == "0002"
    assert await all_rows(database, columns_of) == before
    assert await parts(tables) == set()
    assert (await upgrade(database)).up_to_date
    assert await all_rows(database, columns_of) == before


async def test_an_upgrade_makes_the_partitions_that_an_older_version_did_not(
    database: str, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    await upgrade(database)
    await owner.execute("INSERT INTO programs (id, spec) VALUES ('imported-by-another', '{}')")
    await upgrade(database)
    await upgrade(database)
    for table in PARTITIONED:
        assert await owner.fetchval(f'SELECT count(*) FROM "{partition(table, "imported-by-another")}"') == 0
