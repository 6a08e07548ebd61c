"""The reads of a rebuild and a restoration from the records in memory, at one position."""

from collections.abc import AsyncIterator, Iterable

from reservasi.contents import EndedReservation, KeptReservation
from reservasi.events import JournalEntry
from reservasi.model import Opening, Position
from reservasi.records import JournalRow, KnownEvents, QuotaRow
from reservasi.records.effects import ENDED_BOOKING
from tests.simulation.tables import Tables, kept


class SimulatedStanding:
    """The same questions as those of `records.Standing`."""

    def __init__(
        self,
        tables: Tables,
        position: Position | None,
        journal: Iterable[JournalEntry],
        known: Iterable[KnownEvents],
    ) -> None:
        self.position = position
        self._tables = tables
        self._journal = list(journal)
        self._known = list(known)

    async def count_live(self) -> int:
        return sum(1 for _ in self._tables.live())

    async def quotas(self) -> list[QuotaRow]:
        return list(self._tables.quotas_in_ledger())

    async def retired_quotas(self, since_ms: int) -> list[QuotaRow]:
        return [row for row in self._tables.quotas.values() if row.retired_at_ms > since_ms]

    async def longest_ms(self, since_ms: int) -> tuple[int, int]:
        quotas = [*self._tables.quotas_in_ledger(), *await self.retired_quotas(since_ms)]
        hold_ms = max((row.terms.hold_ms for row in quotas), default=0)
        return hold_ms, max((row.terms.return_max_ms for row in quotas), default=0)

    async def openings(self) -> list[Opening]:
        return list(self._tables.openings.values())

    async def live(self) -> AsyncIterator[list[tuple[str, KeptReservation]]]:
        yield [(life.reservation_id, kept(life, life.state)) for life in self._tables.live()]

    async def ended_bookings(self, since_ms: int) -> AsyncIterator[list[EndedReservation]]:
        yield [
            EndedReservation(
                reservation_id=life.reservation_id, reservation=kept(life, life.state), ended_at_ms=life.ended_at_ms
            )
            for life, _ in self._tables.bookings.values()
            if life.state in ENDED_BOOKING and life.ended_at_ms > since_ms
        ]

    async def last_entry_at_ms(self) -> int:
        return self._journal[-1].at_ms if self._journal else 0

    async def removed_seq(self) -> int:
        return -1

    async def journal(self, since_ms: int) -> AsyncIterator[JournalRow]:
        rows = [(each.epoch, each.first_seq, each.at_ms, each.payload) for each in self._journal]
        rows += [(each.epoch, each.first_seq, each.at_ms, each.payload) for each in self._known]
        for _, first_seq, at_ms, payload in sorted(row for row in rows if row[2] >= since_ms):
            yield JournalRow(first_seq=first_seq, last_seq=first_seq, at_ms=at_ms, chain="", payload=payload)
