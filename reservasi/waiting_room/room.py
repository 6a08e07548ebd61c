"""What callers may ask of waiting rooms: join, read a ticket, know a number; and staff: create and steer openings.

Nothing is kept of a person who waits: their ticket says who they are, and the draw which number they have.
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
    """Everything a front asks about waiting, over all programs."""

    def __init__(self, sealing: Sealing, availability: Availability) -> None:
        self._sealing = sealing
        self._availability = availability
        self._tickets = Tickets(sealing.rotating_keys("ticket"))
        self._groups: dict[str, GroupCommit] = {}
        self._seeds: dict[str, bytes] = {}  # by envelope: unsealed once in a process
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
        """An opening that was created, and its program."""
        program = self._availability.program_of_opening(opening_id)
        opening = self._availability.opening(opening_id, program) if program else None
        if program is None or opening is None or program not in self._groups:
            return None
        return program, opening

    async def complete(self, opening_id: str) -> None:
        """Wait until memory has what had happened by now in the program whose opening that may be, or cannot know.

        An opening's id begins with its program's.
        """
        for program in self._groups:
            if opening_id.startswith(f"{program}-"):
                await self._availability.complete(program)

    # -- joining -------------------------------------------------------------------------------------------------

    def person(self, program: str, nik: str) -> str:
        """A person as the ledger knows them."""
        return self._sealing.person(program, nik)

    def ticket_id(self, program: str, opening: str, person: str) -> str:
        """The id of a person's one ticket to an opening."""
        return self._sealing.ticket_id(program, opening, person)

    def admits_joins(self, program: str) -> bool:
        """Whether a join in the program would be taken now, rather than refused as one too many."""
        group = self._groups.get(program)
        return group is None or group.admits_claims

    async def join(self, program: str, opening: str, ticket_id: str) -> Answer:
        """Count the holder of a ticket among those who wait; again changes nothing.

        Outcomes: JOINED (with a number after the opening), NOT_OPEN (`opens_at_ms`: when joining begins), CLOSED (the
        waiting room has ended), NO_WAITING_ROOM, UNKNOWN_OPENING.

        Raises:
            Overloaded, LedgerUnreachable, LedgerFenced: nothing definite can be said; it may be repeated.
        """
        return await self._groups[program].submit(Join(opening=opening, ticket_id=ticket_id))

    def enqueue(self, program: str, command: Join, resolve: Resolve) -> Submitted:
        """As `join`, without a task: `resolve` gets what it returns or raises.

        Raises:
            Overloaded: too many wait: `resolve` is not called.
        """
        return self._groups[program].enqueue(command, resolve)

    def ticket(self, program: str, opening: Opening, ticket_id: str, answer: Answer) -> tuple[str, int | None]:
        """The signed ticket for whoever joined, and the number that it gives at once: to late arrivals only."""
        number = answer.number if answer.number >= 0 else None
        return self._tickets.issue(program, opening.id, ticket_id, opening.terms.ends_at_ms, number), number

    # -- claiming ------------------------------------------------------------------------------------------------

    def read(self, ticket: str) -> Ticket:
        """What a ticket says.

        Raises:
            TicketInvalid: it does not count.
        """
        return self._tickets.read(ticket)

    def number_of(self, ticket: Ticket, opening: Opening, now_ms: int) -> int | None:
        """The ticket's place; None before the draw."""
        if ticket.number is not None:
            return ticket.number
        seed = self.seed_of(opening, now_ms)
        return None if seed is None else draw.number(seed, ticket.id, opening.beacon, opening.joined)

    def seed_of(self, opening: Opening, now_ms: int) -> bytes | None:
        """The seed, from the opening on: the ledger has drawn, and its clock says so here as well; None before.

        Raises:
            SealBroken: the key that sealed it is no longer in the ring.
            LedgerFault: it is not the seed that the opening was created with.
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
        VERSION_MISMATCH, TOO_LATE (what is to be changed is fixed), CLOSED (it has ended), OPENING_CANCELLED. Of a move
        also MOMENT_INVALID, MOMENT_TAKEN (`opening` or `quota`), QUOTA_CLOSES (`quota`), TOO_MANY_QUOTAS.
        """
        return await self._groups[program].submit(command)


def needs_ticket(opening: Opening, now_ms: int) -> bool:
    """Whether its quotas are claimed with a ticket, now or once it opens."""
    return opening.terms.waiting_room and not opening.cancelled and not ended(opening, now_ms)


def ended(opening: Opening, now_ms: int) -> bool:
    """Whether the waiting room is over."""
    return now_ms >= last_end_ms(opening)
