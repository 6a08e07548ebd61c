"""What a run of journal entries touches: to compare two states that were read at different moments. Pure."""

from collections.abc import Sequence

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
)
from reservasi.ledger.journal.entries import read_events
from reservasi.model import State

CONFIRMED_BEFORE = (State.CANCELLED, State.RETIRED)  # how a confirmed reservation ends


class Changes:
    """All that entries speak of; those beyond a seq are reckoned as well, so that counts can be taken back to it."""

    def __init__(self) -> None:
        self.reservations: set[str] = set()
        self.persons: set[str] = set()
        self.timers: set[str] = set()  # of places on their way back, as the ledger calls them
        self.later_quotas: set[str] = set()  # that were set or retired beyond the seq
        self.later_openings: set[str] = set()
        self.later_returns: set[str] = set()  # quotas to which places came back beyond it
        self._later: dict[str, list[int]] = {}  # held, confirmed, returning

    def follow(self, first_seq: int, payload: bytes, *, until: int) -> None:
        """Follow one entry; `until` is the seq that counts are taken back to. Unreadable events change nothing."""
        for event in read_events(first_seq, payload):
            self._touch(event)
            if event.seq > until:
                self._reckon(event)

    def reckon_back(self, quota: str, counts: Sequence[int]) -> tuple[int, int, int]:
        """Held, confirmed and returning places at the seq, from those after all entries."""
        later = self._later.get(quota, (0, 0, 0))
        held, confirmed, returning = (count - step for count, step in zip(counts, later, strict=True))
        return held, confirmed, returning

    def _touch(self, event: AnyEvent) -> None:
        match event:
            case Held():
                self.reservations.add(event.reservation_id)
                self.persons.update(event.persons)
            case Confirmed():
                self.reservations.add(event.reservation_id)
            case Ended():
                self.reservations.add(event.reservation_id)
                self.timers.add(f"+{event.seq}:{event.places}")

    def _reckon(self, event: AnyEvent) -> None:
        match event:
            case Held():
                self._count(event.quota, held=event.places)
            case Confirmed():
                self._count(event.quota, held=-event.places, confirmed=event.places)
            case Ended():
                before = {"confirmed" if event.state in CONFIRMED_BEFORE else "held": -event.places}
                self._count(event.quota, **before, returning=event.places if event.returns_at_ms else 0)
            case Returned():
                self._count(event.quota, returning=-event.places)
                self.later_returns.add(event.quota)
            case QuotaSet() | QuotaRetired():
                self.later_quotas.add(event.quota)
            case OpeningSet():
                self.later_openings.add(event.opening.id)
            case OpeningRetired():
                self.later_openings.add(event.opening)

    def _count(self, quota: str, held: int = 0, confirmed: int = 0, returning: int = 0) -> None:
        later = self._later.setdefault(quota, [0, 0, 0])
        for at, step in enumerate((held, confirmed, returning)):
            later[at] += step
