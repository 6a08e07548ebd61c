"""The waiting room over HTTP: how far the queue is, a challenge to solve, and joining."""

import time

import msgspec
from aiohttp import hdrs, web

from reservasi.front.booking import NO_STORE
from reservasi.front.encoding import Encoded, encoded, moment
from reservasi.front.keys import MEMORY, RATES, SERVICES, FrontServices
from reservasi.front.memory import NEVER_MS, Made, Memory
from reservasi.front.not_found import NOT_CREATED
from reservasi.front.not_open import joining_not_open
from reservasi.front.opening_reasons import refused_as_cancelled, said_of_moves
from reservasi.front.opening_views import is_opening_sold_out, next_members, opening_end_ms
from reservasi.front.problem_types import RECOVERING, SOLD_OUT
from reservasi.front.problems import Refused
from reservasi.front.public import cached
from reservasi.front.requests import read_body
from reservasi.front.waiting_bodies import QueueBody, TicketBody
from reservasi.front.waiting_problems import (
    JOINING_CLOSED,
    NO_WAITING_ROOM,
    PROOF_OF_WORK_INVALID,
    PROOF_OF_WORK_REQUIRED,
)
from reservasi.front.waiting_validation import read_join
from reservasi.model import Answer, Opening, Outcome
from reservasi.waiting_room.challenges import ProofInvalid
from reservasi.waiting_room.state import state_of

QUEUE_CACHE = "public, max-age=1"


async def find_opening(services: FrontServices, opening_id: str) -> tuple[str, Opening]:
    """The program and the opening; what is missing is refused once memory has all that other fronts may have said."""
    if services.waiting_room.find(opening_id) is None:
        await services.waiting_room.complete(opening_id)
    return known_opening(services, opening_id)


def known_opening(services: FrontServices, opening_id: str) -> tuple[str, Opening]:
    """The program and the opening, as memory has them in step; refuses what is not there."""
    found = services.waiting_room.find(opening_id)
    if found is None:
        raise Refused(NOT_CREATED if services.catalogue.loaded and services.availability.ready else RECOVERING)
    if not services.availability.knows(found[0]):
        raise Refused(RECOVERING)
    return found


# -- the queue ---------------------------------------------------------------------------------------------------


def queue_view(services: FrontServices, memory: Memory, opening_id: str) -> Encoded:
    """How far an opening's queue is; refuses an opening that is not there."""
    known_opening(services, opening_id)

    def make(_now_ms: int) -> Made[Encoded]:
        program, opening = known_opening(services, opening_id)
        now_ms = services.availability.now_ms(program)
        body = _queue_body(services, memory, program, opening, now_ms)
        terms = opening.terms
        end_ms = opening_end_ms(services, memory, program, opening)
        moments = (terms.joins_from_ms, terms.opens_at_ms, terms.ends_at_ms, end_ms)
        view = encoded(msgspec.json.encode(body))
        return Made(view, len(view.body), min((at for at in moments if at > now_ms), default=NEVER_MS))

    return memory.answer(("queue", opening_id), make)


def _queue_body(services: FrontServices, memory: Memory, program: str, opening: Opening, now_ms: int) -> QueueBody:
    terms = opening.terms
    is_over = now_ms >= opening_end_ms(services, memory, program, opening)
    sold_out = now_ms >= terms.opens_at_ms and is_opening_sold_out(services, memory, program, opening)
    body = QueueBody(
        id=opening.id,
        state="ended" if is_over and not opening.cancelled else state_of(opening, now_ms, sold_out=sold_out),
        opens_at=moment(terms.opens_at_ms),
        joins_from=moment(terms.joins_from_ms),
        ends_at=moment(terms.ends_at_ms),
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
    if opening.paused_at_ms:
        body.paused_since = moment(opening.paused_at_ms)
    return said_of_moves(opening, body)


async def queue(request: web.Request) -> web.Response:
    """`GET /v1/openings/{id}/queue`: the same for everybody, good for a second."""
    services, memory, opening_id = request.app[SERVICES], request.app[MEMORY], request.match_info["id"]
    await find_opening(services, opening_id)
    view = queue_view(services, memory, opening_id)
    return cached(request, view, QUEUE_CACHE)


# -- joining -----------------------------------------------------------------------------------------------------


async def challenge(request: web.Request) -> web.Response:
    """`GET /v1/openings/{id}/challenge`: a proof of work to solve before joining."""
    services, memory = request.app[SERVICES], request.app[MEMORY]
    program, opening = await find_opening(services, request.match_info["id"])
    if not opening.terms.waiting_room:
        raise Refused(NO_WAITING_ROOM)
    left_ms = opening_end_ms(services, memory, program, opening) - services.availability.now_ms(program)
    if left_ms <= 0:
        raise Refused(JOINING_CLOSED, members={"opening": opening.id})
    made = services.waiting_room.challenges.create(opening.id, int(time.time() * 1000), left_ms)
    return web.Response(
        body=msgspec.json.encode(made),
        headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: NO_STORE},
    )


async def join(request: web.Request) -> web.Response:
    """`POST /v1/openings/{id}/tickets`: one ticket a person, however often they ask."""
    services, memory = request.app[SERVICES], request.app[MEMORY]
    room = services.waiting_room
    wanted = read_join(await read_body(request))
    program, opening = await find_opening(services, request.match_info["id"])
    person = room.person(program, wanted.nik)
    request.app[RATES].check_people((person,))
    refused = refused_join(services, memory, program, opening)
    if refused is not None:
        raise refused
    ticket_id = room.ticket_id(program, opening.id, person)
    if opening.terms.proof_of_work:
        _check_proof(services, opening, wanted.altcha, ticket_id)
    answer = await room.join(program, opening.id, ticket_id)
    if answer.outcome is not Outcome.JOINED:
        raise join_refusal(services, memory, program, opening, answer)
    return web.Response(
        status=201,
        body=ticket_body(services, program, opening, ticket_id, answer),
        headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: NO_STORE},
    )


def _check_proof(services: FrontServices, opening: Opening, proof: str, ticket_id: str) -> None:
    if not proof:
        raise Refused(PROOF_OF_WORK_REQUIRED, members={"opening": opening.id})
    try:
        services.waiting_room.challenges.verify(proof, opening.id, int(time.time() * 1000), holder=ticket_id)
    except ProofInvalid as error:
        raise Refused(PROOF_OF_WORK_INVALID, members={"opening": opening.id}) from error


def refused_join(services: FrontServices, memory: Memory, program: str, opening: Opening) -> Refused | None:
    """Why nobody can join now as far as memory knows; None when the ledger is to judge."""
    now_ms, terms = services.availability.now_ms(program), opening.terms
    if opening.cancelled:
        return refused_as_cancelled(opening)
    if not terms.waiting_room:
        return Refused(NO_WAITING_ROOM, members={"opening": opening.id})
    if now_ms >= opening_end_ms(services, memory, program, opening):
        return Refused(JOINING_CLOSED, members={"opening": opening.id})
    if now_ms < terms.joins_from_ms:
        return joining_not_open(services, memory, program, opening, terms.joins_from_ms)
    if now_ms >= terms.opens_at_ms and is_opening_sold_out(services, memory, program, opening):
        return Refused(SOLD_OUT, members={"opening": opening.id, **next_members(services, memory, program)})
    return None


def join_refusal(services: FrontServices, memory: Memory, program: str, opening: Opening, answer: Answer) -> Refused:
    """What the ledger's refusal of a join means over HTTP."""
    if answer.outcome is Outcome.NOT_OPEN:
        return joining_not_open(services, memory, program, opening, answer.opens_at_ms)
    if answer.outcome is Outcome.OPENING_CANCELLED:
        now = services.availability.opening(opening.id)
        return refused_as_cancelled(opening if now is None else now)
    if answer.outcome is Outcome.CLOSED:
        return Refused(JOINING_CLOSED, members={"opening": opening.id})
    if answer.outcome is Outcome.NO_WAITING_ROOM:
        return Refused(NO_WAITING_ROOM, members={"opening": opening.id})
    return Refused(NOT_CREATED)


def ticket_body(services: FrontServices, program: str, opening: Opening, ticket_id: str, answer: Answer) -> bytes:
    """What a person who joined learns, encoded."""
    ticket, number = services.waiting_room.ticket(program, opening, ticket_id, answer)
    body = TicketBody(ticket=ticket, ticket_id=ticket_id)
    if number is not None:
        body.number = number
    return msgspec.json.encode(body)
