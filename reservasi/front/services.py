"""What a front works with: the services behind it, and what one process keeps in memory for its answers."""

import asyncio
from dataclasses import dataclass

from reservasi.availability import Availability
from reservasi.catalogue import Catalogue
from reservasi.front.live import Live, Readers
from reservasi.front.memory import Memory
from reservasi.front.networks import Networks
from reservasi.front.rate_limits import RateLimits
from reservasi.reservations import Reservations
from reservasi.settings import Settings
from reservasi.waiting_room.room import WaitingRoom


@dataclass(frozen=True)
class FrontServices:
    """The parts of the graph that answer requests; opened and closed by `bootstrap`."""

    settings: Settings
    reservations: Reservations
    availability: Availability
    catalogue: Catalogue
    waiting_room: WaitingRoom


@dataclass(frozen=True)
class Front:
    """The same, and what this process keeps: every handler gets it."""

    services: FrontServices
    memory: Memory
    networks: Networks
    rates: RateLimits
    live: Live
    readers: Readers  # the live streams that are open
    stopping: asyncio.Event  # set at shutdown: streams end, and no connection is kept
