"""aiohttp's way in and out: its requests as ours, our answers as its, and streams, which only it carries."""

import asyncio
import time

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from reservasi.front.api.answers import Abandonable, Answer
from reservasi.front.api.request import Request as OurRequest
from reservasi.front.api.routing import Found
from reservasi.front.api.tracing import Trace
from reservasi.front.app_keys import DISPATCHER, FRONT
from reservasi.front.deciding.front_context import Front
from reservasi.front.dispatch import refusal_of
from reservasi.front.http.aiohttp_answers import response_of
from reservasi.front.http.aiohttp_requests import read_body, request_of
from reservasi.front.reading.queries import refuse_parameters

_BODILESS = (hdrs.METH_GET, hdrs.METH_HEAD)


@web.middleware
async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every request, whatever it asks for: routes are found by the dispatcher, not by aiohttp."""
    front, dispatcher = request.app[FRONT], request.app[DISPATCHER]
    ours = request_of(request)
    found = dispatcher.find(ours)
    if found.route is not None and found.route.streams:
        return await _stream(request, front, ours, found)
    if found.route is not None and request.method not in _BODILESS:
        await read_body(request, ours, front.services.settings)
    caller = _Waiting()
    dispatcher.answer(caller, ours, found)
    answer, names_all = await caller.wait()
    return _response(front, ours, answer, _shown(ours, names_all=names_all))


class _Waiting:
    """A task of aiohttp that waits for the answer."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[tuple[Answer, bool]] = asyncio.get_running_loop().create_future()
        self._work: Abandonable | None = None

    def answer(self, answer: Answer, _request: OurRequest, *, names_all: bool) -> None:
        """Hand the answer over."""
        if not self._answered.done():
            self._answered.set_result((answer, names_all))

    def waits_for(self, work: Abandonable) -> None:
        """What to abandon when the task is cancelled."""
        self._work = work

    async def wait(self) -> tuple[Answer, bool]:
        """The answer, and whether it names the request in any case."""
        try:
            return await self._answered
        except asyncio.CancelledError:
            if self._work is not None:
                self._work.abandon()
            raise


async def _stream(request: web.Request, front: Front, ours: OurRequest, found: Found) -> web.StreamResponse:
    if found.route is None:
        raise ValueError("there is no such stream")
    started_s, tally = time.perf_counter(), found.tally
    tally.begin()
    try:
        with structlog.contextvars.bound_contextvars(**ours.trace.fields):
            if found.counts_network:
                front.rates.check_network(ours.peer, ours.forwarded)
            if ours.query and not found.route.reads_query:
                refuse_parameters(ours)
            response: web.StreamResponse = await found.route.handler(front, ours, request)
    except ConnectionError:
        tally.withdraw()
        raise  # the caller went away; nobody is left to answer
    except Exception as error:
        answer = refusal_of(error, ours, found.route.path)
        tally.end(answer, started_s)
        return _response(front, ours, answer, ours.trace)
    tally.note(response.status, "", started_s)
    return response


def _response(front: Front, ours: OurRequest, answer: Answer, trace: Trace | None) -> web.Response:
    return response_of(
        answer, trace, closes=front.stopping.is_set(), cors=front.cors.headers(ours.target, ours.head.origin)
    )


def _shown(ours: OurRequest, *, names_all: bool) -> Trace | None:
    """What the answer says the request is called."""
    if names_all:
        return ours.trace
    trace = ours.known_trace
    return trace if trace is not None and (trace.given or trace.logged) else None
