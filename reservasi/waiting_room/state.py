"""The state of an opening in one word."""

from typing import Literal, TypeAlias

from reservasi.model import Opening

NEVER_MS = 2**62
OpeningState: TypeAlias = Literal["announced", "joining", "open", "paused", "sold_out", "ended", "cancelled"]


def state_of(opening: Opening, now_ms: int, *, sold_out: bool) -> OpeningState:
    """The state at a moment of the ledger's clock; `sold_out`: no place remains in any of its quotas."""
    terms = opening.terms
    if opening.cancelled:
        return "cancelled"
    if opening.ended(now_ms):
        return "ended"
    if now_ms < terms.opens_at_ms:
        return "joining" if terms.waiting_room and now_ms >= terms.joins_from_ms else "announced"
    if sold_out:
        return "sold_out"
    return "paused" if opening.paused else "open"


def last_end_ms(opening: Opening) -> int:
    """The latest end of the waiting room; unknown while it is paused."""
    return NEVER_MS if opening.paused else opening.terms.ends_at_ms
