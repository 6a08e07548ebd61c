"""Verifies a draw: the seed against its commitment, and the numbers against the seed.

Uses public data only: the opening's queue document and tickets. With the key ring, the tickets' signatures can be
checked as well.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import msgspec

from reservasi.errors import ReservasiError
from reservasi.waiting_room import draw
from reservasi.waiting_room.tickets import Ticket, TicketInvalid, Tickets, read_unverified

Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0)]


class DocumentInvalid(ReservasiError):
    """A document is not a queue document."""


class Problem(StrEnum):
    """What may be wrong with a draw."""

    NOT_REVEALED = "not-revealed"
    COMMITMENT_DIFFERS = "commitment-differs"
    TICKET_MALFORMED = "ticket-malformed"
    TICKET_FOR_OTHER_OPENING = "ticket-for-other-opening"
    SIGNATURE_WRONG = "signature-wrong"
    NUMBER_DIFFERS = "number-differs"


class PublicDraw(msgspec.Struct, frozen=True, kw_only=True):
    """The draw in an opening's queue document."""

    joined: Count
    commitment: Digest
    seed: Digest | None = None  # from the opening on
    beacon: str = ""


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket and its claimed number."""

    ticket: str
    number: int | None = None


class Recomputed(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket's number computed from the public data; None if it cannot be computed."""

    ticket_id: str
    number: int | None
    joined_before_opening: bool


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One disagreement."""

    problem: Problem
    ticket: int  # index of the ticket, from 1; 0 for the draw itself
    said: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result for an opening."""

    findings: list[Finding]
    numbers: list[Recomputed]  # of each readable ticket, in the order given

    @property
    def agrees(self) -> bool:
        """Whether there is no finding."""
        return not self.findings


def read_public_draw(document: object) -> PublicDraw:
    """Read the draw from a queue document decoded from JSON; other members are ignored.

    Raises:
        DocumentInvalid: a member is missing or invalid.
    """
    try:
        return msgspec.convert(document, PublicDraw)
    except msgspec.ValidationError as error:
        raise DocumentInvalid(f"this is not an opening's queue document: {error}") from error


def verify_draw(
    public: PublicDraw,
    opening: str,
    tickets: Iterable[Claimed],
    *,
    noted_commitment: str = "",
    reader: Tickets | None = None,
) -> Verdict:
    """Compute the draw again and compare it.

    `noted_commitment` is a commitment noted before the opening; `reader` also checks signatures.
    """
    findings: list[Finding] = []

    def note(problem: Problem, text: str, ticket: int = 0) -> None:
        findings.append(Finding(problem=problem, ticket=ticket, said=text))

    if noted_commitment and noted_commitment.lower() != public.commitment:
        note(Problem.COMMITMENT_DIFFERS, "the commitment is not the one noted before the opening")
    seed = None if public.seed is None else bytes.fromhex(public.seed)
    if seed is None:
        note(Problem.NOT_REVEALED, "the seed is not public yet")
    elif draw.commitment(seed) != public.commitment:
        note(Problem.COMMITMENT_DIFFERS, "the seed is not the one that was committed to: its SHA-256 differs")
    numbers = []
    for at, claimed in enumerate(tickets, 1):
        try:
            ticket = read_unverified(claimed.ticket)
        except TicketInvalid as error:
            note(Problem.TICKET_MALFORMED, str(error), at)
            continue
        if ticket.opening != opening:
            note(Problem.TICKET_FOR_OTHER_OPENING, f"the ticket is for {ticket.opening}", at)
            continue
        if reader is not None and not _signed(reader, claimed.ticket):
            note(Problem.SIGNATURE_WRONG, "the ticket was not signed with a key of this ring, or was altered", at)
        number = _number(public, seed, ticket)
        numbers.append(Recomputed(ticket_id=ticket.id, number=number, joined_before_opening=ticket.number is None))
        if ticket.number is not None and ticket.number < public.joined:
            text = f"number {ticket.number} came after the opening, yet {public.joined} had joined before it"
            note(Problem.NUMBER_DIFFERS, text, at)
        if claimed.number is not None and number is not None and claimed.number != number:
            note(Problem.NUMBER_DIFFERS, f"the number is {number}, not {claimed.number}", at)
    return Verdict(findings=findings, numbers=numbers)


def _number(public: PublicDraw, seed: bytes | None, ticket: Ticket) -> int | None:
    if ticket.number is not None:
        return ticket.number
    return None if seed is None else draw.number(seed, ticket.id, public.beacon, public.joined)


def _signed(reader: Tickets, text: str) -> bool:
    try:
        reader.read(text)
    except TicketInvalid:
        return False
    return True
