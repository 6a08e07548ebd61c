"""The waiting room over HTTP: the queue, a challenge, and joining."""

import time
from functools import partial

import msgspec

from reservasi.front.api.answers import Answer, Reply, ask, in_task, json_answer, later
from reservasi.front.api.not_found import NOT_CREATED
from reservasi.front.api.problem_catalogue import RECOVERING
from reservasi.front.api.problems import Refused, problem_answer
from reservasi.front.api.request import Request
from reservasi.front.api.waiting_bodies import QueueBody, TicketBody
from reservasi.front.api.waiting_problems import JOINING_CLOSED, NO_WAITING_ROOM
from reservasi.front.deciding.front_context import Front
from reservasi.front.deciding.joining import all_closed, decide_join
from reservasi.front.deciding.not_open import joining_not_open
from reservasi.front.handlers.cached import Kind, conditional
from reservasi.front.reading.opening_requests import JoinRequest, plain_join, read_join
from reservasi.front.reading.request_parts import json_body
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache, Made
from reservasi.front.views.opening_reasons import refused_as_cancelled, said_of_moves
from reservasi.front.views.openings import opening_places, opening_state, opening_turn_ms
from reservasi.front.views.quota_json import Encoded, encoded, moment
from reservasi.model import Answer as LedgerAnswer
from reservasi.model import Join, Opening, Outcome
from reservasi.waiting_room.state import end_ms, ends_at_ms

QUEUE = Kind("public, max-age=1")


async def find_opening(services: FrontServices, opening_id: str) -> tuple[str, Opening]:
    """The program and the opening; an unknown one is refused once the view is complete."""
    if services.waiting_room.find(opening_id) is None:
        await services.waiting_room.complete(opening_id)
    return known_opening(services, opening_id)


def known_opening(services: FrontServices, opening_id: str) -> tuple[str, Opening]:
    """The program and the opening in a view that is in step; refuses an unknown one."""
    opening = services.waiting_room.find(opening_id)
    if opening is None:
        raise Refused(NOT_CREATED if services.catalogue.loaded and services.availability.ready else RECOVERING)
    if not services.availability.knows(opening[0]):
        raise Refused(RECOVERING)
    return opening


# -- the queue ---------------------------------------------------------------------------------------------------


def queue_view(services: FrontServices, cache: AnswerCache, opening_id: str) -> Encoded:
    """The state of an opening's queue; refuses an unknown opening."""
    known_opening(services, opening_id)

    def make(_now_ms: int) -> Made[Encoded]:
        program, opening = known_opening(services, opening_id)
        now_ms = services.availability.now_ms(program)
        body = _queue_body(services, program, opening, now_ms)
        view = encoded(msgspec.json.encode(body))
        return Made(view, len(view.body), opening_turn_ms(services, program, opening, now_ms))

    return cache.answer(("queue", opening_id), make)


def _queue_body(services: FrontServices, program: str, opening: Opening, now_ms: int) -> QueueBody:
    terms = opening.terms
    body = QueueBody(
        id=opening.id,
        state=opening_state(services, program, opening, now_ms),
        opens_at=moment(terms.opens_at_ms),
        joins_from=moment(terms.joins_from_ms),
        ends_at=moment(ends_at_ms(opening, opening_places(services, program, opening, now_ms))),
        joined=opening.joined,
        arrived=opening.arrived,
        admitted_through=opening.admitted_through,
        rate_per_min=opening.rate_per_min,
        commitment=terms.commitment,
    )
    seed = services.waiting_room.seed_of(opening, now_ms)
    if seed is not None:
        body.seed = seed.hex()
    if opening.beacon:
        body.beacon = opening.beacon
    if terms.beacon_source:
        body.beacon_source = terms.beacon_source
    if opening.paused_at_ms:
        body.paused_since = moment(opening.paused_at_ms)
    return said_of_moves(opening, body)


def queue(front: Front, request: Request) -> Reply:
    """`GET /v1/openings/{id}/queue`: the same for everybody, cacheable for a second."""
    if front.services.waiting_room.find(request.parameters["id"]) is None:
        return later(request.trace, _queue_of_new_opening(front, request))
    return _queue(front, request)


async def _queue_of_new_opening(front: Front, request: Request) -> Answer:
    await find_opening(front.services, request.parameters["id"])
    return _queue(front, request)


def _queue(front: Front, request: Request) -> Answer:
    return conditional(request, queue_view(front.services, front.cache, request.parameters["id"]), QUEUE)


# -- joining -----------------------------------------------------------------------------------------------------


@in_task
async def challenge(front: Front, request: Request) -> Answer:
    """`GET /v1/openings/{id}/challenge`: a proof of work to solve before joining."""
    services = front.services
    program, opening = await find_opening(services, request.parameters["id"])
    if opening.cancelled:
        raise refused_as_cancelled(opening)
    if not opening.terms.waiting_room:
        raise Refused(NO_WAITING_ROOM)
    now_ms = services.availability.now_ms(program)
    places = opening_places(services, program, opening, now_ms)
    left_ms = end_ms(opening, places) - now_ms
    if left_ms <= 0:
        raise Refused(JOINING_CLOSED, members={"opening": opening.id})
    if places.closed:
        raise all_closed(services, front.cache, program, opening)
    document = services.waiting_room.challenges.create(opening.id, int(time.time() * 1000), left_ms)
    return json_answer(msgspec.json.encode(document))


def join(front: Front, request: Request) -> Reply:
    """`POST /v1/openings/{id}/tickets`: one ticket per person, however often they join."""
    is_plain = request.fault is None and request.head.is_json
    wanted = (plain_join(request.body) if is_plain else None) or read_join(json_body(request))
    if front.services.waiting_room.find(request.parameters["id"]) is None:
        return later(request.trace, _join_new_opening(front, request, wanted))
    return _join(front, request, wanted)


async def _join_new_opening(front: Front, request: Request, wanted: JoinRequest) -> Reply:
    await find_opening(front.services, request.parameters["id"])
    return _join(front, request, wanted)


def _join(front: Front, request: Request, wanted: JoinRequest) -> Reply:
    program, opening = known_opening(front.services, request.parameters["id"])
    front.rates.check_network(request.peer, request.forwarded)
    decision = decide_join(front, program, opening, wanted)
    if isinstance(decision, Refused):
        return problem_answer(request.language, decision)
    enqueue = partial(front.services.waiting_room.enqueue, program, decision)
    return ask(enqueue, partial(_join_answer, front, program, opening, decision))


def _join_answer(front: Front, program: str, opening: Opening, command: Join, answer: LedgerAnswer) -> Answer:
    if answer.outcome is not Outcome.JOINED:
        raise _refused_by_ledger(front, program, opening, answer)
    ticket, number = front.services.waiting_room.ticket(program, opening, command.ticket_id, answer)
    body = TicketBody(ticket=ticket, ticket_id=command.ticket_id)
    if number is not None:
        body.number = number
    return json_answer(msgspec.json.encode(body), 201)


def _refused_by_ledger(front: Front, program: str, opening: Opening, answer: LedgerAnswer) -> Refused:
    """The HTTP refusal of the ledger's refusal of a join."""
    services = front.services
    if answer.outcome is Outcome.NOT_OPEN:
        return joining_not_open(services, front.cache, program, opening, answer.opens_at_ms)
    if answer.outcome is Outcome.OPENING_CANCELLED:
        now = services.availability.opening(opening.id)
        return refused_as_cancelled(opening if now is None else now)
    if answer.outcome is Outcome.CLOSED:
        return Refused(JOINING_CLOSED, members={"opening": opening.id})
    if answer.outcome is Outcome.NO_WAITING_ROOM:
        return Refused(NO_WAITING_ROOM, members={"opening": opening.id})
    return Refused(NOT_CREATED)
