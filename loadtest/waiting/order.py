"""Was the order kept: nobody has a place whose number was above the mark when it was given, by the journal itself."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from reservasi.events import Held, JournalEntry, OpeningSet


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """One place that was given, and where the mark stood in the journal before it."""

    seq: int
    persons: tuple[str, ...]
    mark: int  # -1 before the draw


def holds_of(journal: Iterable[JournalEntry], opening: str) -> Iterator[Hold]:
    mark = -1
    for entry in journal:
        for event in entry.events:
            if isinstance(event, OpeningSet) and event.opening.id == opening:
                mark = event.opening.admitted_through if event.opening.drawn else -1
            elif isinstance(event, Held):
                yield Hold(seq=event.seq, persons=event.persons, mark=mark)


def order_violations(holds: Iterable[Hold], numbers: Mapping[str, int]) -> list[str]:
    """People who were let through too early; `numbers` are by person as the journal names them."""
    found = []
    for hold in holds:
        best = min((numbers[person] for person in hold.persons if person in numbers), default=None)
        if best is None:
            found.append(f"seq {hold.seq}: held by somebody who never joined")
        elif best > hold.mark:
            found.append(f"seq {hold.seq}: number {best} has a place, and the mark stood at {hold.mark}")
    return found
