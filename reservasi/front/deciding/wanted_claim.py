"""The input of the claim policy: request, quota, persons and reservation id."""

from reservasi.front.services import FrontServices
from reservasi.model import Quota
from reservasi.reservations import ClaimRequest
from reservasi.waiting_room.room import WaitingRoom
from reservasi.waiting_room.tickets import Ticket


class Wanted:
    """A well-formed claim of a known quota."""

    __slots__ = ("_ticket", "claim", "persons", "program", "quota", "reservation_id")

    def __init__(self, services: FrontServices, program: str, claim: ClaimRequest, quota: Quota) -> None:
        reservations = services.reservations
        persons = reservations.persons(program, claim)
        self._ticket: Ticket | None = None
        self.claim = claim
        self.quota = quota
        self.program = program
        self.persons = persons
        self.reservation_id = reservations.reservation_id(program, persons, claim)

    def ticket(self, room: WaitingRoom) -> Ticket:
        """The content of its ticket, read once.

        Raises:
            TicketInvalid: the ticket is not valid.
        """
        if self._ticket is None:
            self._ticket = room.read(self.claim.ticket)
        return self._ticket
