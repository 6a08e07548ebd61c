"""Cases of single operations: refusals by the rules of booking, waiting rooms and staff changes."""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

from reservasi.front.views.quota_json import moment
from tests.acceptance.two_ways import Case, Sent
from tests.acceptance.two_ways_requests import Make, find
from tests.acceptance.two_ways_world import ENGLISH, JSON, World
from tests.acceptance.waiting import HOUR_MS, create_room, now_ms

Body = Callable[[World], Awaitable[Any]]


def claiming(body: Body) -> Make:
    """A claim with that body, under one key whichever form it takes."""

    async def make(world: World) -> Sent:
        return world.claim(await body(world), "one-key-for-both")

    return make


def of_quota(kind: str, applicants: int = 1, **changes: Any) -> Body:
    async def body(world: World) -> Any:
        return {**world.stack.body(await world.quota(kind), applicants), **changes}

    return body


# -- claims ------------------------------------------------------------------------------------------------------


async def fresh_claim(world: World) -> Sent:
    return world.claim(world.stack.body(await world.quota(), 2, contact={"email": "siti@example.id"}))


async def no_key(world: World) -> Sent:
    sent = world.claim(world.stack.body(await world.quota()))
    return replace(sent, headers=(JSON, ENGLISH))


async def other_content(world: World) -> Sent:
    """The key of a claim that was made, its person, and another contact."""

    async def make() -> tuple[str, dict[str, Any]]:
        body, key = world.stack.body(await world.quota()), "a-key-that-was-used"
        assert (await world.stack.claim(body, key)).status == 201
        return key, body

    key, body = await world.once("other content", make)
    return world.claim({**body, "contact": {"email": "another@example.id"}}, key)


async def live_person(world: World) -> Any:
    """Somebody who has a place, as the second of a group."""

    async def make() -> dict[str, Any]:
        person = world.stack.applicant()
        body = {"quota": await world.quota(), "applicants": [person]}
        assert (await world.stack.claim(body)).status == 201
        return person

    person = await world.once("live person", make)
    return {"quota": await world.quota(), "applicants": [world.stack.applicant(), person]}


async def with_unknown_quota(world: World) -> Any:
    return world.stack.body(f"{world.stack.program}.kanim.baru.20270301.0759.online")


async def of_unknown_program(world: World) -> Any:
    return world.stack.body("nowhere.kanim.baru.20270301.0800.online")


def without_ticket(kind: str) -> Body:
    async def body(world: World) -> Any:
        return world.stack.body((await world.room(kind)).quota)

    return body


def with_ticket(ticket: str) -> Body:
    async def body(world: World) -> Any:
        room, person, _ = await world.not_admitted()
        return {"quota": room.quota, "applicants": [person], "ticket": ticket}

    return body


async def not_admitted(world: World) -> Any:
    room, person, ticket = await world.not_admitted()
    return {"quota": room.quota, "applicants": [person], "ticket": ticket}


async def of_somebody_else(world: World) -> Any:
    room, _, ticket = await world.not_admitted()
    return {"quota": room.quota, "applicants": [world.stack.applicant()], "ticket": ticket}


async def of_another_opening(world: World) -> Any:
    _, person, ticket = await world.not_admitted()
    room = await world.room("opened before")
    return {"quota": room.quota, "applicants": [person], "ticket": ticket}


async def wrong_everywhere(world: World) -> Any:
    applicants = [{"nik": "1", "name": "", "birth_date": "x", "age": 3}, {"name": "Siti"}]
    return {"quota": await world.quota(), "applicants": applicants, "contact": {"email": "x"}}


async def no_json(_: World) -> Any:
    return b"{"


async def with_two_keys(world: World) -> Any:
    return json.dumps(world.stack.body(await world.quota())).encode()[:-1] + b',"quota":"x"}'


CLAIMS: tuple[tuple[str, str, Make], ...] = (
    ("idempotency-key-missing", "", no_key),
    ("idempotency-key-reused", "", other_content),
    ("invalid-request", "wrong everywhere", claiming(wrong_everywhere)),
    ("invalid-request", "six applicants", claiming(of_quota("open", 6))),
    ("invalid-request", "no JSON", claiming(no_json)),
    ("invalid-request", "a name twice", claiming(with_two_keys)),
    ("unknown-quota", "", claiming(with_unknown_quota)),
    ("unknown-quota", "another program", claiming(of_unknown_program)),
    ("sold-out", "", claiming(of_quota("full"))),
    ("sold-out", "of a group", claiming(of_quota("full", 3))),
    ("sold-out", "with a waiting room", claiming(without_ticket("full"))),
    ("duplicate-applicant", "", claiming(live_person)),
    ("not-open", "", claiming(of_quota("later"))),
    ("not-open", "with a waiting room", claiming(without_ticket("joining"))),
    ("closed", "", claiming(of_quota("closed"))),
    ("waiting-room-required", "", claiming(without_ticket("opened before"))),
    ("waiting-room-required", "forged", claiming(with_ticket("forged"))),
    ("waiting-room-required", "another person's", claiming(of_somebody_else)),
    ("waiting-room-required", "another opening's", claiming(of_another_opening)),
    ("not-admitted", "", claiming(not_admitted)),
    ("opening-cancelled", "", claiming(without_ticket("cancelled"))),
)


# -- joins and challenges ----------------------------------------------------------------------------------------


def joining(kind: str, **changes: Any) -> Make:
    async def make(world: World) -> Sent:
        return world.join((await world.room(kind)).id, {**await world.joiner(), **changes})

    return make


def challenged(kind: str) -> Make:
    async def make(world: World) -> Sent:
        room = await world.room(kind)
        return Sent(method="GET", target=f"/v1/openings/{room.id}/challenge", headers=(ENGLISH,))

    return make


JOINS: tuple[tuple[str, str, Make], ...] = (
    ("invalid-request", "a NIK that is none", joining("joining", nik="1")),
    ("not-open", "", joining("soon")),
    ("sold-out", "", joining("full")),
    ("no-waiting-room", "", joining("none")),
    ("joining-closed", "", joining("over")),
    ("closed", "", joining("all closed")),
    ("opening-cancelled", "", joining("cancelled")),
    ("proof-of-work-required", "", joining("proof")),
    ("proof-of-work-invalid", "", joining("proof", altcha="x")),
)
CHALLENGES: tuple[tuple[str, str, Make], ...] = (
    ("no-waiting-room", "", challenged("none")),
    ("joining-closed", "", challenged("over")),
    ("closed", "", challenged("all closed")),
    ("opening-cancelled", "", challenged("cancelled")),
)


# -- reservations ------------------------------------------------------------------------------------------------


def managed(method: str, state: Callable[[World], Awaitable[dict[str, Any]]], suffix: str, body: Any = None) -> Make:
    async def make(world: World) -> Sent:
        return world.managed(method, await state(world), suffix, body)

    return make


def found_by(change: dict[str, Any]) -> Make:
    async def make(world: World) -> Sent:
        sent = await find(world)
        return replace(sent, body=json.dumps({**json.loads(sent.body or b"{}"), **change}).encode())

    return make


def cancelled_by_staff(state: Callable[[World], Awaitable[dict[str, Any]]]) -> Make:
    async def make(world: World) -> Sent:
        held = await state(world)
        return await world.staff("POST", f"/v1/staff/reservations/{held['id']}/cancel", {"reason": "sakit"})

    return make


OTHER_REFERENCE = {"payment_reference": "820261127002"}
OF_RESERVATIONS: tuple[tuple[str, str, str, Make], ...] = (
    ("confirm", "not-confirmable", "", managed("POST", World.ended, "/confirm")),
    ("confirm", "payment-reference-differs", "", managed("POST", World.confirmed, "/confirm", OTHER_REFERENCE)),
    ("confirm", "hold-expired", "", managed("POST", World.expired, "/confirm")),
    ("confirm", "200", "without a body", managed("POST", World.confirmed, "/confirm")),
    ("find", "not-found", "", found_by({"birth_date": "1990-07-02"})),
    ("find", "not-found", "in an unknown program", found_by({"program": "nowhere"})),
    ("find", "invalid-request", "without a contact", found_by({"contact": {}})),
    ("cancel", "cancellation-too-late", "", managed("POST", World.too_late, "/cancel")),
    ("cancel", "already-ended", "", managed("POST", World.expired, "/cancel")),
    ("cancel", "200", "of what was confirmed", managed("POST", World.cancelled, "/cancel")),
    ("showQrCode", "not-confirmed", "", managed("GET", World.held, "/qr.svg")),
    ("showTicket", "not-confirmed", "", managed("GET", World.held, "/ticket.ics")),
    ("cancelByStaff", "cancellation-too-late", "", cancelled_by_staff(World.past)),
    ("cancelByStaff", "already-ended", "", cancelled_by_staff(World.expired)),
)


# -- staff -------------------------------------------------------------------------------------------------------


async def no_such_quota(world: World) -> Sent:
    return await world.staff("PUT", f"/v1/staff/quotas/{world.stack.program}.a.b.20270301.0800.c", {"capacity": 1})


async def below_taken(world: World) -> Sent:
    held = await world.once("of three", lambda: held_three(world))
    return await world.staff("PUT", f"/v1/staff/quotas/{held['quota']}", {"capacity": 2})


async def held_three(world: World) -> dict[str, Any]:
    held: dict[str, Any] = await world.stack.held(await world.stack.quota(), 3)
    return held


async def quota_of_opening(world: World) -> Sent:
    room = await world.room()
    return await world.staff("PUT", f"/v1/staff/quotas/{room.quota}", {"opens_at": moment(room.opens_at_ms + 1000)})


async def other_version(world: World) -> Sent:
    sent = await world.staff("PUT", f"/v1/staff/quotas/{await world.quota()}", {"capacity": 999})
    return replace(sent, headers=(*sent.headers, 'If-Match: "77"'))


async def overlapping(world: World) -> Sent:
    async def make() -> str:
        day = world.day(5)  # a Tuesday: the program's file has its first window
        await world.stack.quota(date=day, start="08:00", end="08:30")
        return await world.stack.quota(date=day, start="08:15", end="09:00", closed=True)

    return await world.staff("PUT", f"/v1/staff/quotas/{await world.once('overlapping', make)}", {"closed": False})


async def closure_elsewhere(world: World) -> Sent:
    return await world.staff("POST", "/v1/staff/closures", {"program": "nowhere", "date": world.day(1)})


async def opening_elsewhere(world: World) -> Sent:
    body = {**await world.opening_request(), "program": "nowhere"}
    return await world.staff("POST", "/v1/staff/openings", body)


async def opening_again(world: World) -> Sent:
    async def make() -> dict[str, Any]:
        body = await world.opening_request()
        assert (await world.stack.staff("POST", "/v1/staff/openings", json=body)).status == 201
        return body

    body = await world.once("opening again", make)
    return await world.staff("POST", "/v1/staff/openings", {**body, "id": f"{world.stack.program}-another"})


async def quotas_of_another(world: World) -> Sent:
    async def make() -> dict[str, Any]:
        day = world.day(3)
        await create_room(world.stack, opens_in_ms=2 * HOUR_MS, service="hilang", date=day, start="08:00", end="08:30")
        opens_at = moment(await now_ms(world.stack) // 1000 * 1000 + 50 * HOUR_MS)
        return {"program": world.stack.program, "opens_at": opens_at, "from": day, "to": day, "service": "hilang"}

    return await world.staff("POST", "/v1/staff/openings", await world.once("quotas of another", make))


def moving(kind: str, change: Callable[[World], Awaitable[dict[str, Any]]], *headers: str) -> Make:
    async def make(world: World) -> Sent:
        sent = await world.staff("PATCH", f"/v1/staff/openings/{(await world.room(kind)).id}", await change(world))
        return replace(sent, headers=(*sent.headers, *headers))

    return make


async def to_another_s_moment(world: World) -> dict[str, Any]:
    return {"opens_at": moment((await world.room("beacon")).opens_at_ms)}


async def to_later(world: World) -> dict[str, Any]:
    return {"opens_at": moment((await world.room()).opens_at_ms + 5 * HOUR_MS)}


async def closes_before(world: World) -> Sent:
    async def make() -> tuple[str, str]:
        room = await world.room("closing")
        closes_at = moment(room.opens_at_ms + HOUR_MS)
        path = f"/v1/staff/quotas/{room.quota}"
        assert (await world.stack.staff("PUT", path, json={"closes_at": closes_at})).status == 200
        return room.id, closes_at

    opening, closes_at = await world.once("closes before", make)
    return await world.staff("PATCH", f"/v1/staff/openings/{opening}", {"opens_at": closes_at})


def setting(part: str, kind: str, body: dict[str, Any]) -> Make:
    async def make(world: World) -> Sent:
        return await world.staff("PUT", f"/v1/staff/openings/{(await world.room(kind)).id}/{part}", body)

    return make


BY_STAFF: tuple[tuple[str, str, str, Make], ...] = (
    ("setQuota", "unknown-quota", "", no_such_quota),
    ("setQuota", "below-taken", "", below_taken),
    ("setQuota", "quota-of-opening", "", quota_of_opening),
    ("setQuota", "version-mismatch", "", other_version),
    ("setQuota", "overlapping-quota", "", overlapping),
    ("closeDay", "not-found", "", closure_elsewhere),
    ("createOpening", "not-found", "", opening_elsewhere),
    ("createOpening", "opening-exists", "", opening_again),
    ("createOpening", "quota-of-opening", "", quotas_of_another),
    ("changeOpening", "opening-exists", "", moving("joining", to_another_s_moment)),
    ("changeOpening", "opening-fixed", "", moving("cancelled", to_later)),
    ("changeOpening", "version-mismatch", "", moving("joining", to_later, 'If-Match: "77"')),
    ("changeOpening", "quota-closes-before", "", closes_before),
    ("setAdmission", "no-waiting-room", "", setting("admission", "none", {"paused": True})),
    ("setAdmission", "opening-fixed", "", setting("admission", "cancelled", {"paused": True})),
    ("setBeacon", "no-waiting-room", "", setting("beacon", "none", {"value": "x"})),
    ("setBeacon", "opening-fixed", "", setting("beacon", "cancelled", {"value": "x"})),
    ("setBeacon", "beacon-fixed", "", setting("beacon", "opened before", {"value": "x"})),
)


def refusal_cases() -> Iterator[Case]:
    """All of them."""
    fields = frozenset({"id", "manage_token", "hold_expires_at"})
    yield Case(operation="claim", outcome="201", make=fresh_claim, fresh=True, varies=fields, about="a new one")
    for operation, cases in (("claim", CLAIMS), ("join", JOINS), ("getChallenge", CHALLENGES)):
        for outcome, about, make in cases:
            yield Case(operation=operation, outcome=outcome, make=make, about=about)
    for operation, outcome, about, make in (*OF_RESERVATIONS, *BY_STAFF):
        yield Case(operation=operation, outcome=outcome, make=make, about=about)
