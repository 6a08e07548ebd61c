"""The state of a quota for claims, in one word."""

from typing import Literal, TypeAlias

from reservasi.model import Quota

QuotaState: TypeAlias = Literal["not-open", "open", "sold-out", "closed"]
# the best one stands for several quotas
BEST_FIRST: tuple[QuotaState, ...] = ("open", "not-open", "sold-out", "closed")


def state_of(quota: Quota, now_ms: int) -> QuotaState:
    """The state at a moment of the ledger's clock, in the ledger's order of precedence."""
    terms = quota.terms
    if terms.closed or (terms.closes_at_ms and terms.closes_at_ms <= now_ms):
        return "closed"
    if terms.opens_at_ms > now_ms:
        return "not-open"
    return "open" if quota.remaining > 0 else "sold-out"
