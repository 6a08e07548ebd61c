"""What the front works with, and the typed keys under which an application carries it."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

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


SERVICES = web.AppKey("services", FrontServices)
MEMORY = web.AppKey("memory", Memory)
NETWORKS = web.AppKey("networks", Networks)
RATES = web.AppKey("rates", RateLimits)
LIVE = web.AppKey("live", Live)
READERS = web.AppKey("readers", Readers)  # the live streams that are open in this process
STOPPING = web.AppKey("stopping", asyncio.Event)  # set at shutdown: streams end, and no connection is kept
