"""`GET /v1/availability/stream`: changes as server-sent events, for pages that show places live."""

import asyncio
from collections.abc import Awaitable, Mapping

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from reservasi.front.answering import STATIC_HEADERS
from reservasi.front.keys import MEMORY, SERVICES, STOPPING, STREAMS
from reservasi.front.memory import next_turn_ms
from reservasi.front.problem_types import TOO_MANY_STREAMS
from reservasi.front.problems import Refused
from reservasi.front.public import read_filters
from reservasi.front.views import quotas_matching, require_view
from reservasi.metrics import OPEN_STREAMS

STREAMS_MAX = 256  # in one process: a stream costs memory as long as it is open
EVENT_PAUSE_S = 0.25  # at most four events a second and stream, whatever happens at the opening
HEARTBEAT_S = 15.0
LOOK_S = 1.0  # how soon a reader that went away is noticed
SEND_TIMEOUT_S = 10.0  # a reader that stalls for longer is let go


async def stream(request: web.Request) -> web.StreamResponse:
    """First all matching quotas, then, as they change, those that changed."""
    services, streams = request.app[SERVICES], request.app[STREAMS]
    filters = read_filters(request)
    require_view(services, filters.get("program"))
    if len(streams) >= STREAMS_MAX or request.app[STOPPING].is_set():
        raise Refused(TOO_MANY_STREAMS)
    if request.method == "HEAD":
        return web.Response(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    streams.add(id(request))
    OPEN_STREAMS.inc()
    try:
        async with sse_response(
            request, headers=STATIC_HEADERS, ping_interval=HEARTBEAT_S, send_timeout=SEND_TIMEOUT_S
        ) as response:
            await _follow(request, response, filters)
    except (ConnectionError, TimeoutError):
        response.force_close()  # the reader went away, or stalled
    finally:
        streams.discard(id(request))
        OPEN_STREAMS.dec()
    return response


async def _follow(request: web.Request, response: EventSourceResponse, filters: Mapping[str, str]) -> None:
    availability, memory = request.app[SERVICES].availability, request.app[MEMORY]
    stopping = request.app[STOPPING]
    sent: dict[str, bytes] | None = None
    while not stopping.is_set():
        version, now_ms = availability.version, availability.now_ms()
        quotas = quotas_matching(availability, filters)
        fresh = {quota.id: memory.fragment(quota, now_ms) for quota in quotas}
        changed = [fragment for quota_id, fragment in fresh.items() if sent is None or sent.get(quota_id) != fragment]
        if changed or sent is None:
            await response.send('{"quotas":[' + b",".join(changed).decode() + "]}", event="availability")
        sent = fresh
        await _first_of(stopping, asyncio.sleep(EVENT_PAUSE_S))
        turn_ms = next_turn_ms(quotas, now_ms)
        while availability.version == version and availability.now_ms() < turn_ms and not stopping.is_set():
            if request.transport is None or request.transport.is_closing():
                return  # the reader went away, and nothing that is sent would tell us
            wait_s = min((turn_ms - availability.now_ms()) / 1000, LOOK_S)
            await _first_of(stopping, availability.wait_change(version, max(wait_s, 0.0)))


async def _first_of(stopping: asyncio.Event, waiting: Awaitable[object]) -> None:
    """Wait for one thing, or for the shutdown if that comes first."""
    tasks = [asyncio.ensure_future(task) for task in (waiting, stopping.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
