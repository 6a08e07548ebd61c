"""The audit table: who changed a quota or an opening, or ended a reservation, when and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec.structs import replace

from reservasi.events import NamedEvent
from reservasi.model import State
from tests.ledgers import opening_of

if TYPE_CHECKING:
    from reservasi.records import Records
    from tests.integration.conftest import JournalWriter, Tables

PROGRAM = "surabaya"
ROWS = "SELECT epoch, seq, at_ms, actor, reason, quota, opening, reservation_id, after FROM audit ORDER BY seq"


def _name_last(writer: JournalWriter, actor: str, reason: str = "") -> None:
    last = writer.events[-1]
    assert isinstance(last, NamedEvent)
    writer.events[-1] = replace(last, actor=actor, reason=reason)


async def test_each_named_change_has_its_row_and_the_public_has_none(
    records: Records, writer: JournalWriter, tables: Tables
) -> None:
    writer.quota_set("q", 5)
    _name_last(writer, "import")
    writer.quota_set("q", 7)
    _name_last(writer, "staff:ani", "two more desks")
    for reservation, person in (("r1", "ani"), ("r2", "budi"), ("r3", "cici")):
        writer.held(reservation, "q", person)
    writer.confirmed("r1")
    writer.confirmed("r2")
    writer.ended("r1", State.CANCELLED)
    _name_last(writer, "cli:root", "asked by telephone")
    writer.ended("r2", State.CANCELLED)
    writer.ended("r3", State.RELEASED)
    writer.opening_set(opening_of())
    writer.opening_set(replace(opening_of(), paused=True, version=2))
    _name_last(writer, "", "a reason alone")
    entry = writer.entry()
    recorded = await records.record(PROGRAM, None, [entry], booking_code=str.upper)
    assert recorded.dead == ()
    rows = await tables.rows(ROWS)
    assert [row[:8] for row in rows] == [
        (1, 1, entry.at_ms, "import", "", "q", None, None),
        (1, 2, entry.at_ms, "staff:ani", "two more desks", "q", None, None),
        (1, 8, entry.at_ms, "cli:root", "asked by telephone", "q", None, "r1"),
        (1, 12, entry.at_ms, "", "a reason alone", None, "p-1", None),
    ]
    after = [json.loads(str(row[8])) for row in rows]
    assert [each.get("capacity") for each in after] == [5, 7, None, None]
    assert after[2] == {"status": "cancelled", "places": 1}
    assert (after[3]["version"], after[3]["paused"]) == (2, True)


async def test_a_change_that_cannot_be_recorded_leaves_no_audit_row(
    records: Records, writer: JournalWriter, tables: Tables
) -> None:
    writer.quota_set("q", 5)
    _name_last(writer, "staff:ani")
    writer.ended("nobody", State.CANCELLED)
    _name_last(writer, "staff:budi", "of a booking that nobody has")
    recorded = await records.record(PROGRAM, None, [writer.entry()], booking_code=str.upper)
    assert [dead.seq for dead in recorded.dead] == [2]
    assert await tables.rows("SELECT actor FROM audit") == [("staff:ani",)]
