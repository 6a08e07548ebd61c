"""Changes as server-sent events, for pages that show places and queues live."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from reservasi.front.api.answers import STATIC_HEADERS
from reservasi.front.api.problem_catalogue import TOO_MANY_STREAMS
from reservasi.front.api.problems import Refused
from reservasi.front.api.request import Request as OurRequest
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.waiting_room import find_opening, queue_view
from reservasi.front.reading.queries import read_filters
from reservasi.front.views.availability import require_view
from reservasi.front.views.live_feed import START, Feed
from reservasi.metrics import OPEN_STREAMS

HEARTBEAT_S = 15.0
QUEUE_LOOK_S = 0.5  # between two looks at whether the queue has changed
SEND_TIMEOUT_S = 10.0  # a reader that stalls for longer is let go


async def stream(front: Front, ours: OurRequest, request: web.Request) -> web.StreamResponse:
    """`GET /v1/availability/stream`: first all matching quotas, then, as they change, those that changed."""
    filters = read_filters(front.services.catalogue, ours)
    require_view(front.services, filters.get("program"))

    async def tell(response: EventSourceResponse) -> None:
        with front.live.follow(filters) as feed:
            await _tell(front, request, response, feed)

    return await _streamed(front, ours, request, tell)


async def queue_stream(front: Front, ours: OurRequest, request: web.Request) -> web.StreamResponse:
    """`GET /v1/openings/{id}/queue/stream`: first how far the queue is, then every change."""
    services, memory, opening_id = front.services, front.memory, ours.parameters["id"]
    await find_opening(services, opening_id)

    async def tell(response: EventSourceResponse) -> None:
        told, stopping = b"", front.stopping
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

    return await _streamed(front, ours, request, tell)


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
    front: Front,
    ours: OurRequest,
    request: web.Request,
    tell: Callable[[EventSourceResponse], Coroutine[Any, Any, None]],
) -> web.StreamResponse:
    """A stream that `tell` fills until it ends; refused where too many are open."""
    cors = dict(front.cors.headers(ours.target, ours.head.origin))  # nothing else that a stream varies by
    headers = {**STATIC_HEADERS, **ours.trace.headers, **cors}
    if request.method == "HEAD":
        return web.Response(headers={**headers, "Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    readers, network = front.readers, front.networks.host(ours.peer, ours.forwarded)
    if front.stopping.is_set() or not readers.admit(network):
        raise Refused(TOO_MANY_STREAMS)
    OPEN_STREAMS.inc()
    try:
        async with sse_response(
            request,
            headers=headers,
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


async def _tell(front: Front, request: web.Request, response: EventSourceResponse, feed: Feed) -> None:
    live, stopping = front.live, front.stopping
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
