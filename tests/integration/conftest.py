"""A program's journal, written by hand, so that a test decides what the ledger accepted; and records to put it in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgpack
import pytest

from reservasi.model import (
    Confirmed,
    Ended,
    Held,
    JournalEntry,
    Position,
    QuotaSet,
    QuotaTerms,
    Returned,
    State,
    chain_hash,
)
from reservasi.records import Records, upgrade

AT_MS = 1_780_000_000_000
LETTERS = {State.RELEASED: "r", State.EXPIRED: "x", State.CANCELLED: "k"}


def quota_terms(capacity: int) -> QuotaTerms:
    return QuotaTerms(
        capacity=capacity,
        opens_at_ms=0,
        closes_at_ms=0,
        cancel_until_ms=0,
        hold_ms=7_200_000,
        return_min_ms=0,
        return_max_ms=0,
        closed=False,
        office="kanim",
        service="baru",
        channel="online",
        date="2026-12-01",
        start="08:00",
        end="09:00",
    )


def packed(event: Held | Confirmed | Ended | Returned | QuotaSet) -> list[object]:
    """An event as the ledger packs it."""
    match event:
        case Held():
            sealed = [event.fingerprint, event.sealed, list(event.persons)]
            return ["h", event.reservation_id, event.quota, event.deadline_ms, *sealed]
        case Confirmed():
            return ["c", event.reservation_id, event.quota, event.places, event.payment_reference]
        case Ended():
            return ["e", LETTERS[event.state], event.reservation_id, event.quota, event.places, event.returns_at_ms]
        case Returned():
            return ["r", event.quota, event.places]
        case QuotaSet():
            terms = [getattr(event.terms, name) for name in QuotaTerms.__struct_fields__]
            return ["q", event.quota, event.version, [int(term) if term is False else term for term in terms]]


@dataclass
class JournalWriter:
    """Writes a journal as the ledger would; nothing checks that the ledger would accept it."""

    epoch: int = 1
    position: Position | None = None
    versions: dict[str, int] = field(default_factory=dict)
    claims: dict[str, tuple[str, int]] = field(default_factory=dict)
    events: list[Held | Confirmed | Ended | Returned | QuotaSet] = field(default_factory=list)

    @property
    def seq(self) -> int:
        return (self.position.seq if self.position else 0) + len(self.events) + 1

    def quota_set(self, quota: str, capacity: int) -> None:
        self.versions[quota] = self.versions.get(quota, 0) + 1
        self.events.append(
            QuotaSet(seq=self.seq, quota=quota, version=self.versions[quota], terms=quota_terms(capacity))
        )

    def held(self, reservation_id: str, quota: str, *persons: str) -> None:
        self.claims[reservation_id] = (quota, len(persons))
        self.events.append(
            Held(
                seq=self.seq,
                reservation_id=reservation_id,
                quota=quota,
                deadline_ms=AT_MS + 7_200_000,
                fingerprint=f"fingerprint of {reservation_id}",
                sealed=f"sealed {reservation_id}",
                persons=persons,
            )
        )

    def confirmed(self, reservation_id: str) -> None:
        quota, places = self.claims.get(reservation_id, ("q", 1))
        self.events.append(
            Confirmed(seq=self.seq, reservation_id=reservation_id, quota=quota, places=places, payment_reference="paid")
        )

    def ended(self, reservation_id: str, state: State) -> None:
        quota, places = self.claims.get(reservation_id, ("q", 1))
        self.events.append(
            Ended(
                seq=self.seq,
                state=state,
                reservation_id=reservation_id,
                quota=quota,
                places=places,
                returns_at_ms=AT_MS + self.seq,
            )
        )

    def returned(self, quota: str, places: int) -> None:
        self.events.append(Returned(seq=self.seq, quota=quota, places=places))

    def entry(self) -> JournalEntry:
        """Close the batch: all events since the last one."""
        first_seq = self.seq - len(self.events)
        payload: bytes = msgpack.packb([packed(event) for event in self.events], use_bin_type=False)
        at_ms = AT_MS + first_seq
        chain = chain_hash(self.position.chain if self.position else "", self.epoch, first_seq, at_ms, payload)
        entry = JournalEntry(
            epoch=self.epoch,
            first_seq=first_seq,
            at_ms=at_ms,
            chain=chain,
            payload=payload,
            events=tuple(self.events),
        )
        self.position, self.events = entry.position, []
        return entry


@pytest.fixture
def writer() -> JournalWriter:
    """An empty journal."""
    return JournalWriter()


@pytest.fixture
async def records(database: str) -> AsyncIterator[Records]:
    """Records in a database of their own, at the newest schema."""
    await upgrade(database)
    opened = await Records.open(database, 4)
    yield opened
    await opened.close()
