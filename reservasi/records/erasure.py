"""Forget what a person entrusted to us, without a change to what anybody can verify.

The journal names each envelope by its hash, so the rows that hold the envelopes are the only place of a recorded one:
once it is blanked there, the entry still chains, and nothing is left that could be opened. What is blanked belongs to
reservations that have ended; a live one is still needed at the counter.
"""

import json

import msgspec

from reservasi.records.pool import Connection

ERASED = ""  # in place of an envelope

ERASE_BOOKINGS = """
UPDATE bookings b SET sealed = ''
WHERE b.program = $1 AND (b.state <> 'confirmed' OR b.retired_at_ms > 0) AND b.sealed <> '' AND EXISTS (
  SELECT FROM applicants a WHERE a.program = b.program AND a.reservation_id = b.reservation_id
    AND a.held_epoch = b.held_epoch AND a.held_seq = b.held_seq AND a.person = $2
)
"""
LIVE = "SELECT DISTINCT reservation_id FROM applicants WHERE program = $1 AND person = $2 AND live ORDER BY 1"
DEAD_LETTERS = "SELECT id, event::text AS event FROM dead_letters WHERE program = $1 AND strpos(event::text, $2) > 0"
REWRITE_DEAD_LETTER = "UPDATE dead_letters SET event = $2 WHERE id = $1"


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a person's data in one program."""

    erased: int  # ended reservations, and events that could not be recorded, whose envelopes are gone now
    live: tuple[str, ...]  # reservations that still need theirs


async def erase_person(connection: Connection, program: str, person: str) -> Erasure:
    """Blank the envelopes of all reservations of a person that have ended, also those shared with a group.

    This is the owner's right, not a worker's.
    """
    async with connection.transaction():
        done = await connection.execute(ERASE_BOOKINGS, program, person)
        erased = int(done.rsplit(" ", 1)[1])
        for row in await connection.fetch(DEAD_LETTERS, program, person):
            event = json.loads(row["event"])
            if person in event.get("persons", ()) and event.get("sealed"):
                event["sealed"] = ERASED
            elif person in event.get("texts", ()) and event.get("envelopes"):
                event["envelopes"] = []
            else:
                continue
            await connection.execute(REWRITE_DEAD_LETTER, row["id"], json.dumps(event))
            erased += 1
        live = await connection.fetch(LIVE, program, person)
    return Erasure(erased=erased, live=tuple(row["reservation_id"] for row in live))
