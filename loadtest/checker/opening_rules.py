"""Whether openings and their quotas keep together in the journal: moved, called off and paused as one.

Followed by the entry, since what belongs together must be in one.
"""

from collections.abc import Iterator

from reservasi.events import JournalEntry, OpeningRetired, OpeningSet, QuotaRetired, QuotaSet
from reservasi.model import Opening, QuotaTerms

PAUSED_MAX_MS = 366 * 86_400_000  # after which a pause is not expected to end


class OpeningRules:
    """The openings and quotas of one program as they follow from the events alone."""

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
                if retired is not None and (wrong := _not_over(retired, entry.at_ms)):
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


def _not_over(opening: Opening, at_ms: int) -> str | None:
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
