"""Partitions by program: created at the import without blocking others; nothing is lost before they exist."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import asyncpg
import pytest
from msgspec.structs import replace

from reservasi.errors import ConfigurationError, SchemaMissing
from reservasi.programs.files import read_program
from reservasi.records import Records, bookings, partitions, standing, writes
from reservasi.records.partitions import PARTITIONED, partition
from reservasi.records.roles import FRONT_ROLE, WORKER_ROLE
from reservasi.records.upgrades import upgrade
from tests.integration.conftest import JournalWriter, Tables
from tests.integration.test_records import PROGRAM_FILES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reservasi.events import JournalEntry
    from reservasi.model import Position
    from reservasi.records import Recorded

DEADLINE_S = 60
PROGRAMS = ("surabaya", "batam", "t-1")
WHOLE = read_program(PROGRAM_FILES[0])


async def record(records: Records, program: str, expected: Position | None, *entries: JournalEntry) -> Recorded:
    return await records.record(program, expected, entries, booking_code=str.upper)


def a_booking(writer: JournalWriter, person: str = "ani") -> JournalEntry:
    writer.quota_set("q", 5)
    writer.held("r1", "q", person)
    writer.confirmed("r1")
    return writer.entry()


@pytest.fixture
async def owner(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the tables' owner."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def parts(tables: Tables) -> set[tuple[object, ...]]:
    """Every partition of every table."""
    return set(await tables.rows("SELECT inhparent::regclass::text, inhrelid::regclass::text FROM pg_inherits"
                                 " JOIN pg_class ON oid = inhrelid WHERE relkind = 'r'"))  # fmt: skip


# -- when a program is stored ----------------------------------------------------------------------------------------


async def test_a_program_without_partitions_is_no_dead_letter(records: Records, tables: Tables) -> None:
    writer = JournalWriter()
    entry = a_booking(writer)
    before = await tables.everything()
    with pytest.raises(SchemaMissing, match="import it"):
        await record(records, "new", None, entry)
    assert await tables.everything() == before
    await records.make_room("new")
    assert (await record(records, "new", None, entry)).dead == ()
    assert await records.booking_ids("new") == ["r1"]


@pytest.mark.parametrize("table", PARTITIONED)
async def test_one_partition_that_is_gone_stops_the_recorder(records: Records, tables: Tables, table: str) -> None:
    writer = JournalWriter()
    writer.quota_set("q", 5)
    first = await record(records, "batam", None, writer.entry())
    writer.held("r1", "q", "ani")
    writer.held("r2", "q", "budi")
    writer.confirmed("r2")
    writer.confirmed("unknown")  # what is a dead letter is not what stops it
    entry = writer.entry()
    await tables.rows(f"DROP TABLE {partition(table, 'batam')}")
    before = await tables.everything()
    with pytest.raises(SchemaMissing, match=f"no partition of {table}"):
        await record(records, "batam", first.position, entry)
    assert await tables.everything() == before
    await records.make_room("batam")
    assert len((await record(records, "batam", first.position, entry)).dead) == 1


async def test_a_program_that_is_imported_several_times_at_once_has_its_partitions_once(
    records: Records, tables: Tables
) -> None:
    before = await parts(tables)
    await asyncio.gather(*(records.save_program(replace(WHOLE, id="new")) for _ in range(4)))
    assert await parts(tables) - before == {(table, f"{table}_of_new") for table in PARTITIONED}


async def test_an_import_that_fails_leaves_no_partition(
    records: Records, tables: Tables, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = await parts(tables)
    await owner.execute("CREATE TABLE journal_of_new (kept int)")
    with pytest.raises(ConfigurationError, match="choose another id"):
        await records.save_program(replace(WHOLE, id="new"))
    assert await parts(tables) == before
    assert await records.programs() == []


async def test_an_import_waits_for_no_recorder_and_no_recorder_for_an_import(
    records: Records, owner: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each goes on while the other one's transaction is open; whoever had to wait would run into the timeouts."""
    writer = JournalWriter()
    first = a_booking(writer)
    written = await record(records, "surabaya", None, first)
    recording = owner.transaction()
    await recording.start()
    for table in PARTITIONED:
        await owner.execute(f"INSERT INTO {table} SELECT * FROM {table} WHERE false")
        await owner.execute(f"UPDATE {table} SET program = program")
        await owner.execute(f"DELETE FROM {table} WHERE program = 'surabaya'")
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT_MS", 1000)
    await records.save_program(replace(WHOLE, id="new"))
    await recording.rollback()

    importing = owner.transaction()
    await importing.start()
    await partitions.make_room(owner, "newer")
    writer.held("r2", "q", "budi")
    async with asyncio.timeout(DEADLINE_S):
        assert (await record(records, "surabaya", written.position, writer.entry())).dead == ()
    await importing.commit()
    assert await owner.fetchval("SELECT count(*) FROM bookings_of_newer") == 0


@pytest.mark.parametrize("id_", ["pk", "one-live-reservation", "surabaya-pkey", "x" * 32])
async def test_no_id_makes_the_name_of_another_relation(records: Records, tables: Tables, id_: str) -> None:
    before = await parts(tables)
    await records.make_room(id_)
    assert len(await parts(tables) - before) == len(PARTITIONED)
    names = {name for (name,) in await tables.rows("SELECT relname FROM pg_class")}
    assert {partition(table, id_) for table in PARTITIONED} <= names


# -- what must hold in partitions as in one table --------------------------------------------------------------------


async def test_no_partition_takes_what_belongs_to_no_program(tables: Tables, records: Records) -> None:
    await records.make_room("new")
    bounds = "SELECT count(*) FROM pg_class WHERE pg_get_expr(relpartbound, oid) = 'DEFAULT'"
    assert await tables.rows(bounds) == [(0,)]
    by = "SELECT partrelid::regclass::text, pg_get_partkeydef(partrelid) FROM pg_partitioned_table"
    assert set(await tables.rows(by)) == {(table, "LIST (program)") for table in PARTITIONED}


async def test_every_partition_has_every_rule_of_its_table(tables: Tables, records: Records) -> None:
    await records.make_room("new")
    rules = """
        SELECT parent.relname, part.relname, indisunique, indisprimary, pg_get_indexdef(indexrelid, n, false),
          pg_get_expr(indpred, indrelid)
        FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
        JOIN pg_index ON indrelid = {side} CROSS JOIN generate_series(1, 5) n WHERE part.relkind = 'r' AND indisvalid
    """
    of_tables = await tables.rows(rules.format(side="inhparent"))
    assert set(of_tables) == set(await tables.rows(rules.format(side="inhrelid")))
    assert {row[0] for row in of_tables} == set(PARTITIONED)
    storage = (
        "SELECT DISTINCT attstorage FROM pg_attribute WHERE attname = 'payload' AND attrelid::regclass::text ~ $$^j$$"
    )
    assert await tables.rows(storage) == [(b"e",)]


async def test_a_person_may_have_one_live_reservation_in_each_program(records: Records, tables: Tables) -> None:
    for program in ("surabaya", "batam"):
        writer = JournalWriter()
        first = await record(records, program, None, a_booking(writer))
        assert first.dead == ()
        writer.held("r2", "q", "ani")
        again = await record(records, program, first.position, writer.entry())
        assert [letter.reservation_id for letter in again.dead] == ["r2"]
    assert await tables.rows("SELECT count(*) FROM applicants WHERE person = 'ani' AND live") == [(2,)]


STATEMENTS = {
    name: text
    for module in (writes, standing, bookings)
    for name, text in vars(module).items()
    if isinstance(text, str) and any(re.search(rf"\b{table}\b", text) for table in PARTITIONED) and "$1" in text
}
OVER_ALL_PROGRAMS = {"BOOKING", "HOLD"}  # people who ask by hand name a reservation alone


def test_statements_are_found() -> None:
    assert {
        "END_HOLDS",
        "MOVE_HOLDS",
        "END_BOOKINGS",
        "CONFIRMED",
        "GAPS",
        "PERSONS",
        "COUNT_HOLDS",
    } <= STATEMENTS.keys()


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - OVER_ALL_PROGRAMS))
async def test_a_statement_touches_its_program_alone(
    records: Records, owner: asyncpg.Connection[asyncpg.Record], name: str
) -> None:
    await records.make_room("new")
    text = re.sub(r"\$\d+::", "NULL::", STATEMENTS[name]).replace("$1", "'surabaya'")
    if "r.reservation_id" in text and "FROM holds" not in text and "FROM bookings" not in text:
        pytest.skip("a part of other statements")
    plan = "\n".join(row[0] for row in await owner.fetch("EXPLAIN " + re.sub(r"\$\d+", "NULL", text)))
    assert "_of_batam" not in plan
    assert "_of_new" not in plan


async def test_roles_work_in_partitions_that_are_made_after_they_got_their_rights(database: str) -> None:
    await upgrade(database)
    records = await Records.open(database, 1)
    await records.make_room("new")
    await records.close()
    writer = JournalWriter()
    as_role = {role: database.replace("//reservasi@", f"//{role}@") for role in (WORKER_ROLE, FRONT_ROLE)}
    worker = await Records.open(as_role[WORKER_ROLE], 1)
    assert (await record(worker, "new", None, a_booking(writer))).dead == ()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await worker.make_room("newer")
    await worker.close()
    front = await Records.open(as_role[FRONT_ROLE], 1)
    assert await front.booking_ids("new") == ["r1"]
    await front.close()
    for dsn in as_role.values():
        connection = await asyncpg.connect(dsn)
        for table in PARTITIONED:
            name = partition(table, "new")
            for statement in (
                f"SELECT FROM {name}",
                f"DROP TABLE {name}",
                f"ALTER TABLE {table} DETACH PARTITION {name}",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        await connection.close()
