"""The context of all handlers: the services, and what one front process keeps for its answers."""

import asyncio
from dataclasses import dataclass

from reservasi.front.api.cors import Cors
from reservasi.front.deciding.rate_limits import RateLimits
from reservasi.front.http.client_networks import Networks
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache
from reservasi.front.views.live_feed import Live, Readers


@dataclass(frozen=True)
class Front:
    """The services, and the caches of this process."""

    services: FrontServices
    cache: AnswerCache
    networks: Networks
    rates: RateLimits
    live: Live
    readers: Readers  # the open live streams
    cors: Cors
    stopping: asyncio.Event  # set at shutdown: streams end, and no connection is kept
