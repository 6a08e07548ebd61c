"""Recording: each entry counts once, the database repeats the promises, and a bad event does not stop others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from reservasi.errors import StaleRecorder
from reservasi.events import JournalEntry
from reservasi.model import Position, State
from reservasi.programs.files import read_program

if TYPE_CHECKING:
    from reservasi.records import Recorded, Records
    from tests.integration.conftest import JournalWriter, Tables

PROGRAM = "surabaya"
PROGRAM_FILES = sorted((Path(__file__).parents[2] / "config/programs").glob("*.toml"))


def code(reservation_id: str) -> str:
    return f"CODE-{reservation_id}"


async def record(records: Records, expected: Position | None, *entries: JournalEntry) -> Recorded:
    return await records.record(PROGRAM, expected, entries, booking_code=code)


async def test_a_confirmed_group_is_one_booking_with_its_applicants(
    records: Records, writer: JournalWriter, tables: Tables
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
    assert (quota.booked, quota.version, quota.terms.capacity, quota.terms.date) == (3, 1, 5, "2030-12-01")
    assert await records.count_bookings(PROGRAM) == 1
    assert await tables.rows("SELECT first_seq, last_seq FROM journal ORDER BY 1") == [(1, 2), (3, 3)]


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
    records: Records, writer: JournalWriter, tables: Tables, state: State, at_once: bool
) -> None:
    writer.quota_set("q", 5)
    writer.held("r1", "q", "ani", "budi")
    position = None if at_once else (await record(records, None, writer.entry())).position
    writer.ended("r1", state)
    writer.returned("q", 2)
    recorded = await record(records, position, writer.entry())
    assert recorded.dead == ()
    left = await tables.everything()
    assert (left["holds"], left["bookings"], left["applicants"]) == ([], [], [])


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
async def test_a_cancelled_booking_stays_and_frees_person_and_place(
    records: Records, writer: JournalWriter, tables: Tables, cut: int
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
    assert await tables.rows("SELECT person FROM applicants WHERE live") == [("budi",)]
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


async def test_a_stale_recorder_commits_nothing(records: Records, writer: JournalWriter, tables: Tables) -> None:
    writer.quota_set("q", 5)
    first = writer.entry()
    await record(records, None, first)
    writer.held("r1", "q", "ani")
    second = writer.entry()
    before = await tables.everything()
    behind = msgspec.structs.replace(first.position, seq=0)
    forged = msgspec.structs.replace(first.position, chain="other")
    for expected in (None, behind, forged, second.position):
        with pytest.raises(StaleRecorder):
            await record(records, expected, second)
    assert await tables.everything() == before


async def test_an_epoch_that_was_left_is_not_gone_back_to(
    records: Records, writer: JournalWriter, tables: Tables
) -> None:
    writer.epoch = 2
    writer.quota_set("q", 5)
    first = writer.entry()
    await record(records, None, first)
    writer.held("r1", "q", "ani")
    second = writer.entry()
    writer.epoch = 1
    writer.held("r2", "q", "budi")
    older = writer.entry()
    before = await tables.everything()
    continued = msgspec.structs.replace(older, first_seq=second.first_seq)
    for expected, entries in (
        (None, [older]),  # knows nothing of the second epoch
        (msgspec.structs.replace(first.position, epoch=1), [continued]),  # is still in the first one
        (first.position, [continued]),  # knows where the records are, and reads the wrong journal
        (first.position, [second, older]),
    ):
        with pytest.raises(StaleRecorder):
            await record(records, expected, *entries)
    assert await tables.everything() == before
    await record(records, first.position, second)


async def test_of_many_recorders_with_the_same_entry_one_commits(
    records: Records, writer: JournalWriter, tables: Tables
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
    assert await tables.rows("SELECT count(*), count(DISTINCT reservation_id) FROM bookings") == [(20, 20)]
    assert [quota.booked for quota in await records.quota_rows(PROGRAM)] == [20]


async def test_an_event_that_does_not_fit_lies_in_the_dead_letters_and_the_rest_moves_on(
    records: Records, writer: JournalWriter, tables: Tables
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
    assert await tables.rows("SELECT reservation_id FROM holds") == [("r5",)]
    assert [(quota.booked, quota.terms.capacity) for quota in await records.quota_rows(PROGRAM)] == [(1, 2)]
    reasons = await tables.rows("SELECT error FROM dead_letters WHERE seq IN (4, 10) ORDER BY seq")
    assert "applicants_of_surabaya_program_person" in str(reasons[0])
    assert "quotas_never_oversold" in str(reasons[1])
    assert "ani" not in str(reasons)


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


async def test_staff_are_known_by_the_hash_of_their_key(records: Records, tables: Tables) -> None:
    await records.ping()
    staff_id = await records.add_staff("Sari", "supervisor", "hash 1")
    staff = await records.staff_by_key_hash("hash 1")
    assert staff is not None
    assert (staff.id, staff.name, staff.role) == (staff_id, "Sari", "supervisor")
    assert await records.staff_by_key_hash("hash 2") is None
    assert staff.revoked_at is None
    assert staff.scopes == {"read"}, "a role that nobody knows looks"
    await tables.rows("UPDATE staff SET disabled_at = now()")
    revoked = await records.staff_by_key_hash("hash 1")
    assert revoked is not None
    assert revoked.revoked_at is not None


async def test_what_a_left_lineage_accepted_after_the_branch_is_not_recorded(
    records: Records, writer: JournalWriter, tables: Tables
) -> None:
    assert await records.claim_epoch(PROGRAM, 1, 0, "run 1")
    writer.quota_set("q", 5)
    first = writer.entry()
    await record(records, None, first)
    writer.held("r1", "q", "ani")
    second = writer.entry()
    assert await records.claim_epoch(PROGRAM, 2, first.position.seq, "run 2")
    before = await tables.everything()
    with pytest.raises(StaleRecorder, match="branched off"):
        await record(records, first.position, second)
    assert await tables.everything() == before


async def test_a_lineage_cannot_branch_off_before_what_is_recorded(records: Records, writer: JournalWriter) -> None:
    assert await records.claim_epoch(PROGRAM, 1, 0, "run 1")
    writer.quota_set("q", 5)
    writer.held("r1", "q", "ani")
    entry = writer.entry()
    await record(records, None, entry)
    assert not await records.claim_epoch(PROGRAM, 2, entry.position.seq - 1, "run 2")
    assert await records.claim_epoch(PROGRAM, 2, entry.position.seq, "run 2")
