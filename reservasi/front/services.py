"""The services of a front; opened and closed by `bootstrap`."""

from dataclasses import dataclass

from reservasi.availability import Availability
from reservasi.catalogue import Catalogue
from reservasi.reservations import Reservations
from reservasi.settings import Settings
from reservasi.waiting_room.room import WaitingRoom


@dataclass(frozen=True)
class FrontServices:
    """The part of the object graph that answers requests."""

    settings: Settings
    reservations: Reservations
    availability: Availability
    catalogue: Catalogue
    waiting_room: WaitingRoom
