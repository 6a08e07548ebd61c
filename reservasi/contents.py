"""What a ledger holds at one moment, as the records can tell it too: what is loaded, and what is compared. Pure."""

import hashlib

import msgspec

from reservasi.model import State

REFERENCE_CHARS = 8  # of a payment reference's hash, as `lua/confirm.lua` keeps it


class KeptReservation(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """A reservation as the ledger keeps it."""

    quota: str
    state: State
    fingerprint: str
    deadline_ms: int
    held_seq: int
    seq: int  # of its last change
    reference: str  # of its payment; the ledger keeps `reference_digest` of it
    persons: tuple[str, ...]

    @property
    def places(self) -> int:
        """One place a person."""
        return len(self.persons)


class EndedReservation(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What a replay is answered from, until it is forgotten."""

    reservation_id: str
    reservation: KeptReservation
    ended_at_ms: int


class ReturningPlaces(msgspec.Struct, kw_only=True, frozen=True, order=True, gc=False):
    """Places that were given back and cannot be claimed yet."""

    quota: str
    at_ms: int  # when they can be
    seq: int  # of the change that gave them back
    places: int

    @property
    def timer(self) -> str:
        """What the ledger's timer of them is called."""
        return f"+{self.seq}:{self.places}"


def reference_digest(payment_reference: str) -> str:
    """What the ledger keeps of a payment reference."""
    if not payment_reference:
        return ""
    return hashlib.sha1(payment_reference.encode(), usedforsecurity=False).hexdigest()[:REFERENCE_CHARS]
