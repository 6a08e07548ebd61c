"""Queries for holds and bookings, used by the front, the command line and the checker."""

from collections.abc import Sequence
from typing import Literal

import asyncpg
import msgspec

from reservasi.records.pool import Connection

LIVE_MAX = 20_000  # more than a program has on one day

BOOKING = """
SELECT program, reservation_id, booking_code, quota, places, state, payment_reference, fingerprint, sealed, deadline_ms,
  held_at_ms, confirmed_at_ms, ended_at_ms, returns_at_ms, retired_at_ms, epoch, seq
FROM bookings WHERE reservation_id = $1 ORDER BY held_epoch DESC, held_seq DESC LIMIT 1
"""
HOLD = """
SELECT program, reservation_id, quota, places, deadline_ms, fingerprint, sealed, held_at_ms, epoch, seq
FROM holds WHERE reservation_id = $1
"""
PERSONS = """
SELECT person FROM applicants WHERE program = $1 AND reservation_id = $2
ORDER BY held_epoch DESC, held_seq DESC, position LIMIT $3
"""
LIVE_OF = """
SELECT a.reservation_id, COALESCE(h.sealed, b.sealed, '') AS sealed FROM applicants a
LEFT JOIN holds h ON h.program = a.program AND h.reservation_id = a.reservation_id
LEFT JOIN bookings b ON b.program = a.program AND b.reservation_id = a.reservation_id
  AND b.held_epoch = a.held_epoch AND b.held_seq = a.held_seq
WHERE a.program = $1 AND a.person = $2 AND a.live
"""
COUNT_BOOKINGS = "SELECT count(*) FROM bookings WHERE program = $1"
COUNT_HOLDS = "SELECT count(*) FROM holds WHERE program = $1"
BOOKING_IDS = "SELECT reservation_id FROM bookings WHERE program = $1 AND state = $2 ORDER BY reservation_id"
LIVE_IN = """
SELECT quota, reservation_id, places, 'held' AS status FROM holds WHERE program = $1 AND quota = ANY($2)
UNION ALL
SELECT quota, reservation_id, places, 'confirmed' FROM bookings
WHERE program = $1 AND quota = ANY($2) AND state = 'confirmed' AND retired_at_ms = 0
ORDER BY quota, reservation_id LIMIT $3
"""


class HoldRow(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded hold: places taken and not yet confirmed."""

    program: str
    reservation_id: str
    quota: str
    places: int
    deadline_ms: int
    fingerprint: str
    sealed: str
    held_at_ms: int
    epoch: int  # of the event that created the hold
    seq: int
    persons: tuple[str, ...]  # in the order of the claim


class BookingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation that was confirmed, in whatever state it is now."""

    program: str
    reservation_id: str
    booking_code: str
    quota: str
    places: int
    state: str  # confirmed, cancelled, attended or absent
    payment_reference: str
    fingerprint: str
    sealed: str
    deadline_ms: int  # of the former hold
    held_at_ms: int
    confirmed_at_ms: int
    ended_at_ms: int
    returns_at_ms: int
    retired_at_ms: int  # when the ledger retired it, after its date; 0: it is in the ledger
    epoch: int  # of the last event that changed it
    seq: int
    persons: tuple[str, ...]


class LiveRow(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation that is held or confirmed."""

    quota: str
    reservation_id: str
    places: int
    status: Literal["held", "confirmed"]


async def find_booking(connection: Connection, reservation_id: str) -> BookingRow | None:
    """The booking of a reservation that was confirmed; the latest one if the id was used again."""
    row = await connection.fetchrow(BOOKING, reservation_id)
    return None if row is None else BookingRow(**row, persons=await _persons(connection, row))


async def find_hold(connection: Connection, reservation_id: str) -> HoldRow | None:
    """A hold that is neither confirmed nor ended."""
    row = await connection.fetchrow(HOLD, reservation_id)
    return None if row is None else HoldRow(**row, persons=await _persons(connection, row))


async def live_in(connection: Connection, program: str, quotas: Sequence[str]) -> list[LiveRow]:
    """The held and confirmed reservations in these quotas, ordered by quota."""
    return [LiveRow(**row) for row in await connection.fetch(LIVE_IN, program, quotas, LIVE_MAX)]


async def live_of(connection: Connection, program: str, person: str) -> tuple[str, str] | None:
    """A person's one live reservation and its envelope; the envelope is "" if it was lost."""
    row = await connection.fetchrow(LIVE_OF, program, person)
    return None if row is None else (row["reservation_id"], row["sealed"])


async def count_bookings(connection: Connection, program: str, state: str | None = None) -> int:
    """How many reservations were ever confirmed, or how many bookings are in `state`."""
    if state is None:
        return int(await connection.fetchval(COUNT_BOOKINGS, program))
    return int(await connection.fetchval(f"{COUNT_BOOKINGS} AND state = $2", program, state))


async def count_holds(connection: Connection, program: str) -> int:
    return int(await connection.fetchval(COUNT_HOLDS, program))


async def booking_ids(connection: Connection, program: str, state: str = "confirmed") -> list[str]:
    """The ids of bookings in that state, sorted; an id that is recorded twice appears twice."""
    return [row["reservation_id"] for row in await connection.fetch(BOOKING_IDS, program, state)]


async def _persons(connection: Connection, row: asyncpg.Record) -> tuple[str, ...]:
    rows = await connection.fetch(PERSONS, row["program"], row["reservation_id"], row["places"])
    return tuple(person["person"] for person in rows)
