"""Operations on waiting rooms: joining, reading tickets, numbers; for staff, creating and controlling openings.

Nothing is stored about a waiting person: the ticket identifies them, and the draw gives their number.
"""

from reservasi.availability import Availability
from reservasi.errors import LedgerFault
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.submitted import Resolve, Submitted
from reservasi.model import Answer, Join, MoveOpening, Opening, SetOpening
from reservasi.sealing import Sealing
from reservasi.waiting_room import draw
from reservasi.waiting_room.challenges import Challenges
from reservasi.waiting_room.state import last_end_ms
from reservasi.waiting_room.tickets import Ticket, Tickets

SEEDS_KEPT_MAX = 1000


class WaitingRoom:
    """All waiting-room operations of a front, over all programs."""

    def __init__(self, sealing: Sealing, availability: Availability) -> None:
        self._sealing = sealing
        self._availability = availability
        self._tickets = Tickets(sealing.rotating_keys("ticket"))
        self._groups: dict[str, GroupCommit] = {}
        self._seeds: dict[str, bytes] = {}  # unsealed seeds by envelope
        self.challenges = Challenges(sealing.rotating_keys("proof-of-work"))
        sealing.on_rotation(self._renew_keys)
        self.sealing = sealing

    def _renew_keys(self) -> None:
        self._tickets = Tickets(self._sealing.rotating_keys("ticket"))
        self.challenges.renew(self._sealing.rotating_keys("proof-of-work"))

    def serve(self, program: str, group: GroupCommit) -> None:
        """Take commands for a program from now on."""
        self._groups[program] = group

    def leave(self, program: str) -> None:
        """Take no more commands for a program."""
        self._groups.pop(program, None)

    def find(self, opening_id: str) -> tuple[str, Opening] | None:
        """An opening and its program; None if there is none."""
        program = self._availability.program_of_opening(opening_id)
        opening = self._availability.opening(opening_id, program) if program else None
        if program is None or opening is None or program not in self._groups:
            return None
        return program, opening

    async def complete(self, opening_id: str) -> None:
        """Wait until the view of the program to which the opening id may belong is complete, or cannot be.

        An opening's id begins with its program's id.
        """
        for program in self._groups:
            if opening_id.startswith(f"{program}-"):
                await self._availability.complete(program)

    # -- joining -------------------------------------------------------------------------------------------------

    def person(self, program: str, nik: str) -> str:
        """The person's keyed hash in the program."""
        return self._sealing.person(program, nik)

    def ticket_id(self, program: str, opening: str, person: str) -> str:
        """The id of a person's one ticket to an opening."""
        return self._sealing.ticket_id(program, opening, person)

    def admits_joins(self, program: str) -> bool:
        """Whether the queue has room for a join in the program."""
        group = self._groups.get(program)
        return group is None or group.admits_claims

    async def join(self, program: str, opening: str, ticket_id: str) -> Answer:
        """Count the holder of a ticket as waiting; repeating it changes nothing.

        Outcomes: JOINED (with a number after the opening), NOT_OPEN (`opens_at_ms`: when joining begins), CLOSED (the
        waiting room has ended), NO_WAITING_ROOM, UNKNOWN_OPENING.

        Raises:
            Overloaded, LedgerUnreachable, LedgerFenced: the result is unknown; the call may be repeated.
        """
        return await self._groups[program].submit(Join(opening=opening, ticket_id=ticket_id))

    def enqueue(self, program: str, command: Join, resolve: Resolve) -> Submitted:
        """Like `join`, without a task: `resolve` gets the result or the exception.

        Raises:
            Overloaded: the queue is full; `resolve` is not called.
        """
        return self._groups[program].enqueue(command, resolve)

    def ticket(self, program: str, opening: Opening, ticket_id: str, answer: Answer) -> tuple[str, int | None]:
        """The signed ticket, and the number, which only late arrivals get at once."""
        number = answer.number if answer.number >= 0 else None
        return self._tickets.issue(program, opening.id, ticket_id, opening.terms.ends_at_ms, number), number

    # -- claiming ------------------------------------------------------------------------------------------------

    def read(self, ticket: str) -> Ticket:
        """The content of a ticket.

        Raises:
            TicketInvalid: the ticket is not valid.
        """
        return self._tickets.read(ticket)

    def number_of(self, ticket: Ticket, opening: Opening, now_ms: int) -> int | None:
        """The ticket's number; None before the draw."""
        if ticket.number is not None:
            return ticket.number
        seed = self.seed_of(opening, now_ms)
        return None if seed is None else draw.number(seed, ticket.id, opening.beacon, opening.joined)

    def seed_of(self, opening: Opening, now_ms: int) -> bytes | None:
        """The seed, once the ledger has drawn and its clock has passed the opening; None before.

        Raises:
            SealBroken: the key that sealed it is no longer in the ring.
            LedgerFault: it is not the seed of the commitment.
        """
        if not opening.drawn or now_ms < opening.terms.opens_at_ms:
            return None
        seed = self._seeds.get(opening.terms.sealed_seed)
        if seed is None:
            seed = bytes.fromhex(self._sealing.open(opening.id, opening.terms.sealed_seed).decode())
            if draw.commitment(seed) != opening.terms.commitment:
                raise LedgerFault(f"the seed of opening {opening.id} is not the one that was committed to")
            if len(self._seeds) >= SEEDS_KEPT_MAX:
                self._seeds.clear()
            self._seeds[opening.terms.sealed_seed] = seed
        return seed

    # -- staff ---------------------------------------------------------------------------------------------------

    async def set_opening(self, program: str, command: SetOpening | MoveOpening) -> Answer:
        """Create or change an opening, or move it with its quotas.

        Outcomes: OPENING_SET, EXISTS (nothing to change), EXISTS_WITH_DIFFERENT_CONTENT, UNKNOWN_OPENING,
        VERSION_MISMATCH, TOO_LATE (the field can no longer change), CLOSED (it has ended), OPENING_CANCELLED. For a
        move also MOMENT_INVALID, MOMENT_TAKEN (`opening` or `quota`), QUOTA_CLOSES (`quota`), TOO_MANY_QUOTAS.
        """
        return await self._groups[program].submit(command)


def needs_ticket(opening: Opening, now_ms: int) -> bool:
    """Whether its quotas can only be claimed with a ticket, now or after it opens."""
    return opening.terms.waiting_room and not opening.cancelled and not ended(opening, now_ms)


def ended(opening: Opening, now_ms: int) -> bool:
    return now_ms >= last_end_ms(opening)
