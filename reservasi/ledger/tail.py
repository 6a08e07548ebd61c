"""What only the journal's end can tell of a ledger: holds that ended lately, and places on their way back.

The records have no rows for these. Entries are read as they are packed, since an event is looked at once and most are
passed over. Pure.
"""

import heapq
from collections.abc import Iterator
from typing import Any

from reservasi.contents import EndedReservation, KeptReservation, ReturningPlaces
from reservasi.ledger.entries import readable
from reservasi.ledger.wire import STATES
from reservasi.model import State


class JournalTail:
    """Follows a program's last entries, in their order."""

    def __init__(self) -> None:
        self._holds: dict[str, KeptReservation] = {}
        self._ended: dict[str, EndedReservation] = {}
        self._returning: dict[str, list[ReturningPlaces]] = {}  # heaps: the earliest first

    def follow(self, first_seq: int, at_ms: int, payload: bytes) -> None:
        """Follow one entry."""
        given_back: list[ReturningPlaces] = []
        for seq, event in readable(first_seq, payload):
            kind = event[0]
            if kind == "h":
                self._hold(seq, event)
            elif kind == "c":
                self._holds.pop(event[1], None)
            elif kind == "e":
                self._end(seq, at_ms, event)
                if event[5]:
                    given_back.append(
                        ReturningPlaces(quota=event[3], at_ms=int(event[5]), seq=seq, places=int(event[4]))
                    )
            elif kind == "r":
                self._return(event[1], at_ms)
        for places in given_back:  # a call does not return what it gave back itself
            heapq.heappush(self._returning.setdefault(places.quota, []), places)

    def drop_returning(self) -> None:
        """The program was removed there: no place returns to a quota that it had then."""
        self._returning.clear()

    def ended(self, since_ms: int) -> list[EndedReservation]:
        """Holds that were released or expired since, and were not claimed again."""
        return [ended for ended in self._ended.values() if ended.ended_at_ms > since_ms]

    def returning(self) -> Iterator[ReturningPlaces]:
        """Places on their way back."""
        for heap in self._returning.values():
            yield from heap

    def _hold(self, seq: int, event: list[Any]) -> None:
        _, reservation_id, quota, deadline_ms, fingerprint, _sealed, persons = event
        self._ended.pop(reservation_id, None)
        self._holds[reservation_id] = KeptReservation(
            quota=quota,
            state=State.HELD,
            fingerprint=fingerprint,
            deadline_ms=int(deadline_ms),
            held_seq=seq,
            seq=seq,
            reference="",
            persons=tuple(persons),
        )

    def _end(self, seq: int, at_ms: int, event: list[Any]) -> None:
        """A booking that was cancelled has its row; a hold from before the first entry is not known."""
        state, reservation_id = event[1], event[2]
        hold = self._holds.pop(reservation_id, None)
        if hold is not None:
            self._ended[reservation_id] = EndedReservation(
                reservation_id=reservation_id,
                reservation=KeptReservation(
                    quota=hold.quota,
                    state=STATES[state],
                    fingerprint=hold.fingerprint,
                    deadline_ms=hold.deadline_ms,
                    held_seq=hold.held_seq,
                    seq=seq,
                    reference="",
                    persons=hold.persons,
                ),
                ended_at_ms=at_ms,
            )

    def _return(self, quota: str, at_ms: int) -> None:
        """The ledger runs a quota's timers in their order, the earliest first, and none before its time."""
        heap = self._returning.get(quota)
        if heap and heap[0].at_ms <= at_ms:
            heapq.heappop(heap)
