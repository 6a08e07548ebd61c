"""Quotas and moments as the public reads them."""

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from reservasi.front.bodies import QuotaBody, QuotaState, StaffQuotaBody
from reservasi.front.ticket_rules import TicketRule
from reservasi.model import Quota


@lru_cache(maxsize=1024)  # all holds of a batch end at the same moment
def moment(at_ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC; the fraction only when there is one."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")


def moment_or_none(at_ms: int) -> str | None:
    """The same, with null for "none"."""
    return moment(at_ms) if at_ms else None


def quota_body(quota: Quota, state: QuotaState, rule: TicketRule) -> QuotaBody:
    """A quota for the public."""
    return QuotaBody(**_public(quota, state, rule))


def staff_quota_body(quota: Quota, state: QuotaState, rule: TicketRule) -> StaffQuotaBody:
    """A quota for staff."""
    terms, counts = quota.terms, quota.counts
    return StaffQuotaBody(
        **_public(quota, state, rule),
        held=counts.held,
        confirmed=counts.confirmed,
        returning=counts.returning,
        closes_at=moment_or_none(terms.closes_at_ms),
        closed=terms.closed,
        version=counts.version,
    )


def _public(quota: Quota, state: QuotaState, rule: TicketRule) -> dict[str, Any]:
    terms = quota.terms
    return {
        "id": quota.id,
        "office": terms.office,
        "service": terms.service,
        "channel": terms.channel,
        "date": terms.date,
        "start": terms.start,
        "end": terms.end,
        "capacity": terms.capacity,
        "remaining": quota.remaining,
        "state": state,
        "opens_at": moment_or_none(terms.opens_at_ms),
        "opening": rule.opening,
        "ticket_required": rule.required,
    }


class Encoded(NamedTuple):
    """A body and its strong entity tag."""

    body: bytes
    etag: str


def encoded(body: bytes) -> Encoded:
    """The tag is made from the content, so every process gives the same one."""
    return Encoded(body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"')
