"""The content of a ledger at one moment, read from the ledger or from the records. Pure."""

import hashlib
from collections.abc import Container

import msgspec

from reservasi.events import JournalEntry
from reservasi.model import APPLICANTS_MAX, Opening, Position, Quota, State

REFERENCE_CHARS = 8  # of a payment reference's hash, as stored by `lua/confirm.lua`
DIGEST_ONLY = "sha1:"  # prefix of a digest in place of a payment reference that is unknown; references have no colon


class KeptReservation(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """A reservation as the ledger stores it."""

    quota: str
    state: State
    fingerprint: str
    deadline_ms: int
    held_seq: int
    seq: int  # of its last change
    reference: str  # of its payment; the ledger stores `reference_digest` of it
    persons: tuple[str, ...]

    @property
    def places(self) -> int:
        """One place per person."""
        return len(self.persons)


class EndedReservation(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What a replay is answered from, until it is forgotten."""

    reservation_id: str
    reservation: KeptReservation
    ended_at_ms: int


class ReturningPlaces(msgspec.Struct, kw_only=True, frozen=True, order=True, gc=False):
    """Returned places that cannot be claimed yet."""

    quota: str
    at_ms: int  # when they can be claimed
    seq: int  # of the change that returned them
    places: int

    @property
    def timer(self) -> str:
        """The name of the ledger's timer for them."""
        return f"+{self.seq}:{self.places}"


class Envelope(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What only the journal has of a hold."""

    sealed: str
    held_at_ms: int


class Confirmation(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What only the journal has of a confirmation."""

    payment_reference: str
    confirmed_at_ms: int


class LedgerState(msgspec.Struct, kw_only=True, frozen=True):
    """The state of a program in a fenced ledger and its journal, to complete records that are an older copy."""

    position: Position
    lineage: tuple[tuple[int, int], ...]  # each epoch and the last seq before it, ascending, as far as known
    quotas: list[Quota]
    openings: list[Opening]
    live: dict[str, KeptReservation]
    ended: dict[str, EndedReservation]  # kept for replays
    returning: list[ReturningPlaces]
    retired_quotas: dict[str, int]  # quota -> time at which it left the ledger, while a tombstone names it
    entries: list[JournalEntry]  # the end of the journal, without a gap up to `position`
    envelopes: dict[tuple[str, int], Envelope]  # by reservation and seq of the hold
    confirmations: dict[tuple[str, int], Confirmation]  # by reservation and seq of the confirmation
    unreadable: tuple[str, ...] = ()  # quotas and reservations whose stored value cannot be read

    @property
    def first_told_seq(self) -> int:
        """The first change whose journal entry exists."""
        return self.entries[0].first_seq if self.entries else self.position.seq + 1

    def epoch_of(self, seq: int) -> int:
        """The epoch under which a change was accepted."""
        return max((epoch for epoch, base_seq in self.lineage if base_seq < seq), default=self.position.epoch)


def can_be_recorded(kept: KeptReservation, quotas: Container[str]) -> bool:
    """Whether a live reservation fits a row: a damaged one may be readable, but without a quota or persons."""
    return 1 <= kept.places <= APPLICANTS_MAX and kept.quota in quotas


def reference_digest(payment_reference: str) -> str:
    """What the ledger stores of a payment reference."""
    if not payment_reference:
        return ""
    if payment_reference.startswith(DIGEST_ONLY):
        return payment_reference.removeprefix(DIGEST_ONLY)
    return hashlib.sha1(payment_reference.encode(), usedforsecurity=False).hexdigest()[:REFERENCE_CHARS]


def same_reference(given: str, recorded: str) -> bool:
    """Whether a payment reference equals the recorded one, of which only the digest may be known."""
    if recorded.startswith(DIGEST_ONLY):
        return reference_digest(given) == reference_digest(recorded)
    return given == recorded
