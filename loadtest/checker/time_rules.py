"""Whether each change came at a moment at which the rules allow it, by the ledger's own clock."""

import datetime as dt
from collections import Counter, defaultdict

from reservasi.events import (
    AnyEvent,
    Confirmed,
    Ended,
    Held,
    OpeningRetired,
    OpeningSet,
    QuotaRetired,
    QuotaSet,
    Returned,
    Unreadable,
)
from reservasi.model import QuotaTerms, State

REMEMBERED_MS = 86_400_000  # so long an ended reservation answers for its id, and the id makes no other
EASTERNMOST = dt.timedelta(hours=14)  # where a day begins first


class Times:
    """Terms, deadlines and returns as they follow from the events alone.

    Exact whatever the clock does: each is compared with the very time that the ledger decided by.
    """

    def __init__(self) -> None:
        self.terms: dict[str, QuotaTerms] = {}
        self._holds: dict[str, Held] = {}
        self._ended_at: dict[str, int] = {}
        self._returns: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)  # quota -> (when, places)

    def apply(self, event: AnyEvent, at_ms: int) -> str | None:
        """Follow one event that was decided at `at_ms`; why it should not have been then, if so."""
        match event:
            case QuotaSet():
                return self._set(event, at_ms)
            case OpeningSet() | OpeningRetired() | Unreadable():
                return None
            case _ if event.quota not in self.terms:
                return None  # the replay reports it
            case Held():
                return self._hold(event, at_ms)
            case Confirmed():
                return self._confirm(event, at_ms)
            case Ended():
                return self._end(event, at_ms)
            case Returned():
                return self._return(event, at_ms)
            case QuotaRetired():
                return self._retire(event, at_ms)

    def _set(self, event: QuotaSet, at_ms: int) -> str | None:
        before = self.terms.get(event.quota)
        self.terms[event.quota] = event.terms
        if before is None or not 0 < before.closes_at_ms <= at_ms:
            return None
        outlived = [id_ for id_, held in self._holds.items() if held.quota == event.quota]
        return f"changed at {at_ms}, and {outlived} outlived its closing at {before.closes_at_ms}" if outlived else None

    def _ends_at_ms(self, held: Held) -> int:
        """When a hold ends, as the terms are now: staff may have moved the closing to before its deadline."""
        return min(held.deadline_ms, self.terms[held.quota].closes_at_ms or held.deadline_ms)

    def _hold(self, event: Held, at_ms: int) -> str | None:
        terms, ended_at_ms = self.terms[event.quota], self._ended_at.pop(event.reservation_id, None)
        self._holds[event.reservation_id] = event
        if terms.closed or 0 < terms.closes_at_ms <= at_ms:
            return f"claimed at {at_ms} while closed (closes at {terms.closes_at_ms})"
        if terms.opens_at_ms > at_ms:
            return f"claimed at {at_ms}, before it opens at {terms.opens_at_ms}"
        wanted_ms = at_ms + terms.hold_ms
        if event.deadline_ms != min(wanted_ms, terms.closes_at_ms or wanted_ms):
            until = f"for {terms.hold_ms} ms or until its closing at {terms.closes_at_ms}"
            return f"held at {at_ms} until {event.deadline_ms}, not {until}"
        if ended_at_ms is not None and at_ms < ended_at_ms + REMEMBERED_MS:
            return f"{event.reservation_id} was ended at {ended_at_ms} and held again at {at_ms}"
        return None

    def _confirm(self, event: Confirmed, at_ms: int) -> str | None:
        held = self._holds.pop(event.reservation_id, None)
        if held is not None and self._ends_at_ms(held) <= at_ms:
            return f"confirmed at {at_ms}, after its end at {self._ends_at_ms(held)} (deadline {held.deadline_ms})"
        return None

    def _end(self, event: Ended, at_ms: int) -> str | None:
        held = self._holds.pop(event.reservation_id, None)
        self._ended_at[event.reservation_id] = at_ms
        if event.returns_at_ms:
            self._returns[event.quota][event.returns_at_ms, event.places] += 1
        if held is not None and (self._ends_at_ms(held) <= at_ms) != (event.state is State.EXPIRED):
            return f"{event.state} at {at_ms}, its end is {self._ends_at_ms(held)} (deadline {held.deadline_ms})"
        terms = self.terms[event.quota]
        if event.state is State.RETIRED:
            return _not_over(terms, at_ms) or (
                f"its places return at {event.returns_at_ms}" if event.returns_at_ms else None
            )
        if terms.return_max_ms <= 0 and event.returns_at_ms == 0:
            return None
        if not at_ms + terms.return_min_ms <= event.returns_at_ms <= at_ms + terms.return_max_ms:
            between = f"{terms.return_min_ms} to {terms.return_max_ms} ms"
            return f"ended at {at_ms}, its places return at {event.returns_at_ms}, not after {between}"
        return None

    def _return(self, event: Returned, at_ms: int) -> str | None:
        known = self._returns[event.quota]
        same = sorted(when for when, places in +known if places == event.places)
        if not same:
            return f"{event.places} places returned that were not on their way"
        known[same[0], event.places] -= 1
        return None if same[0] <= at_ms else f"{event.places} places returned at {at_ms}, before {same[0]}"

    def _retire(self, event: QuotaRetired, at_ms: int) -> str | None:
        return _not_over(self.terms.pop(event.quota), at_ms)


def _not_over(terms: QuotaTerms, at_ms: int) -> str | None:
    """Why a quota may not be retired yet: the earliest end is that of the easternmost zone, UTC+14."""
    day = dt.datetime.fromisoformat(terms.date).replace(tzinfo=dt.timezone(EASTERNMOST))
    hours, minutes = map(int, terms.end.split(":"))
    ends_at = day + dt.timedelta(days=terms.end <= terms.start, hours=hours, minutes=minutes)
    ends_at_ms = int(ends_at.timestamp() * 1000)
    if at_ms < max(ends_at_ms, terms.closes_at_ms):
        return f"retired at {at_ms}, closes at {terms.closes_at_ms} and ends at {ends_at_ms} at the earliest"
    return None
