"""Server-sent events for pages that show places and queues live."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, cast

from aiohttp import hdrs, web
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
QUEUE_LOOK_S = 0.5  # between two checks whether the queue has changed
SEND_TIMEOUT_S = 10.0  # a reader that stalls for longer is disconnected


async def stream(front: Front, ours: OurRequest, request: web.Request) -> web.StreamResponse:
    """`GET /v1/availability/stream`: first all matching quotas, then those that changed."""
    filters = read_filters(front.services.catalogue, ours)
    require_view(front.services, filters.get("program"))

    async def send_events(response: EventSourceResponse) -> None:
        with front.live.follow(filters) as feed:
            await _send_changes(front, request, response, feed)

    return await _streamed(front, ours, request, send_events)


async def queue_stream(front: Front, ours: OurRequest, request: web.Request) -> web.StreamResponse:
    """`GET /v1/openings/{id}/queue/stream`: first the state of the queue, then every change."""
    services, cache, opening_id = front.services, front.cache, ours.parameters["id"]
    await find_opening(services, opening_id)

    async def send_events(response: EventSourceResponse) -> None:
        last_body, stopping = b"", front.stopping
        while not stopping.is_set():
            # While the view is out of step, the last state stays.
            with suppress(Refused):
                body = queue_view(services, cache, opening_id).body
                if body != last_body:
                    await _write(request, response, b"event: queue\r\ndata: " + body + b"\r\n\r\n")
                    last_body = body
            with suppress(TimeoutError):
                async with asyncio.timeout(QUEUE_LOOK_S):
                    await stopping.wait()

    return await _streamed(front, ours, request, send_events)


class _Connection(Protocol):
    """The attributes of our connections that are used here."""

    def lost(self) -> asyncio.Event: ...


async def _while_there(request: web.Request, sending: Coroutine[Any, Any, None]) -> None:
    """Send events until the reader has gone, also while there is no event whose sending would fail."""
    sender, lost = asyncio.create_task(sending), asyncio.create_task(cast(_Connection, request.protocol).lost().wait())
    try:
        await asyncio.wait({sender, lost}, return_when=asyncio.FIRST_COMPLETED)
        if sender.done():
            sender.result()
    finally:
        sender.cancel()
        lost.cancel()
        await asyncio.gather(sender, lost, return_exceptions=True)


class _Events(EventSourceResponse):
    """Leaves the Connection header to aiohttp, which knows what the caller wants."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        del self.headers[hdrs.CONNECTION]


async def _streamed(
    front: Front,
    ours: OurRequest,
    request: web.Request,
    send_events: Callable[[EventSourceResponse], Coroutine[Any, Any, None]],
) -> web.StreamResponse:
    """A stream of the events of `send_events`; refused if too many are open."""
    cors = dict(front.cors.headers(ours.target, ours.head.origin))  # the only header by which a stream varies
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
            response_cls=_Events,
            headers=headers,
            ping_interval=HEARTBEAT_S,
            send_timeout=SEND_TIMEOUT_S,
        ) as response:
            await _while_there(request, send_events(response))
    except (ConnectionError, TimeoutError):
        response.force_close()  # the reader has gone or stalls
    finally:
        readers.leave(network)
        OPEN_STREAMS.dec()
    return response


def _gone(request: web.Request) -> bool:
    """Whether the reader has gone, which is not noticed without sending."""
    return request.transport is None or request.transport.is_closing()


async def _send_changes(front: Front, request: web.Request, response: EventSourceResponse, feed: Feed) -> None:
    live, stopping = front.live, front.stopping
    tick, more = START, True
    while more and not stopping.is_set():
        if _gone(request):
            return
        tick, event = live.event(feed, tick)
        if event:
            await _write(request, response, event)
        more = await live.next_check(feed)


async def _write(request: web.Request, response: EventSourceResponse, event: bytes) -> None:
    """Send an encoded event; `EventSourceResponse.send` would search it for line ends again."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await response.write(event)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # a stalled reader would block a regular close as well
        raise
