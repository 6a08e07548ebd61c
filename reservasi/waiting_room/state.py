"""The state of an opening in one word, from its own record and from what its quotas allow."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from reservasi.model import Opening, Quota

NEVER_MS = 2**62
OpeningState: TypeAlias = Literal["announced", "joining", "open", "paused", "closed", "sold_out", "ended", "cancelled"]


class Places(NamedTuple):
    """What the quotas of an opening allow at a moment; the defaults are those of an opening without quotas."""

    closed: bool = True  # all of them are closed, by staff or by the clock, so that there is nothing to wait for
    left: bool = False  # a place remains in one that is not closed
    end_ms: int = NEVER_MS  # when claims end in the last of them; `NEVER_MS` if they do not end


def places_of(quotas: Iterable[Quota], now_ms: int) -> Places:
    """What these quotas allow, by a scan; a front asks its groups instead."""
    every = list(quotas)
    if not every:
        return Places()
    bookable = [each for each in every if not each.terms.closed and _end_ms(each) > now_ms]
    left = any(each.remaining > 0 for each in bookable)
    return Places(closed=not bookable, left=left, end_ms=max(map(_end_ms, every)))


def _end_ms(quota: Quota) -> int:
    return quota.terms.closes_at_ms or NEVER_MS


def state_of(opening: Opening, now_ms: int, places: Places) -> OpeningState:
    """The state at a moment of the ledger's clock."""
    terms = opening.terms
    if opening.cancelled:
        return "cancelled"
    if now_ms >= end_ms(opening, places):
        return "ended"
    if places.closed:
        return "closed"
    if now_ms < terms.opens_at_ms:
        return "joining" if terms.waiting_room and now_ms >= terms.joins_from_ms else "announced"
    if not places.left:
        return "sold_out"
    return "paused" if opening.paused else "open"


def is_paused_from_the_beginning(opening: Opening) -> bool:
    """Whether it has been paused since before it opened, so that nobody is admitted.

    The mark begins at 0, which is also the first number; only a pause tells that this number is not admitted yet.
    """
    return opening.admitted_through == 0 and opening.paused and opening.paused_at_ms <= opening.terms.opens_at_ms


def last_end_ms(opening: Opening) -> int:
    """The latest end of the waiting room; unknown while it is paused."""
    return NEVER_MS if opening.paused else opening.terms.ends_at_ms


def end_ms(opening: Opening, places: Places) -> int:
    """The end of the waiting: the opening has ended, or all of its quotas have closed for booking."""
    return min(last_end_ms(opening), places.end_ms)


def ends_at_ms(opening: Opening, places: Places) -> int:
    """The end as shown, also while it is paused; resuming moves it by the length of the pause."""
    return min(opening.terms.ends_at_ms, places.end_ms)
