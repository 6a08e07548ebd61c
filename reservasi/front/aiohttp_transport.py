"""Adapts aiohttp's requests and answers to ours, and serves streams, which only aiohttp carries."""

import asyncio
import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from reservasi.front.api.answers import Abandonable, Answer
from reservasi.front.api.request import Request as OurRequest
from reservasi.front.api.routing import Match
from reservasi.front.api.tracing import Trace
from reservasi.front.app_keys import DISPATCHER, FRONT
from reservasi.front.deciding.front_context import Front
from reservasi.front.dispatch import BODILESS, refusal_of
from reservasi.front.http.aiohttp_answers import response_of
from reservasi.front.http.aiohttp_requests import read_body, request_of
from reservasi.front.reading.queries import refuse_parameters


@web.middleware
async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every request: the dispatcher finds routes, not aiohttp."""
    front, dispatcher = request.app[FRONT], request.app[DISPATCHER]
    ours = request_of(request)
    match = dispatcher.find(ours)
    if match.route is not None and match.route.streams:
        return await _stream(request, front, ours, match)
    if match.route is not None and request.method not in BODILESS:
        await read_body(request, ours, front.services.settings)
    caller = _Waiting()
    dispatcher.answer(caller, ours, match)
    answer, names_all = await caller.wait()
    return _response(front, ours, answer, _shown(ours, names_all=names_all))


class _Waiting:
    """A task of aiohttp that waits for the answer."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[tuple[Answer, bool]] = asyncio.get_running_loop().create_future()
        self._work: Abandonable | None = None

    def answer(self, answer: Answer, _request: OurRequest, *, names_all: bool) -> None:
        if not self._answered.done():
            self._answered.set_result((answer, names_all))

    def waits_for(self, work: Abandonable) -> None:
        """Note the work to abandon if the task is cancelled."""
        self._work = work

    async def wait(self) -> tuple[Answer, bool]:
        """The answer, and whether it always names the request."""
        try:
            return await self._answered
        except asyncio.CancelledError:
            if self._work is not None:
                self._work.abandon()
            raise


async def _stream(request: web.Request, front: Front, ours: OurRequest, match: Match) -> web.StreamResponse:
    if match.route is None:
        raise ValueError("there is no such stream")
    started_s, tally = time.perf_counter(), match.tally
    tally.begin()
    try:
        with structlog.contextvars.bound_contextvars(**ours.trace.fields):
            if match.counts_network:
                front.rates.check_network(ours.peer, ours.forwarded)
            if ours.query and not match.route.reads_query:
                refuse_parameters(ours)
            response: web.StreamResponse = await match.route.handler(front, ours, request)
    except ConnectionError:
        tally.withdraw()
        raise  # the caller has gone: nobody needs an answer
    except Exception as error:
        answer = refusal_of(error, ours, match.route.path)
        tally.end(answer, started_s)
        return _response(front, ours, answer, ours.trace)
    tally.note(response.status, "", started_s)
    return response


def _response(front: Front, ours: OurRequest, answer: Answer, trace: Trace | None) -> web.Response:
    return response_of(
        answer, trace, closes=front.stopping.is_set(), cors=front.cors.headers(ours.target, ours.head.origin)
    )


def _shown(ours: OurRequest, *, names_all: bool) -> Trace | None:
    """The names that the answer gives the request."""
    if names_all:
        return ours.trace
    trace = ours.known_trace
    return trace if trace is not None and (trace.given or trace.logged) else None
