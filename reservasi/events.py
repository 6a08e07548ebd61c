"""Events: what a program's journal says, entry by entry."""

import hashlib
from typing import TypeAlias

import msgspec

from reservasi.model import Opening, Position, QuotaTerms, State


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted change."""

    seq: int


class Held(Event, frozen=True, kw_only=True):
    """Places were claimed."""

    reservation_id: str
    quota: str
    deadline_ms: int
    fingerprint: str
    sealed: str
    persons: tuple[str, ...]

    @property
    def places(self) -> int:
        """One place a person."""
        return len(self.persons)


class Confirmed(Event, frozen=True, kw_only=True):
    """A hold became permanent."""

    reservation_id: str
    quota: str
    places: int
    payment_reference: str


class NamedEvent(Event, frozen=True, kw_only=True):
    """A change that may name who made it and why."""

    actor: str = ""
    reason: str = ""


class Ended(NamedEvent, frozen=True, kw_only=True):
    """A reservation ended; its places return at `returns_at_ms` (0: at once)."""

    state: State  # RELEASED, EXPIRED, CANCELLED or RETIRED
    reservation_id: str
    quota: str
    places: int
    returns_at_ms: int


class Returned(Event, frozen=True, kw_only=True):
    """Places given back earlier can be claimed again."""

    quota: str
    places: int


class QuotaSet(NamedEvent, frozen=True, kw_only=True):
    """A quota was created or changed."""

    quota: str
    version: int
    terms: QuotaTerms
    imported: tuple[int, ...] = ()  # `Quota.imported`


class QuotaRetired(Event, frozen=True, kw_only=True):
    """A quota whose window is over has left the ledger."""

    quota: str


class OpeningSet(NamedEvent, frozen=True, kw_only=True):
    """An opening was created or changed, or its waiting room moved on: the whole of it afterwards."""

    opening: Opening


class OpeningRetired(Event, frozen=True, kw_only=True):
    """An opening that had ended left the ledger."""

    opening: str


class Unreadable(Event, frozen=True, kw_only=True):
    """A change that this version cannot read: of a kind that a later one added, or with fields that do not fit."""

    letter: str  # its kind as it is written; "" where that is no text
    why: str
    packed: bytes  # the event as the entry has it
    reservation_id: str | None = None  # where one can be made out
    texts: tuple[str, ...] = ()  # all that it has, by which what belongs to a person is found
    envelopes: tuple[str, ...] = ()  # those beside the entry that no readable event names


AnyEvent: TypeAlias = (
    Held | Confirmed | Ended | Returned | QuotaSet | QuotaRetired | OpeningSet | OpeningRetired | Unreadable
)


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One batch's accepted changes."""

    epoch: int
    first_seq: int
    at_ms: int
    chain: str  # over the previous entry's chain and this entry
    payload: bytes  # the events as the ledger packed them; what `chain` covers
    events: tuple[AnyEvent, ...]

    @property
    def position(self) -> Position:
        """The position after this entry."""
        return Position(epoch=self.epoch, seq=self.first_seq + len(self.events) - 1, chain=self.chain)


def chain_hash(previous: str, epoch: int, first_seq: int, at_ms: int, payload: bytes) -> str:
    """The hash that ties a journal entry to the one before it, as `lua/committing.lua` computes it.

    SHA-1 is the only hash a Redis function offers. The chain finds loss and divergence; it is not what protects the
    journal from forgery.
    """
    head = f"{previous}:{epoch}:{first_seq}:{at_ms}:".encode()
    return hashlib.sha1(head + payload, usedforsecurity=False).hexdigest()
