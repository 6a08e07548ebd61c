"""The audit table: who changed a quota or an opening, or ended another person's reservation, when and why."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from reservasi.events import Ended, OpeningSet, QuotaSet
from reservasi.records.effects import NamedChange
from reservasi.records.pool import Connection

COLUMNS = ("program", "epoch", "seq", "at_ms", "actor", "reason", "quota", "opening", "reservation_id", "after")
QUOTA_SHOWN = ("capacity", "opens_at_ms", "closes_at_ms", "closed")
OPENING_SHOWN = ("opens_at_ms", "joins_from_ms", "ends_at_ms", "waiting_room", "rate_max_per_min", "adaptive")
STATE_SHOWN = ("paused", "beacon", "rate_per_min", "rate_fixed")

# Newest first; `before` is the position of the last row of the previous page.
READ = """
SELECT epoch, seq, at_ms, actor, reason, quota, opening, reservation_id, after::text AS after FROM audit
WHERE program = $1 AND ($2::text IS NULL OR quota = $2) AND ($3::text IS NULL OR opening = $3)
  AND at_ms >= $4 AND at_ms < $5 AND (epoch, seq) < ($6::bigint, $7::bigint)
ORDER BY epoch DESC, seq DESC LIMIT $8
"""
FOREVER = 2**62


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters and page of a read of the audit table."""

    program: str
    limit: int
    quota: str | None = None  # None: all quotas, and openings
    opening: str | None = None
    from_ms: int = 0
    until_ms: int = FOREVER
    before: tuple[int, int] = (FOREVER, FOREVER)  # epoch and seq


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One change with its actor."""

    epoch: int
    seq: int
    at_ms: int
    actor: str
    reason: str
    quota: str | None
    opening: str | None
    reservation_id: str | None
    after: dict[str, Any]  # the state after the change; names ending in `_ms` are moments, 0 for "none"


async def read_audit(connection: Connection, query: AuditQuery) -> list[AuditRow]:
    """Changes of quotas and openings and ended reservations, newest first."""
    subject = (query.program, query.quota, query.opening)
    rows = await connection.fetch(READ, *subject, query.from_ms, query.until_ms, *query.before, query.limit)
    return [AuditRow(**{**row, "after": json.loads(row["after"])}) for row in rows]


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
    """The quota, opening and reservation that a change concerns, and the state after it."""
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
