"""The checker finds each violation that is planted in the ledger or in the database."""

from typing import Any

import pytest

from loadtest.checker.rules import Rule
from reservasi.ledger import keys
from reservasi.ledger.wire.openings import FIELDS
from reservasi.ledger.wire.stored_forms import encode_timer
from tests.integration.checked_run import Plant, Run

STATE = 0  # place in a packed reservation, as lua/shared.lua has it
CAPACITY = 0  # place among a quota's limits


# -- planted in the ledger ---------------------------------------------------------------------------------------


async def oversold(run: Run) -> None:
    await run.change_quota(lambda quota: quota.limits.__setitem__(CAPACITY, 3))


async def miscounted(run: Run, field: str = "held", by: int = 1) -> None:
    await run.change_quota(lambda quota: setattr(quota, field, getattr(quota, field) + by))


async def two_live(run: Run) -> None:
    await run.change(keys.reservations(run.program), run.id(3), lambda record: record.__setitem__(-1, "person-1"))


async def person_unmapped(run: Run) -> None:
    await run.client.hdel(keys.persons(run.program), "person-1")


async def person_mapped_elsewhere(run: Run) -> None:
    await run.client.hset(keys.persons(run.program), "person-1", run.id(2))


async def person_left_over(run: Run) -> None:
    await run.client.hset(keys.persons(run.program), "person-4", run.id(4))


async def deadline_lost(run: Run) -> None:
    timers: Any = await run.client.zrange(keys.timers(run.program), 0, -1)
    (timer,) = (timer for timer in timers if timer.endswith(run.id(3).encode()))
    await run.client.zrem(keys.timers(run.program), timer)


async def deadline_left_over(run: Run) -> None:
    await run.client.zadd(keys.timers(run.program), {encode_timer(1, 1, run.id(1)): 0})


async def reservation_lost(run: Run) -> None:
    await run.client.hdel(keys.reservations(run.program), run.id(1))


async def confirmed_again_held(run: Run) -> None:
    await run.change(keys.reservations(run.program), run.id(2), lambda record: record.__setitem__(STATE, "h"))


async def cancelled_again_confirmed(run: Run) -> None:
    await run.change(keys.reservations(run.program), run.id(4), lambda record: record.__setitem__(STATE, "c"))


async def fenced(run: Run) -> None:
    await run.client.hset(keys.meta(run.program), "run_id", "0" * 40)


async def joined_miscounted(run: Run) -> None:
    joined = 1 + FIELDS.index("joined")
    await run.change(keys.openings(run.program), "p-1", lambda record: record.__setitem__(joined, 0))


# -- planted in the database -------------------------------------------------------------------------------------


async def booking_lost(run: Run) -> None:
    await run.sql("DELETE FROM bookings WHERE program = $1 AND reservation_id = $2", run.program, run.id(1))


async def booking_of_nobody(run: Run) -> None:
    await copy_booking(run, reservation_id="nobody", booking_code="CODE-X")


async def booking_twice(run: Run) -> None:
    await copy_booking(run, reservation_id=run.id(1), booking_code="CODE-X", held_seq=999)


async def code_twice(run: Run) -> None:
    await run.sql("UPDATE bookings SET booking_code = $2 WHERE reservation_id = $1", run.id(2), f"CODE-{run.id(1)}")


async def copy_booking(run: Run, **changes: object) -> None:
    row = await run.database.fetchrow("SELECT * FROM bookings WHERE reservation_id = $1", run.id(1))
    assert row is not None
    values = {**row, **changes}
    places = ", ".join(f"${at}" for at in range(1, len(values) + 1))
    await run.sql(f"INSERT INTO bookings ({', '.join(values)}) VALUES ({places})", *values.values())


async def booking_elsewhere(run: Run) -> None:
    await run.sql("UPDATE bookings SET quota = 'elsewhere' WHERE reservation_id = $1", run.id(1))


async def person_booked_twice(run: Run) -> None:
    await run.sql("DROP INDEX applicants_one_live_reservation")
    await run.sql("UPDATE applicants SET person = 'person-1' WHERE reservation_id = $1", run.id(2))


async def applicant_lost(run: Run) -> None:
    await run.sql("DELETE FROM applicants WHERE reservation_id = $1", run.id(2))


async def booked_miscounted(run: Run) -> None:
    await run.sql("UPDATE quotas SET booked = booked + 1 WHERE id = $1", run.quota)


async def capacity_differs(run: Run) -> None:
    await run.sql("UPDATE quotas SET capacity = capacity + 1 WHERE id = $1", run.quota)


async def hold_lost(run: Run) -> None:
    await run.sql("DELETE FROM holds WHERE reservation_id = $1", run.id(3))


async def journal_entry_lost(run: Run) -> None:
    await run.sql("DELETE FROM journal WHERE program = $1 AND first_seq = 4", run.program)


async def journal_entry_rewritten(run: Run) -> None:
    await run.sql("UPDATE journal SET at_ms = at_ms + 1 WHERE program = $1 AND first_seq = 4", run.program)


async def stream_goes_on(run: Run) -> None:
    """With a copy of its last entry, of which the ledger's position does not tell."""
    entries: Any = await run.client.xrevrange(keys.journal(run.program), count=1)
    ((_, fields),) = entries
    await run.client.xadd(keys.journal(run.program), {**fields, b"first": b"13"}, id="1-13")


async def position_ahead(run: Run) -> None:
    await run.sql("UPDATE positions SET seq = seq + 1 WHERE program = $1", run.program)


async def dead_letter(run: Run) -> None:
    await run.sql(
        "INSERT INTO dead_letters (program, epoch, seq, event, error) VALUES ($1, 1, 7, '{}', 'planted')", run.program
    )


async def opening_row_lost(run: Run) -> None:
    await run.sql("DELETE FROM openings WHERE program = $1", run.program)


async def mark_row_ahead(run: Run) -> None:
    await run.sql("UPDATE openings SET admitted_through = 1 WHERE program = $1", run.program)


PLANTED: list[tuple[Plant, set[Rule]]] = [
    (oversold, {Rule.OVERSOLD, Rule.BOOKED_DIFFERS, Rule.COUNTS_DIFFER, Rule.REPLAY_DIFFERS}),
    (miscounted, {Rule.COUNTS_DIFFER, Rule.REPLAY_DIFFERS}),
    (lambda run: miscounted(run, "confirmed", -1), {Rule.COUNTS_DIFFER, Rule.REPLAY_DIFFERS, Rule.BOOKED_DIFFERS}),
    (lambda run: miscounted(run, "returning", -1), {Rule.COUNTS_DIFFER, Rule.REPLAY_DIFFERS}),
    (
        lambda run: miscounted(run, "held", -2),
        {Rule.OVERSOLD, Rule.BOOKED_DIFFERS, Rule.COUNTS_DIFFER, Rule.REPLAY_DIFFERS},
    ),
    (two_live, {Rule.TWO_LIVE, Rule.PERSONS_DIFFER, Rule.REPLAY_DIFFERS}),
    (person_unmapped, {Rule.PERSONS_DIFFER}),
    (person_mapped_elsewhere, {Rule.PERSONS_DIFFER}),
    (person_left_over, {Rule.PERSONS_DIFFER}),
    (deadline_lost, {Rule.TIMER_DIFFERS}),
    (deadline_left_over, {Rule.TIMER_DIFFERS}),
    (
        reservation_lost,
        {
            Rule.COUNTS_DIFFER,
            Rule.PERSONS_DIFFER,
            Rule.BOOKING_UNKNOWN,
            Rule.REPLAY_DIFFERS,
            Rule.CLAIM_FORGOTTEN,
            Rule.CONFIRMATION_FORGOTTEN,
        },
    ),
    (
        confirmed_again_held,
        {
            Rule.COUNTS_DIFFER,
            Rule.TIMER_DIFFERS,
            Rule.BOOKING_UNKNOWN,
            Rule.HOLD_DIFFERS,
            Rule.REPLAY_DIFFERS,
            Rule.CONFIRMATION_FORGOTTEN,
        },
    ),
    (
        cancelled_again_confirmed,
        {
            Rule.COUNTS_DIFFER,
            Rule.PERSONS_DIFFER,
            Rule.BOOKING_MISSING,
            Rule.REPLAY_DIFFERS,
            Rule.CANCELLATION_FORGOTTEN,
        },
    ),
    (fenced, {Rule.FENCED}),
    (booking_lost, {Rule.BOOKING_MISSING, Rule.BOOKED_DIFFERS, Rule.CONFIRMATION_FORGOTTEN}),
    (booking_of_nobody, {Rule.BOOKING_UNKNOWN, Rule.BOOKED_DIFFERS, Rule.PERSONS_DIFFER}),
    (booking_twice, {Rule.BOOKING_DOUBLED, Rule.BOOKED_DIFFERS, Rule.CONFIRMATION_FORGOTTEN}),
    (code_twice, {Rule.BOOKING_DOUBLED}),
    (booking_elsewhere, {Rule.BOOKING_UNKNOWN, Rule.BOOKED_DIFFERS}),
    (person_booked_twice, {Rule.BOOKING_DOUBLED}),
    (applicant_lost, {Rule.PERSONS_DIFFER}),
    (booked_miscounted, {Rule.BOOKED_DIFFERS}),
    (capacity_differs, {Rule.BOOKED_DIFFERS}),
    (hold_lost, {Rule.HOLD_DIFFERS}),
    (journal_entry_lost, {Rule.JOURNAL_GAP, Rule.REPLAY_DIFFERS}),
    (journal_entry_rewritten, {Rule.JOURNAL_GAP, Rule.TIME_DIFFERS}),
    (stream_goes_on, {Rule.JOURNAL_GAP}),
    (position_ahead, {Rule.POSITION_DIFFERS}),
    (joined_miscounted, {Rule.OPENING_DIFFERS, Rule.REPLAY_DIFFERS}),
    (opening_row_lost, {Rule.OPENING_DIFFERS}),
    (mark_row_ahead, {Rule.OPENING_DIFFERS}),
    (dead_letter, {Rule.DEAD_LETTER}),
]


@pytest.mark.parametrize(("plant", "expected"), PLANTED)
async def test_a_planted_violation_is_named(run: Run, plant: Plant, expected: set[Rule]) -> None:
    await plant(run)
    assert await run.rules() == expected
