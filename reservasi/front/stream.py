"""`GET /v1/availability/stream`: changes as server-sent events, for pages that show places live."""

import asyncio

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from reservasi.front.answering import STATIC_HEADERS
from reservasi.front.keys import LIVE, READERS, SERVICES, STOPPING
from reservasi.front.live import START, Feed
from reservasi.front.problem_types import TOO_MANY_STREAMS
from reservasi.front.problems import Refused
from reservasi.front.public import read_filters
from reservasi.front.requests import client_network
from reservasi.front.views import require_view
from reservasi.metrics import OPEN_STREAMS

HEARTBEAT_S = 15.0
SEND_TIMEOUT_S = 10.0  # a reader that stalls for longer is let go


async def stream(request: web.Request) -> web.StreamResponse:
    """First all matching quotas, then, as they change, those that changed."""
    filters = read_filters(request)
    require_view(request.app[SERVICES], filters.get("program"))
    if request.method == "HEAD":
        return web.Response(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    readers, network = request.app[READERS], client_network(request)
    if request.app[STOPPING].is_set() or not readers.admit(network):
        raise Refused(TOO_MANY_STREAMS)
    OPEN_STREAMS.inc()
    try:
        async with sse_response(
            request, headers=STATIC_HEADERS, ping_interval=HEARTBEAT_S, send_timeout=SEND_TIMEOUT_S
        ) as response:
            with request.app[LIVE].follow(filters) as feed:
                await _tell(request, response, feed)
    except (ConnectionError, TimeoutError):
        response.force_close()  # the reader went away, or stalled
    finally:
        readers.leave(network)
        OPEN_STREAMS.dec()
    return response


async def _tell(request: web.Request, response: EventSourceResponse, feed: Feed) -> None:
    live, stopping = request.app[LIVE], request.app[STOPPING]
    tick, more = START, True
    while more and not stopping.is_set():
        if request.transport is None or request.transport.is_closing():
            return  # the reader went away, and nothing that is sent would tell us
        tick, event = live.event(feed, tick)
        if event:
            await _write(request, response, event)
        more = await live.next_look(feed)


async def _write(request: web.Request, response: EventSourceResponse, event: bytes) -> None:
    """Send what is encoded already; `EventSourceResponse.send` would search every event for line ends again."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await response.write(event)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # a reader that stalls would not let us close in good order either
        raise
