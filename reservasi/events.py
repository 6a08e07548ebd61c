"""Events: the content of a program's journal, entry by entry."""

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
        """One place per person."""
        return len(self.persons)


class Confirmed(Event, frozen=True, kw_only=True):
    """A hold became permanent."""

    reservation_id: str
    quota: str
    places: int
    payment_reference: str


class NamedEvent(Event, frozen=True, kw_only=True):
    """A change that may name its actor and reason."""

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
    """Returned places can be claimed again."""

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
    """An opening was created or changed, or its waiting room advanced; has the whole state afterwards."""

    opening: Opening


class OpeningRetired(Event, frozen=True, kw_only=True):
    """An opening that had ended left the ledger."""

    opening: str


class Unreadable(Event, frozen=True, kw_only=True):
    """A change that this version cannot read: of a kind of a later version, or with unexpected fields."""

    letter: str  # its kind; "" if that is not text
    why: str
    packed: bytes  # the packed event
    reservation_id: str | None = None  # if it can be determined
    texts: tuple[str, ...] = ()  # all texts in it, by which a person's data is found
    envelopes: tuple[str, ...] = ()  # envelopes of the entry that no readable event names


AnyEvent: TypeAlias = (
    Held | Confirmed | Ended | Returned | QuotaSet | QuotaRetired | OpeningSet | OpeningRetired | Unreadable
)


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One batch's accepted changes."""

    epoch: int
    first_seq: int
    at_ms: int
    chain: str  # over the previous entry's chain and this entry
    payload: bytes  # the events as packed by the ledger; covered by `chain`
    events: tuple[AnyEvent, ...]

    @property
    def position(self) -> Position:
        return Position(epoch=self.epoch, seq=self.first_seq + len(self.events) - 1, chain=self.chain)


def chain_hash(previous: str, epoch: int, first_seq: int, at_ms: int, payload: bytes) -> str:
    """The hash that links a journal entry to the previous one, as computed by `lua/committing.lua`.

    SHA-1 is the only hash in a Redis function. The chain detects loss and divergence; it does not protect the journal
    from forgery.
    """
    head = f"{previous}:{epoch}:{first_seq}:{at_ms}:".encode()
    return hashlib.sha1(head + payload, usedforsecurity=False).hexdigest()
