"""What callers may ask of reservations: claim, confirm, cancel, find; and staff: set a quota.

The front and the command line come through here. Each call answers with the ledger's `Answer`; only faults raise.
"""

from datetime import date

import msgspec

from reservasi.model import Answer, SetQuota


class Applicant(msgspec.Struct, frozen=True, kw_only=True):
    """One person who needs a place, validated."""

    nik: str  # 16 ASCII digits, checked
    name: str
    birth_date: date


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the group; either may be empty."""

    email: str = ""
    phone: str = ""


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A validated request for places."""

    quota: str
    applicants: tuple[Applicant, ...]  # 1..the program's applicants_max, distinct NIKs
    contact: Contact
    idempotency_key: str


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a confirm."""

    answer: Answer
    recorded: bool  # whether PostgreSQL has it: 200, else 202


class Reservations:
    """Everything a front asks of the ledger, over all programs."""

    async def claim(self, request: ClaimRequest) -> tuple[str, Answer]:
        """Try to take one place for each applicant.

        Returns the reservation id and an answer whose outcome is HELD, EXISTS (a replay: the first answer again),
        EXISTS_WITH_DIFFERENT_CONTENT, UNKNOWN_QUOTA, CLOSED, NOT_OPEN, DUPLICATE_APPLICANT or SOLD_OUT.

        Raises:
            Overloaded, LedgerUnreachable, LedgerFenced: nothing definite can be said; the same request may be repeated.
        """
        raise NotImplementedError

    async def confirm(self, reservation_id: str, payment_reference: str) -> Confirmation:
        """Make a hold permanent, and wait a bounded time until it is recorded.

        Outcomes: CONFIRMED, EXISTS (it was confirmed before), HOLD_EXPIRED, NOT_HELD, NOT_FOUND.
        """
        raise NotImplementedError

    async def cancel(self, reservation_id: str, *, by_staff: bool = False) -> Answer:
        """End a reservation: a hold is released, a confirmed one is cancelled.

        Outcomes: RELEASED, CANCELLED, EXISTS (it was ended so before; `state` says how), HOLD_EXPIRED, TOO_LATE,
        NOT_FOUND.
        """
        raise NotImplementedError

    async def find(self, reservation_id: str) -> Answer:
        """Look a reservation up: FOUND (state, quota, places, deadline) or NOT_FOUND."""
        raise NotImplementedError

    async def set_quota(self, command: SetQuota) -> Answer:
        """Create or change a quota.

        Outcomes: QUOTA_SET, EXISTS (nothing to change), UNKNOWN_QUOTA, BELOW_TAKEN, VERSION_MISMATCH.
        """
        raise NotImplementedError

    def manage_token(self, reservation_id: str) -> str:
        """The bearer secret of a reservation: derived, so that a replay returns it again."""
        raise NotImplementedError

    def holds_manage_token(self, reservation_id: str, token: str) -> bool:
        """Whether `token` is the reservation's bearer secret, compared in constant time."""
        raise NotImplementedError

    def booking_code(self, reservation_id: str) -> str:
        """What the person shows at the counter, such as `K7QF-3M2P-XW8D`."""
        raise NotImplementedError
