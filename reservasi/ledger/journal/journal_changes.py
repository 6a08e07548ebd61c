"""What a sequence of journal entries changes, in order to compare states that were read at different moments. Pure."""

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

CONFIRMED_BEFORE = (State.CANCELLED, State.RETIRED)  # the states in which a confirmed reservation ends


class Changes:
    """All that entries name. Changes after a given seq are counted separately, so that counts can be taken back to
    it.
    """

    def __init__(self) -> None:
        self.reservations: set[str] = set()
        self.persons: set[str] = set()
        self.timers: set[str] = set()  # ids of the ledger's timers of returning places
        self.later_quotas: set[str] = set()  # quotas that were set or retired after the seq
        self.later_openings: set[str] = set()
        self.later_returns: set[str] = set()  # quotas to which places returned after the seq
        self._later: dict[str, list[int]] = {}  # changes of held, confirmed and returning places

    def follow(self, first_seq: int, payload: bytes, *, until: int) -> None:
        """Add one entry; `until` is the seq to which counts are taken back. Unreadable events change nothing."""
        for event in read_events(first_seq, payload):
            self._touch(event)
            if event.seq > until:
                self._reckon(event)

    def reckon_back(self, quota: str, counts: Sequence[int]) -> tuple[int, int, int]:
        """Held, confirmed and returning places at the seq, computed from the counts after all entries."""
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
