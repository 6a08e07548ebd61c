"""The state of a quota for claims, in one word, and whether a cancelled opening had offered it."""

from typing import Literal, TypeAlias

from reservasi.model import STAFF_TERMS, Quota

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


def was_offered(quota: Quota) -> bool:
    """Whether a cancelled opening had offered the quota: it was closed with the opening, and not by an import before.

    A quota that staff had closed before counts as well, since nothing tells it from the others.
    """
    if not quota.terms.closed:
        return True
    if not quota.imported:
        return quota.counts.version > 1  # an unchanged one was closed from the beginning
    return quota.imported[STAFF_TERMS.index("closed")] != 1
