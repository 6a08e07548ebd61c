"""Events that could not be recorded: which are open, and how they are recorded later or settled by a person.

A dead letter is recorded after events that followed it. It is therefore applied only if nothing later is recorded of
the same reservation, quota or opening, under a lock on the program's position that keeps the recorder out.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from reservasi.events import (
    AnyEvent,
    Confirmed,
    Ended,
    Held,
    OpeningRetired,
    OpeningSet,
    QuotaRetired,
    QuotaSet,
    Unreadable,
)
from reservasi.records.effects import Stamped, net_effects
from reservasi.records.pool import Connection, lacks_partition
from reservasi.records.transaction import UNFIT, fault_of
from reservasi.records.writes import BookingCode, apply_effects, new_rows

LetterOutcome: TypeAlias = Literal["open", "recorded", "settled"]
Tried: TypeAlias = Literal["recorded", "unreadable", "overtaken", "unfit", "closed"]
DEAD_RESERVATIONS_MAX = 100_000

COUNT_OPEN = "SELECT count(*) FROM dead_letters WHERE program = $1 AND outcome = 'open'"
DEAD_RESERVATIONS = """
SELECT DISTINCT reservation_id FROM dead_letters
WHERE program = $1 AND reservation_id IS NOT NULL AND outcome <> 'recorded' LIMIT $2
"""
HAS_SETTLED = "SELECT EXISTS (SELECT FROM dead_letters WHERE program = $1 AND outcome = 'settled')"
LETTERS = """
SELECT d.id, d.program, d.epoch, d.seq, d.reservation_id, d.event::text AS event, d.error, d.at, d.outcome, d.closed_at,
  d.closed_by, d.reason, coalesce(j.at_ms, (extract(epoch FROM d.at) * 1000)::bigint) AS at_ms
FROM dead_letters d
LEFT JOIN LATERAL (
  SELECT at_ms FROM journal
  WHERE program = d.program AND epoch = d.epoch AND first_seq <= d.seq AND last_seq >= d.seq LIMIT 1
) j ON true
WHERE ($1::text IS NULL OR d.program = $1) AND ($2 OR d.outcome = 'open')
  AND ($3::text IS NULL OR (d.program, d.epoch, d.seq) > ($3, $4::bigint, $5::bigint))
ORDER BY d.program, d.epoch, d.seq LIMIT $6
"""
LOCK_POSITION = "SELECT FROM positions WHERE program = $1 FOR UPDATE"
LOCK_OPEN = "SELECT id FROM dead_letters WHERE id = $1 AND outcome = 'open' FOR UPDATE"
NOTE_FAULT = "UPDATE dead_letters SET error = $2 WHERE id = $1"
CLOSE = """
UPDATE dead_letters SET outcome = $2, closed_at = now(), closed_by = $3, reason = $4
WHERE id = ANY($1::bigint[]) AND outcome = 'open' RETURNING id
"""
KNOWN = "SELECT id, outcome FROM dead_letters WHERE id = ANY($1::bigint[])"
LATER_OF_RESERVATION = """
SELECT EXISTS (SELECT FROM holds WHERE program = $1 AND reservation_id = $2 AND (epoch, seq) > ($3, $4))
  OR EXISTS (SELECT FROM bookings WHERE program = $1 AND reservation_id = $2 AND (epoch, seq) > ($3, $4))
"""
LATER_OF_QUOTA = """
SELECT EXISTS (SELECT FROM quotas WHERE program = $1 AND id = $2 AND (version >= $3 OR retired_at_ms > $4))
"""
LIVE_IN_QUOTA = """
SELECT EXISTS (SELECT FROM holds WHERE program = $1 AND quota = $2) OR EXISTS (
  SELECT FROM bookings WHERE program = $1 AND quota = $2 AND state = 'confirmed' AND retired_at_ms = 0)
"""
LATER_OF_OPENING = """
SELECT EXISTS (
  SELECT FROM openings WHERE program = $1 AND id = $2 AND ((epoch, seq) > ($3, $4) OR retired_at_ms > $5))
"""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that could not be recorded when the recorder reached it."""

    id: int
    program: str
    epoch: int
    seq: int
    reservation_id: str | None
    event: str  # JSON: kind and fields
    error: str  # why the last attempt to record it failed
    at: dt.datetime  # when the recorder reached it
    at_ms: int  # when the ledger accepted it
    outcome: LetterOutcome
    closed_at: dt.datetime | None
    closed_by: str
    reason: str


class LetterPosition(msgspec.Struct, frozen=True, kw_only=True):
    """The letter after which a page begins."""

    program: str
    epoch: int
    seq: int


async def count_open(connection: Connection, program: str) -> int:
    """How many events are neither recorded nor settled; anything but 0 needs a person."""
    return int(await connection.fetchval(COUNT_OPEN, program))


async def dead_reservations(connection: Connection, program: str) -> list[str]:
    """Reservations with an event that is not recorded, settled or not: they must not be reported as recorded."""
    rows = await connection.fetch(DEAD_RESERVATIONS, program, DEAD_RESERVATIONS_MAX)
    return [row["reservation_id"] for row in rows]


async def has_settled(connection: Connection, program: str) -> bool:
    """Whether a person has settled a letter of the program."""
    return bool(await connection.fetchval(HAS_SETTLED, program))


async def read_letters(
    connection: Connection,
    program: str | None,
    *,
    closed: bool = False,
    after: LetterPosition | None = None,
    limit: int,
) -> list[Letter]:
    """Letters of one program or of all, ordered by program and seq; `closed` includes letters that are not open."""
    behind = (after.program, after.epoch, after.seq) if after else (None, None, None)
    return [Letter(**row) for row in await connection.fetch(LETTERS, program, closed, *behind, limit)]


async def settle(
    connection: Connection, ids: Sequence[int], actor: str, reason: str
) -> dict[int, LetterOutcome | None]:
    """Close open letters as dealt with by a person.

    Returns the outcome that each letter had before; None for an id without a letter.
    """
    async with connection.transaction():
        before = {row["id"]: row["outcome"] for row in await connection.fetch(KNOWN, ids)}
        closed = {row["id"] for row in await connection.fetch(CLOSE, ids, "settled", actor, reason)}
    return {id_: "open" if id_ in closed else before.get(id_) for id_ in ids}


async def try_again(
    connection: Connection, letter: Letter, event: AnyEvent, booking_code: BookingCode, actor: str
) -> tuple[Tried, str]:
    """Try to record an open letter. Requires the owner's rights.

    Returns the result, and the reason if it was not recorded.
    """
    async with connection.transaction():
        await connection.execute(LOCK_POSITION, letter.program)
        if await connection.fetchrow(LOCK_OPEN, letter.id) is None:
            return "closed", "somebody else closed it"
        tried, why = await _apply(connection, letter, event, booking_code)
        if tried == "recorded":
            await connection.fetch(CLOSE, [letter.id], "recorded", actor, "")
        else:
            await connection.execute(NOTE_FAULT, letter.id, why)
    return tried, why


async def _apply(
    connection: Connection, letter: Letter, event: AnyEvent, booking_code: BookingCode
) -> tuple[Tried, str]:
    if isinstance(event, Unreadable):
        return "unreadable", fault_of(f"it cannot be read: {event.why}")
    if await _is_overtaken(connection, letter, event):
        return "overtaken", "a later change of the same is recorded"
    try:
        effects = net_effects([Stamped(epoch=letter.epoch, at_ms=letter.at_ms, events=(event,))])
        async with connection.transaction():  # a savepoint
            new = new_rows(letter.program, effects, booking_code)
            await apply_effects(connection, letter.program, effects, new, booking_code)
    except UNFIT as error:
        if lacks_partition(error):
            raise
        return "unfit", fault_of(error)
    return "recorded", ""


async def _is_overtaken(connection: Connection, letter: Letter, event: AnyEvent) -> bool:
    """Whether a later change of the same reservation, quota or opening is recorded, which must not be undone."""
    position = (letter.epoch, letter.seq)
    arguments: tuple[object, ...]
    match event:
        case Held() | Confirmed() | Ended():
            query, arguments = LATER_OF_RESERVATION, (event.reservation_id, *position)
        case QuotaSet():
            query, arguments = LATER_OF_QUOTA, (event.quota, event.version, letter.at_ms)
        case QuotaRetired():
            query, arguments = LIVE_IN_QUOTA, (event.quota,)
        case OpeningSet():
            query, arguments = LATER_OF_OPENING, (event.opening.id, *position, letter.at_ms)
        case OpeningRetired():
            query, arguments = LATER_OF_OPENING, (event.opening, *position, letter.at_ms)
        case _:
            return False
    return bool(await connection.fetchval(query, letter.program, *arguments))
