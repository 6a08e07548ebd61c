"""Recording: each entry counts once, the promises hold in the database too, and one bad event stops nothing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import pytest

from reservasi.errors import StaleRecorder
from reservasi.model import JournalEntry, Position, State
from reservasi.programs.files import read_program

if TYPE_CHECKING:
    from reservasi.records import Recorded, Records
    from tests.integration.conftest import JournalWriter

PROGRAM = "surabaya"
PROGRAM_FILES = sorted((Path(__file__).parents[2] / "config/programs").glob("*.toml"))
TABLES = {
    "quotas": "program, id",
    "holds": "reservation_id",
    "bookings": "reservation_id, held_seq",
    "applicants": "reservation_id, held_seq, position",
    "journal": "first_seq",
}


def code(reservation_id: str) -> str:
    return f"CODE-{reservation_id}"


async def record(records: Records, expected: Position | None, *entries: JournalEntry) -> Recorded:
    return await records.record(PROGRAM, expected, entries, booking_code=code)


async def rows(database: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(database)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def everything(database: str) -> dict[str, list[tuple[object, ...]]]:
    tables = {name: await rows(database, f"SELECT * FROM {name} ORDER BY {order}") for name, order in TABLES.items()}
    tables["positions"] = await rows(database, "SELECT program, epoch, seq, chain FROM positions")
    tables["dead"] = await rows(database, "SELECT seq, reservation_id, event::text FROM dead_letters ORDER BY seq")
    return tables


async def test_a_confirmed_group_is_one_booking_with_its_applicants(
    records: Records, writer: JournalWriter, database: str
) -> None:
    writer.quota_set("q", 5)
    writer.held("r1", "q", "ani", "budi", "citra")
    first = writer.entry()
    recorded = await record(records, None, first)
    assert (recorded.position, recorded.dead) == (first.position, ())
    assert await records.position(PROGRAM) == first.position
    hold = await records.hold("r1")
    assert hold is not None
    assert (hold.persons, hold.places, hold.sealed, hold.seq) == (("ani", "budi", "citra"), 3, "sealed r1", 2)
    assert await records.booking("r1") is None

    writer.confirmed("r1")
    second = writer.entry()
    await record(records, first.position, second)

    assert await records.hold("r1") is None
    booking = await records.booking("r1")
    assert booking is not None
    assert (booking.state, booking.booking_code, booking.payment_reference) == ("confirmed", "CODE-r1", "paid")
    assert (booking.persons, booking.places, booking.quota) == (("ani", "budi", "citra"), 3, "q")
    assert (booking.confirmed_at_ms, booking.seq, booking.sealed) == (second.at_ms, 3, "sealed r1")
    (quota,) = await records.quota_rows(PROGRAM)
    assert (quota.booked, quota.version, quota.terms.capacity, quota.terms.date) == (3, 1, 5, "2026-12-01")
    assert await records.count_bookings(PROGRAM) == 1
    assert await rows(database, "SELECT first_seq, last_seq FROM journal ORDER BY 1") == [(1, 2), (3, 3)]


async def test_what_the_records_say_of_a_quota_is_what_was_set(records: Records, writer: JournalWriter) -> None:
    writer.quota_set("q", 5)
    (event,) = writer.events
    terms = msgspec.structs.replace(event.terms, closed=True, opens_at_ms=7, cancel_until_ms=2**53 - 1, date="")  # type: ignore[union-attr]
    writer.events = [msgspec.structs.replace(event, terms=terms)]
    await record(records, None, writer.entry())
    (quota,) = await records.quota_rows(PROGRAM)
    assert quota.terms == terms


@pytest.mark.parametrize("state", [State.RELEASED, State.EXPIRED])
@pytest.mark.parametrize("at_once", [True, False])
async def test_an_ended_hold_leaves_no_row(
    records: Records, writer: JournalWriter, database: str, state: State, at_once: bool
) -> None:
    writer.quota_set("q", 5)
    writer.held("r1", "q", "ani", "budi")
    position = None if at_once else (await record(records, None, writer.entry())).position
    writer.ended("r1", state)
    writer.returned("q", 2)
    recorded = await record(records, position, writer.entry())
    assert recorded.dead == ()
    tables = await everything(database)
    assert (tables["holds"], tables["bookings"], tables["applicants"]) == ([], [], [])


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
async def test_a_cancelled_booking_stays_and_frees_person_and_place(
    records: Records, writer: JournalWriter, database: str, cut: int
) -> None:
    entries: list[JournalEntry] = []

    def may_close(step: int) -> None:
        if step == cut:
            entries.append(writer.entry())

    writer.quota_set("q", 2)
    writer.held("r1", "q", "ani", "budi")
    may_close(1)
    writer.confirmed("r1")
    may_close(2)
    writer.ended("r1", State.CANCELLED)
    may_close(3)
    writer.held("r2", "q", "budi")
    entries.append(writer.entry())

    position = None
    for entry in entries:
        recorded = await record(records, position, entry)
        position = recorded.position
        assert recorded.dead == ()

    booking = await records.booking("r1")
    assert booking is not None
    assert (booking.state, booking.persons) == ("cancelled", ("ani", "budi"))
    assert booking.returns_at_ms > 0
    assert await rows(database, "SELECT person FROM applicants WHERE live") == [("budi",)]
    assert [quota.booked for quota in await records.quota_rows(PROGRAM)] == [0]
    assert await records.count_bookings(PROGRAM, "cancelled") == 1
    assert await records.booking_ids(PROGRAM) == []


async def test_an_id_that_is_used_again_after_its_end_is_a_second_booking(
    records: Records, writer: JournalWriter
) -> None:
    writer.quota_set("q", 2)
    position = None
    for _ in range(2):
        writer.held("r1", "q", "ani")
        writer.confirmed("r1")
        recorded = await record(records, position, writer.entry())
        writer.ended("r1", State.CANCELLED)
        recorded = await record(records, recorded.position, writer.entry())
        assert recorded.dead == ()
        position = recorded.position
    writer.held("r1", "q", "ani")
    writer.confirmed("r1")
    await record(records, position, writer.entry())
    booking = await records.booking("r1")
    assert booking is not None
    assert (booking.state, booking.persons) == ("confirmed", ("ani",))
    assert await records.count_bookings(PROGRAM) == 3
    assert await records.booking_ids(PROGRAM) == ["r1"]


async def test_a_stale_recorder_commits_nothing(records: Records, writer: JournalWriter, database: str) -> None:
    writer.quota_set("q", 5)
    first = writer.entry()
    await record(records, None, first)
    writer.held("r1", "q", "ani")
    second = writer.entry()
    before = await everything(database)
    behind = msgspec.structs.replace(first.position, seq=0)
    forged = msgspec.structs.replace(first.position, chain="other")
    for expected in (None, behind, forged, second.position):
        with pytest.raises(StaleRecorder):
            await record(records, expected, second)
    assert await everything(database) == before


async def test_of_many_recorders_with_the_same_entry_one_commits(
    records: Records, writer: JournalWriter, database: str
) -> None:
    writer.quota_set("q", 50)
    position = None
    for number in range(20):
        writer.held(f"r{number}", "q", f"person {number}")
        writer.confirmed(f"r{number}")
        entry = writer.entry()
        results = await asyncio.gather(*(record(records, position, entry) for _ in range(4)), return_exceptions=True)
        assert sum(isinstance(result, StaleRecorder) for result in results) == 3
        position = entry.position
    assert await rows(database, "SELECT count(*), count(DISTINCT reservation_id) FROM bookings") == [(20, 20)]
    assert [quota.booked for quota in await records.quota_rows(PROGRAM)] == [20]


async def test_an_event_that_does_not_fit_lies_in_the_dead_letters_and_the_rest_moves_on(
    records: Records, writer: JournalWriter, database: str
) -> None:
    writer.quota_set("q", 2)
    writer.held("r1", "q", "ani")
    await record(records, None, writer.entry())
    position = writer.position

    writer.confirmed("unknown")  # seq 3: nobody held it
    writer.held("r2", "q", "ani")  # 4: ani has a live reservation
    writer.held("r3", "nowhere", "budi")  # 5: no such quota
    writer.held("r4", "q", "citra")
    writer.confirmed("r4")
    writer.confirmed("r4")  # 8: twice
    writer.held("r5", "q", "dewi", "eka")
    writer.confirmed("r5")  # 10: would oversell
    writer.held("r6\x00", "q", "fajar")  # 11: no text for PostgreSQL
    writer.quota_set("q", 0)  # 12: below what is booked
    writer.ended("r1", State.CANCELLED)  # 13: it is only held
    writer.ended("r1", State.RELEASED)
    entry = writer.entry()
    recorded = await record(records, position, entry)

    assert [(letter.seq, letter.reservation_id) for letter in recorded.dead] == [
        (3, "unknown"),
        (4, "r2"),
        (5, "r3"),
        (8, "r4"),
        (10, "r5"),
        (11, "r6\x00"),
        (12, None),
        (13, "r1"),
    ]
    assert recorded.position == entry.position == await records.position(PROGRAM)
    assert await records.dead_letter_count(PROGRAM) == 8
    assert sorted(await records.dead_reservations(PROGRAM)) == ["r1", "r2", "r3", "r4", "r5", "r6\\x00", "unknown"]
    assert await records.booking_ids(PROGRAM) == ["r4"]
    assert await rows(database, "SELECT reservation_id FROM holds") == [("r5",)]
    assert [(quota.booked, quota.terms.capacity) for quota in await records.quota_rows(PROGRAM)] == [(1, 2)]
    reasons = await rows(database, "SELECT error FROM dead_letters WHERE seq IN (4, 10) ORDER BY seq")
    assert "applicants_one_live_reservation" in str(reasons[0])
    assert "quotas_never_oversold" in str(reasons[1])
    assert "ani" not in str(reasons)


class History:
    """Random histories that a ledger could have accepted."""

    def __init__(self, seed: int, writer: JournalWriter) -> None:
        self.random = random.Random(seed)
        self.writer = writer
        self.free = {f"q{number}": self.random.randint(1, 12) for number in range(3)}
        self.live: dict[str, tuple[State, str, tuple[str, ...]]] = {}
        self.persons = [f"person {number}" for number in range(12)]
        self.claims = 0
        for quota, capacity in self.free.items():
            writer.quota_set(quota, capacity)

    def step(self) -> None:
        if self.live and self.random.random() < 0.6:
            self.change(self.random.choice(sorted(self.live)))
        elif self.random.random() < 0.05:
            quota = self.random.choice(sorted(self.free))
            taken = sum(len(persons) for _, of, persons in self.live.values() if of == quota)
            capacity = taken + self.random.randint(0, 6)
            self.free[quota] = capacity - taken
            self.writer.quota_set(quota, capacity)
        else:
            self.claim()

    def claim(self) -> None:
        busy = {person for _, _, persons in self.live.values() for person in persons}
        able = [person for person in self.persons if person not in busy]
        quota = self.random.choice(sorted(self.free))
        places = min(len(able), self.free[quota], self.random.randint(1, 5))
        if not places:
            return
        persons = tuple(self.random.sample(able, places))
        self.claims += 1
        reservation_id = f"r{self.claims:04d}"
        self.writer.held(reservation_id, quota, *persons)
        self.live[reservation_id] = (State.HELD, quota, persons)
        self.free[quota] -= places

    def change(self, reservation_id: str) -> None:
        state, quota, persons = self.live[reservation_id]
        if state is State.HELD and self.random.random() < 0.6:
            self.writer.confirmed(reservation_id)
            self.live[reservation_id] = (State.CONFIRMED, quota, persons)
            return
        ends = [State.CANCELLED] if state is State.CONFIRMED else [State.RELEASED, State.EXPIRED]
        self.writer.ended(reservation_id, self.random.choice(ends))
        del self.live[reservation_id]
        self.free[quota] += len(persons)
        if self.random.random() < 0.5:
            self.writer.returned(quota, len(persons))

    def entries(self, events: int) -> list[JournalEntry]:
        found = []
        for _ in range(events):
            self.step()
            if self.writer.events and self.random.random() < 0.2:
                found.append(self.writer.entry())
        return [*found, self.writer.entry()] if self.writer.events else found


async def empty(database: str) -> None:
    await rows(database, f"TRUNCATE {', '.join(TABLES)}, positions, dead_letters")


@pytest.mark.parametrize("seed", range(12))
async def test_however_a_history_is_cut_the_tables_end_the_same(
    records: Records, writer: JournalWriter, database: str, seed: int
) -> None:
    writer.confirmed("unknown")  # a dead letter: with it in the batch, every event is applied by itself
    poison = writer.entry()
    history = History(seed, writer)
    entries = history.entries(300)

    first = await record(records, None, poison)
    at_once = await record(records, first.position, *entries)
    assert (len(first.dead), at_once.dead) == (1, ())
    wanted = await everything(database)
    assert len(wanted["bookings"]) > 10
    live = {row[0] for row in await rows(database, "SELECT DISTINCT reservation_id FROM applicants WHERE live")}
    assert live == history.live.keys()
    confirmed = [id_ for id_, (state, _, _) in sorted(history.live.items()) if state is State.CONFIRMED]
    assert await records.booking_ids(PROGRAM) == confirmed

    await empty(database)
    one_by_one = await record(records, None, poison, *entries)
    assert [letter.seq for letter in one_by_one.dead] == [1]
    assert await everything(database) == wanted

    await empty(database)
    position = (await record(records, None, poison)).position
    while entries:
        count = history.random.randint(1, 5)
        batch, entries = entries[:count], entries[count:]
        position = (await record(records, position, *batch)).position
    assert await everything(database) == wanted


async def test_programs_do_not_touch_each_other(records: Records, writer: JournalWriter) -> None:
    writer.quota_set("q", 5)
    writer.held("r1", "q", "ani")
    mine = writer.entry()
    await record(records, None, mine)
    writer.confirmed("r1")
    foreign = await records.record("batam", None, [writer.entry()], booking_code=code)
    assert [letter.reservation_id for letter in foreign.dead] == ["r1"]  # not theirs to confirm
    assert await records.hold("r1") is not None
    assert await records.position(PROGRAM) == mine.position


async def test_programs_are_stored_whole_and_replaced_by_id(records: Records) -> None:
    shipped = [read_program(path) for path in PROGRAM_FILES]
    assert len(shipped) >= 3
    for program in reversed(shipped):
        await records.save_program(program)
    assert await records.programs() == sorted(shipped, key=lambda program: program.id)

    changed = msgspec.structs.replace(shipped[0], demo=not shipped[0].demo)
    await records.save_program(changed)
    await records.save_program(changed)
    assert changed in await records.programs()
    assert len(await records.programs()) == len(shipped)


async def test_staff_are_known_by_the_hash_of_their_key(records: Records, database: str) -> None:
    await records.ping()
    staff_id = await records.add_staff("Sari", "supervisor", "hash 1")
    found = await records.staff_by_key_hash("hash 1")
    assert found is not None
    assert (found.id, found.name, found.role) == (staff_id, "Sari", "supervisor")
    assert await records.staff_by_key_hash("hash 2") is None
    await rows(database, "UPDATE staff SET disabled_at = now()")
    assert await records.staff_by_key_hash("hash 1") is None
