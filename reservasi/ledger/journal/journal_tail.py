"""State that is only in the end of the journal: holds that ended recently, and returning places.

The records have no rows for these. Pure.
"""

import heapq
from collections.abc import Iterator

import msgspec

from reservasi.contents import EndedReservation, KeptReservation, ReturningPlaces
from reservasi.events import Confirmed, Ended, Held, Returned
from reservasi.ledger.journal.entries import RESERVATION_KINDS, read_events
from reservasi.model import State


class JournalTail:
    """Follows a program's last entries in order."""

    def __init__(self) -> None:
        self._holds: dict[str, KeptReservation] = {}
        self._ended: dict[str, EndedReservation] = {}
        self._returning: dict[tuple[str, int], list[ReturningPlaces]] = {}  # (quota, places) -> heap

    def follow(self, first_seq: int, at_ms: int, payload: bytes) -> None:
        """Add one entry. Unreadable events change nothing."""
        given_back: list[ReturningPlaces] = []
        for event in read_events(first_seq, payload, RESERVATION_KINDS):
            match event:
                case Held():
                    self._hold(event)
                case Confirmed():
                    self._holds.pop(event.reservation_id, None)
                case Ended():
                    self._end(event, at_ms)
                    if event.returns_at_ms:
                        given_back.append(
                            ReturningPlaces(
                                quota=event.quota, at_ms=event.returns_at_ms, seq=event.seq, places=event.places
                            )
                        )
                case Returned():
                    self._return(event.quota, event.places, at_ms)
        for places in given_back:  # places given back by an entry cannot return in the same entry
            heapq.heappush(self._returning.setdefault((places.quota, places.places), []), places)

    def drop_returning(self) -> None:
        """The program was removed at this point: no place returns to a former quota."""
        self._returning.clear()

    def ended(self, since_ms: int) -> list[EndedReservation]:
        """Holds that were released or expired since, and were not claimed again."""
        return [ended for ended in self._ended.values() if ended.ended_at_ms > since_ms]

    def returning(self) -> Iterator[ReturningPlaces]:
        for heap in self._returning.values():
            yield from heap

    def _hold(self, event: Held) -> None:
        self._ended.pop(event.reservation_id, None)
        self._holds[event.reservation_id] = KeptReservation(
            quota=event.quota,
            state=State.HELD,
            fingerprint=event.fingerprint,
            deadline_ms=event.deadline_ms,
            held_seq=event.seq,
            seq=event.seq,
            reference="",
            persons=event.persons,
        )

    def _end(self, event: Ended, at_ms: int) -> None:
        """End a hold. A cancelled booking has its row; a hold from before the first entry is unknown."""
        hold = self._holds.pop(event.reservation_id, None)
        if hold is not None:
            self._ended[event.reservation_id] = EndedReservation(
                reservation_id=event.reservation_id,
                reservation=msgspec.structs.replace(hold, state=event.state, seq=event.seq),
                ended_at_ms=at_ms,
            )

    def _return(self, quota: str, places: int, at_ms: int) -> None:
        """End a return. The ledger runs a quota's timers in order, none before its time, and skips damaged ones."""
        heap = self._returning.get((quota, places))
        if heap and heap[0].at_ms <= at_ms:
            heapq.heappop(heap)
