"""The audit table: who changed a quota or an opening, or ended somebody's reservation, when and why."""

import json
from collections.abc import Sequence
from typing import Any

from reservasi.model import Ended, OpeningSet, QuotaSet
from reservasi.records.effects import NamedChange
from reservasi.records.pool import Connection

COLUMNS = ("program", "epoch", "seq", "at_ms", "actor", "reason", "quota", "opening", "reservation_id", "after")
QUOTA_SHOWN = ("capacity", "opens_at_ms", "closes_at_ms", "closed")
OPENING_SHOWN = ("opens_at_ms", "joins_from_ms", "ends_at_ms", "waiting_room", "rate_max_per_min", "adaptive")
STATE_SHOWN = ("paused", "beacon", "rate_per_min", "rate_fixed")


async def write_audit(connection: Connection, program: str, changes: Sequence[NamedChange]) -> None:
    """Write a row for each change."""
    if changes:
        rows = [_row(program, change) for change in changes]
        await connection.copy_records_to_table("audit", records=rows, columns=COLUMNS)


def _row(program: str, change: NamedChange) -> tuple[object, ...]:
    event = change.event
    quota, opening, reservation_id, after = _subject(event)
    named = (event.actor, event.reason)
    return (program, change.epoch, event.seq, change.at_ms, *named, quota, opening, reservation_id, json.dumps(after))


def _subject(event: Ended | QuotaSet | OpeningSet) -> tuple[str | None, str | None, str | None, dict[str, Any]]:
    """What was changed, and what it was afterwards."""
    match event:
        case QuotaSet():
            terms = {name: getattr(event.terms, name) for name in QUOTA_SHOWN}
            return event.quota, None, None, {"version": event.version, **terms}
        case OpeningSet():
            opening = event.opening
            shown = {name: getattr(opening.terms, name) for name in OPENING_SHOWN}
            shown |= {name: getattr(opening, name) for name in STATE_SHOWN}
            return None, opening.id, None, {"version": opening.version, **shown}
        case Ended():
            return event.quota, None, event.reservation_id, {"status": event.state.value, "places": event.places}
