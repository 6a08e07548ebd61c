"""Writes the net effect of a batch: each table at most once, ends before new holds, with the number of rows checked.

In this order, the index "one live reservation per person" never sees both the old and the new row. Every statement must
touch exactly as many rows as the effects name; fewer rows mean that a change had nothing to apply to.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import TypeAlias

from reservasi.events import Held
from reservasi.model import QuotaTerms, State
from reservasi.records.audit import write_audit
from reservasi.records.effects import Effects, Life, QuotaChange, Unapplicable
from reservasi.records.openings import retire_openings, write_openings
from reservasi.records.pool import Connection

BookingCode = Callable[[str], str]
Row: TypeAlias = tuple[str | int, ...]
NewRows: TypeAlias = dict[str, tuple[Sequence[str], list[Row]]]  # table -> its columns and rows

END_HOLDS = """
DELETE FROM holds h USING unnest($2::text[], $3::text[], $4::int[]) AS c(reservation_id, quota, places)
WHERE h.reservation_id = c.reservation_id AND h.program = $1 AND h.quota = c.quota AND h.places = c.places
"""
REMOVE_APPLICANTS = "DELETE FROM applicants WHERE reservation_id = ANY($2::text[]) AND live AND program = $1"
END_APPLICANTS = "UPDATE applicants SET live = false WHERE reservation_id = ANY($2::text[]) AND live AND program = $1"
END_BOOKINGS = """
UPDATE bookings b SET state = c.state, ended_at_ms = c.ended_at_ms, returns_at_ms = c.returns_at_ms,
  epoch = c.epoch, seq = c.seq
FROM unnest($2::text[], $3::text[], $4::int[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
  AS c(reservation_id, quota, places, state, ended_at_ms, returns_at_ms, epoch, seq)
WHERE b.reservation_id = c.reservation_id AND b.state = 'confirmed' AND b.retired_at_ms = 0 AND b.program = $1
  AND b.quota = c.quota AND b.places = c.places
"""
RETIRE_BOOKINGS = """
UPDATE bookings b SET retired_at_ms = c.retired_at_ms, epoch = c.epoch, seq = c.seq
FROM unnest($2::text[], $3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[])
  AS c(reservation_id, quota, places, retired_at_ms, epoch, seq)
WHERE b.reservation_id = c.reservation_id AND b.state = 'confirmed' AND b.retired_at_ms = 0 AND b.program = $1
  AND b.quota = c.quota AND b.places = c.places
"""
MOVE_HOLDS = """
WITH moved AS (
  DELETE FROM holds h
  USING unnest($2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[])
    AS c(reservation_id, quota, places, booking_code, payment_reference, confirmed_at_ms, epoch, seq)
  WHERE h.reservation_id = c.reservation_id AND h.program = $1 AND h.quota = c.quota AND h.places = c.places
  RETURNING h.reservation_id, h.epoch AS held_epoch, h.seq AS held_seq, h.quota, h.places, h.deadline_ms,
    h.fingerprint, h.sealed, h.held_at_ms, c.booking_code, c.payment_reference, c.confirmed_at_ms, c.epoch, c.seq
)
INSERT INTO bookings (program, reservation_id, held_epoch, held_seq, quota, places, deadline_ms, fingerprint, sealed,
  held_at_ms, booking_code, payment_reference, confirmed_at_ms, epoch, seq, state, ended_at_ms, returns_at_ms)
SELECT $1, *, 'confirmed', 0, 0 FROM moved
"""
NEW_HOLDS = (
    "program",
    "reservation_id",
    "quota",
    "places",
    "deadline_ms",
    "fingerprint",
    "sealed",
    "held_at_ms",
    "epoch",
    "seq",
)
NEW_BOOKINGS = (
    *NEW_HOLDS[:-2],
    "held_epoch",
    "held_seq",
    "booking_code",
    "payment_reference",
    "state",
    "confirmed_at_ms",
    "ended_at_ms",
    "returns_at_ms",
    "retired_at_ms",
    "epoch",
    "seq",
)
NEW_APPLICANTS = ("program", "reservation_id", "held_epoch", "held_seq", "position", "person", "live")
NEW_QUOTAS = """
INSERT INTO quotas (program, id, office, service, channel, slot_date, slot_start, slot_end, capacity, opens_at_ms,
  closes_at_ms, cancel_until_ms, hold_ms, return_min_ms, return_max_ms, closed, version, imported)
SELECT $1, id, office, service, channel, nullif(slot_date, '')::date, slot_start, slot_end, capacity, opens_at_ms,
  closes_at_ms, cancel_until_ms, hold_ms, return_min_ms, return_max_ms, closed, version, imported::bigint[]
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[],
  $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bool[], $17::bigint[],
  $18::text[])
  AS c(id, office, service, channel, slot_date, slot_start, slot_end, capacity, opens_at_ms, closes_at_ms,
    cancel_until_ms, hold_ms, return_min_ms, return_max_ms, closed, version, imported)
ON CONFLICT (program, id) DO NOTHING
"""
# Terms and count change in one statement: the check against overselling needs to hold only for the result.
SET_QUOTAS = """
UPDATE quotas q SET office = c.office, service = c.service, channel = c.channel,
  slot_date = nullif(c.slot_date, '')::date, slot_start = c.slot_start, slot_end = c.slot_end, capacity = c.capacity,
  opens_at_ms = c.opens_at_ms, closes_at_ms = c.closes_at_ms, cancel_until_ms = c.cancel_until_ms, hold_ms = c.hold_ms,
  return_min_ms = c.return_min_ms, return_max_ms = c.return_max_ms, closed = c.closed, version = c.version,
  imported = c.imported::bigint[], booked = q.booked + c.booked_delta,
  retired_at_ms = c.retired_at_ms
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[],
  $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bool[],
  $17::bigint[], $18::text[], $19::int[], $20::bigint[])
  AS c(id, office, service, channel, slot_date, slot_start, slot_end, capacity, opens_at_ms, closes_at_ms,
    cancel_until_ms, hold_ms, return_min_ms, return_max_ms, closed, version, imported, booked_delta, retired_at_ms)
WHERE q.program = $1 AND q.id = c.id
"""
COUNT_BOOKED = """
UPDATE quotas q SET booked = q.booked + c.booked_delta
FROM unnest($2::text[], $3::int[]) AS c(id, booked_delta)
WHERE q.program = $1 AND q.id = c.id AND q.retired_at_ms = 0
"""
RETIRE_QUOTAS = """
UPDATE quotas q SET booked = q.booked + c.booked_delta, retired_at_ms = c.retired_at_ms
FROM unnest($2::text[], $3::int[], $4::bigint[]) AS c(id, booked_delta, retired_at_ms)
WHERE q.program = $1 AND q.id = c.id AND q.retired_at_ms = 0
"""
_ID = attrgetter("reservation_id")
KNOWN_QUOTAS = "SELECT count(*) FROM quotas WHERE program = $1 AND id = ANY($2::text[]) AND retired_at_ms = 0"


async def apply_effects(
    connection: Connection, program: str, effects: Effects, new: NewRows, booking_code: BookingCode
) -> None:
    """Write all tables except position and journal; `new` are the rows that `new_rows` made of the effects.

    Raises:
        Unapplicable: a row was missing; the caller rolls back.
        asyncpg.PostgresError: a constraint would be violated.
    """
    await _end_holds(connection, program, effects.ended_holds)
    await _move_holds(connection, program, effects.moved, booking_code)
    await _end_bookings(connection, program, [*effects.ended_bookings, *effects.ended_at_once])
    await _retire_bookings(connection, program, effects.retired)
    await _write_new(connection, new)
    await _write_quotas(connection, program, effects)
    await retire_openings(connection, program, effects.retired_openings)
    await write_openings(connection, program, effects.openings.values())
    await write_audit(connection, program, effects.named)


async def _expect(connection: Connection, rows: int, statement: str, program: str, *columns: Sequence[object]) -> None:
    done = await connection.execute(statement, program, *columns)  # such as "INSERT 0 12" or "UPDATE 12"
    if int(done.rsplit(" ", 1)[1]) != rows:
        raise Unapplicable("no recorded row fits this change")


async def _end_holds(connection: Connection, program: str, lives: Sequence[Life]) -> None:
    if lives:
        ids, quotas, places = _identity(lives)
        await _expect(connection, len(lives), END_HOLDS, program, ids, quotas, places)
        await _expect(connection, sum(places), REMOVE_APPLICANTS, program, ids)


async def _move_holds(connection: Connection, program: str, lives: Sequence[Life], booking_code: BookingCode) -> None:
    """Turn holds into bookings; those that were also cancelled in the batch are ended afterwards."""
    if lives:
        codes = [booking_code(life.reservation_id) for life in lives]
        references = [life.confirmed.payment_reference for life in lives if life.confirmed]
        times = [life.confirmed_at_ms for life in lives]
        columns = (*_identity(lives), codes, references, times, *_change(lives))
        await _expect(connection, len(lives), MOVE_HOLDS, program, *columns)


async def _end_bookings(connection: Connection, program: str, lives: Sequence[Life]) -> None:
    if lives:
        ids, quotas, places = _identity(lives)
        states = [life.state for life in lives]
        columns = (ids, quotas, places, states, *_end_times(lives), *_change(lives))
        await _expect(connection, len(lives), END_BOOKINGS, program, *columns)
        await _expect(connection, sum(places), END_APPLICANTS, program, ids)


async def _retire_bookings(connection: Connection, program: str, lives: Sequence[Life]) -> None:
    """Retire bookings: they stay confirmed, and their people may book again, since the date has passed."""
    if lives:
        ids, quotas, places = _identity(lives)
        columns = (ids, quotas, places, [life.ended_at_ms for life in lives], *_change(lives))
        await _expect(connection, len(lives), RETIRE_BOOKINGS, program, *columns)
        await _expect(connection, sum(places), END_APPLICANTS, program, ids)


def new_rows(program: str, effects: Effects, booking_code: BookingCode) -> NewRows:
    """The rows that a batch adds, built before the transaction.

    Sorted by key: inserting neighbouring keys into an index is cheaper than inserting them in the order of a hash.
    """
    holds, bookings = (sorted(lives, key=_ID) for lives in (effects.new_holds, effects.new_bookings))
    return {
        "holds": (NEW_HOLDS, [_hold_row(program, life, life.held) for life in holds if life.held]),
        "bookings": (
            NEW_BOOKINGS,
            [_booking_row(program, life, life.held, booking_code) for life in bookings if life.held],
        ),
        "applicants": (
            NEW_APPLICANTS,
            [
                (program, life.reservation_id, life.held_epoch, life.held.seq, position, person, life.ended is None)
                for life in chain(holds, bookings)
                if life.held
                for position, person in enumerate(life.held.persons)
            ],
        ),
    }


def _hold_row(program: str, life: Life, held: Held) -> Row:
    return (
        program,
        life.reservation_id,
        life.quota,
        life.places,
        held.deadline_ms,
        held.fingerprint,
        held.sealed,
        life.held_at_ms,
        life.epoch,
        life.seq,
    )


def _booking_row(program: str, life: Life, held: Held, booking_code: BookingCode) -> Row:
    is_retired = life.state is State.RETIRED
    return (
        program,
        life.reservation_id,
        life.quota,
        life.places,
        held.deadline_ms,
        held.fingerprint,
        held.sealed,
        life.held_at_ms,
        life.held_epoch,
        held.seq,
        booking_code(life.reservation_id),
        life.confirmed.payment_reference if life.confirmed else "",
        State.CONFIRMED if is_retired else life.state,
        life.confirmed_at_ms,
        0 if is_retired else life.ended_at_ms,
        life.returns_at_ms if life.ended else 0,
        life.ended_at_ms if is_retired else 0,
        life.epoch,
        life.seq,
    )


async def _write_new(connection: Connection, new: NewRows) -> None:
    """Insert with COPY, which is faster than INSERT; all rows of a table are written, or it fails."""
    for table, (names, rows) in new.items():
        if rows:
            await connection.copy_records_to_table(table, records=rows, columns=names)


async def _write_quotas(connection: Connection, program: str, effects: Effects) -> None:
    set_here = [(id_, change, change.terms) for id_, change in effects.quotas.items() if change.terms is not None]
    others = {id_: change for id_, change in effects.quotas.items() if change.terms is None}
    retired = {id_: change for id_, change in others.items() if change.retired_at_ms}
    counted = {id_: change.booked_delta for id_, change in others.items() if not change.retired_at_ms}
    if set_here:
        columns = [list(column) for column in zip(*(_quota_row(*row) for row in set_here), strict=True)]
        await connection.execute(NEW_QUOTAS, program, *columns)
        deltas = [change.booked_delta for _, change, _ in set_here]
        retired_at = [change.retired_at_ms for _, change, _ in set_here]
        await _expect(connection, len(set_here), SET_QUOTAS, program, *columns, deltas, retired_at)
    if retired:
        changes = retired.values()
        deltas, retired_at = [c.booked_delta for c in changes], [c.retired_at_ms for c in changes]
        await _expect(connection, len(retired), RETIRE_QUOTAS, program, list(retired), deltas, retired_at)
    if counted:
        await _expect(connection, len(counted), COUNT_BOOKED, program, list(counted), list(counted.values()))
    unchanged = list(effects.quotas_held - effects.quotas.keys())
    if unchanged and await connection.fetchval(KNOWN_QUOTAS, program, unchanged) != len(unchanged):
        raise Unapplicable("the quota is not recorded")


def _identity(lives: Sequence[Life]) -> tuple[list[str], list[str], list[int]]:
    return (
        [life.reservation_id for life in lives],
        [life.quota for life in lives],
        [life.places for life in lives],
    )


def _change(lives: Sequence[Life]) -> tuple[list[int], list[int]]:
    return [life.epoch for life in lives], [life.seq for life in lives]


def _end_times(lives: Sequence[Life]) -> tuple[list[int], list[int]]:
    return [life.ended_at_ms for life in lives], [life.returns_at_ms for life in lives]


def _quota_row(quota: str, change: QuotaChange, terms: QuotaTerms) -> tuple[str | int | bool, ...]:
    place = (terms.office, terms.service, terms.channel, terms.date, terms.start, terms.end)
    times = (terms.opens_at_ms, terms.closes_at_ms, terms.cancel_until_ms, terms.hold_ms)
    delays = (terms.return_min_ms, terms.return_max_ms)
    imported = "{" + ",".join(map(str, change.imported)) + "}"  # text, since `unnest` would flatten arrays of arrays

    return tuple(chain((quota,), place, (terms.capacity,), times, delays, (terms.closed, change.version, imported)))
