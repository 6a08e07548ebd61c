"""Changes as server-sent events, for pages that show places and queues live."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from reservasi.front.answering import STATIC_HEADERS, TRACE
from reservasi.front.keys import LIVE, MEMORY, READERS, SERVICES, STOPPING
from reservasi.front.live import START, Feed
from reservasi.front.problem_types import TOO_MANY_STREAMS
from reservasi.front.problems import Refused
from reservasi.front.public import read_filters
from reservasi.front.requests import client_network
from reservasi.front.views import require_view
from reservasi.front.waiting import find_opening, queue_view
from reservasi.metrics import OPEN_STREAMS

HEARTBEAT_S = 15.0
QUEUE_LOOK_S = 0.5  # between two looks at whether the queue has changed
SEND_TIMEOUT_S = 10.0  # a reader that stalls for longer is let go


async def stream(request: web.Request) -> web.StreamResponse:
    """`GET /v1/availability/stream`: first all matching quotas, then, as they change, those that changed."""
    filters = read_filters(request)
    require_view(request.app[SERVICES], filters.get("program"))

    async def tell(response: EventSourceResponse) -> None:
        with request.app[LIVE].follow(filters) as feed:
            await _tell(request, response, feed)

    return await _streamed(request, tell)


async def queue_stream(request: web.Request) -> web.StreamResponse:
    """`GET /v1/openings/{id}/queue/stream`: first how far the queue is, then every change."""
    services, memory, opening_id = request.app[SERVICES], request.app[MEMORY], request.match_info["id"]
    await find_opening(services, opening_id)

    async def tell(response: EventSourceResponse) -> None:
        told, stopping = b"", request.app[STOPPING]
        while not stopping.is_set():
            # While the view is out of step, what was told stands.
            with suppress(Refused):
                body = queue_view(services, memory, opening_id).body
                if body != told:
                    await _write(request, response, b"event: queue\r\ndata: " + body + b"\r\n\r\n")
                    told = body
            with suppress(TimeoutError):
                async with asyncio.timeout(QUEUE_LOOK_S):
                    await stopping.wait()

    return await _streamed(request, tell)


class _Connection(Protocol):
    """What `server.py` makes of each connection."""

    def lost(self) -> asyncio.Event: ...


async def _while_there(request: web.Request, telling: Coroutine[Any, Any, None]) -> None:
    """Tell until the reader has gone, whose place is then somebody else's: looks that find nothing new are rare."""
    told, lost = asyncio.create_task(telling), asyncio.create_task(cast(_Connection, request.protocol).lost().wait())
    try:
        await asyncio.wait({told, lost}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            told.result()
    finally:
        told.cancel()
        lost.cancel()
        await asyncio.gather(told, lost, return_exceptions=True)


async def _streamed(
    request: web.Request, tell: Callable[[EventSourceResponse], Coroutine[Any, Any, None]]
) -> web.StreamResponse:
    """A stream that `tell` fills until it ends; refused where too many are open."""
    if request.method == "HEAD":
        return web.Response(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    readers, network = request.app[READERS], client_network(request)
    if request.app[STOPPING].is_set() or not readers.admit(network):
        raise Refused(TOO_MANY_STREAMS)
    OPEN_STREAMS.inc()
    try:
        async with sse_response(
            request,
            headers={**STATIC_HEADERS, **request[TRACE].headers},
            ping_interval=HEARTBEAT_S,
            send_timeout=SEND_TIMEOUT_S,
        ) as response:
            await _while_there(request, tell(response))
    except (ConnectionError, TimeoutError):
        response.force_close()  # the reader went away, or stalled
    finally:
        readers.leave(network)
        OPEN_STREAMS.dec()
    return response


def _gone(request: web.Request) -> bool:
    """Whether the reader went away: nothing that is sent would tell us."""
    return request.transport is None or request.transport.is_closing()


async def _tell(request: web.Request, response: EventSourceResponse, feed: Feed) -> None:
    live, stopping = request.app[LIVE], request.app[STOPPING]
    tick, more = START, True
    while more and not stopping.is_set():
        if _gone(request):
            return
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
