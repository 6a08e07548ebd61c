"""Whether each step of the journal was allowed when it came: by the ledger's own clock, and by openings.

An opening and its quotas are moved, called off and paused as one.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterator

from reservasi.events import (
    AnyEvent,
    Confirmed,
    Ended,
    Held,
    JournalEntry,
    OpeningRetired,
    OpeningSet,
    QuotaRetired,
    QuotaSet,
    Returned,
    Unreadable,
)
from reservasi.model import Opening, QuotaTerms, State

REMEMBERED_MS = 86_400_000  # so long an ended reservation answers for its id, and the id makes no other
EASTERNMOST = dt.timedelta(hours=14)  # where a day begins first
PAUSED_MAX_MS = 366 * 86_400_000  # after which a pause is not expected to end


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
        returns = self._returns[event.quota]
        same = sorted(when for when, places in +returns if places == event.places)
        if not same:
            return f"{event.places} places returned that were not on their way"
        returns[same[0], event.places] -= 1
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


class OpeningRules:
    """The openings and quotas of one program as they follow from the events alone.

    Followed entry by entry, since what belongs together must be in one entry.
    """

    def __init__(self) -> None:
        self._openings: dict[str, Opening] = {}
        self._terms: dict[str, QuotaTerms] = {}

    def follow(self, entry: JournalEntry) -> Iterator[tuple[int, str]]:
        """What is wrong in one entry, with the seq of the event."""
        openings, terms = dict(self._openings), dict(self._terms)  # as they were before it
        for event in entry.events:
            if isinstance(event, OpeningSet):
                before = self._openings.get(event.opening.id)
                self._openings[event.opening.id] = event.opening
                if before is not None and (wrong := _changed(before, event.opening, entry.at_ms)):
                    yield event.seq, f"{event.opening.id}: {wrong}"
            elif isinstance(event, OpeningRetired):
                retired = self._openings.pop(event.opening, None)
                if retired is not None and (wrong := _goes_on(retired, entry.at_ms)):
                    yield event.seq, f"{event.opening}: {wrong}"
            elif isinstance(event, QuotaSet):
                self._terms[event.quota] = event.terms
            elif isinstance(event, QuotaRetired):
                self._terms.pop(event.quota, None)
        yield from self._left_behind(entry, openings, terms)
        yield from self._moved_alone(entry, openings, terms)

    def _left_behind(
        self, entry: JournalEntry, openings: dict[str, Opening], terms: dict[str, QuotaTerms]
    ) -> Iterator[tuple[int, str]]:
        for id_, before in openings.items():
            now = self._openings.get(id_, before)
            is_called_off = now.cancelled and not before.cancelled
            if not is_called_off and now.terms.opens_at_ms == before.terms.opens_at_ms:
                continue
            covered = (quota for quota, each in terms.items() if before.terms.covers(each))
            for quota in self._terms.keys() & covered:
                is_open = is_called_off and not self._terms[quota].closed
                if is_open or not now.terms.covers(self._terms[quota]):
                    yield entry.position.seq, f"{id_} was moved or called off, and {quota} was not"

    def _moved_alone(
        self, entry: JournalEntry, openings: dict[str, Opening], terms: dict[str, QuotaTerms]
    ) -> Iterator[tuple[int, str]]:
        """Quotas that left an opening which went on without them."""
        for event in entry.events:
            before = terms.get(event.quota) if isinstance(event, QuotaSet) else None
            if before is None or not isinstance(event, QuotaSet) or event.terms.opens_at_ms == before.opens_at_ms:
                continue
            for opening in openings.values():
                now = self._openings.get(opening.id, opening)
                stays = now.terms.opens_at_ms == opening.terms.opens_at_ms
                is_over = opening.cancelled or (not opening.paused and opening.terms.ends_at_ms <= entry.at_ms)
                is_free = entry.at_ms < opening.terms.joins_from_ms and self._is_taken(event.terms)
                if opening.terms.covers(before) and stays and not is_over and not is_free:
                    yield event.seq, f"{event.quota} left {opening.id}, which opens at {opening.terms.opens_at_ms}"

    def _is_taken(self, terms: QuotaTerms) -> bool:
        return any(opening.terms.covers(terms) and not opening.cancelled for opening in self._openings.values())


def _goes_on(opening: Opening, at_ms: int) -> str | None:
    """Why an opening may not be retired yet. One that is paused goes on; the ledger gives it up after a year."""
    if opening.paused and not opening.cancelled:
        ends_at_ms = max(opening.terms.ends_at_ms, opening.paused_at_ms) + PAUSED_MAX_MS
    else:
        ends_at_ms = opening.terms.ends_at_ms
    return f"retired at {at_ms}, and it ends at {ends_at_ms}" if at_ms < ends_at_ms else None


def _changed(before: Opening, now: Opening, at_ms: int) -> str | None:
    if before.cancelled and now != before:
        return "it was called off, and then changed"
    if before.paused and not now.paused:
        lost_ms = max(0, at_ms - max(before.paused_at_ms, before.terms.opens_at_ms))
        if now.terms.ends_at_ms != before.terms.ends_at_ms + lost_ms:
            return f"paused for {lost_ms} ms, and the end went from {before.terms.ends_at_ms} to {now.terms.ends_at_ms}"
    if (
        now.terms.opens_at_ms != before.terms.opens_at_ms
        and min(now.terms.opens_at_ms, before.terms.opens_at_ms) <= at_ms
    ):
        return f"moved at {at_ms} from {before.terms.opens_at_ms} to {now.terms.opens_at_ms}"
    return None
