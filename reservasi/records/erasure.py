"""Erase a person's data without changing anything that can be verified.

The journal names each envelope by its hash, and the envelope itself is stored in one row only. Blanking that row leaves
the journal's chain intact and nothing that could be opened. Only envelopes of reservations that have ended are blanked;
those of live ones are needed at the counter.
"""

import json

import msgspec

from reservasi.records.pool import Connection

ERASED = ""  # stored in place of an envelope

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
    """The result for one person in one program."""

    erased: int  # ended reservations, and events that could not be recorded, whose envelopes were blanked
    live: tuple[str, ...]  # live reservations, whose envelopes are kept


async def erase_person(connection: Connection, program: str, person: str) -> Erasure:
    """Blank the envelopes of all ended reservations of a person, including those shared with a group.

    Requires the owner's rights.
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
