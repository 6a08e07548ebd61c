"""Claims and joins that could be refused for several reasons at once: which one is said must not depend on the form.

Each names the reasons that hold, in their order: what is malformed, an unknown quota, a network that asks too often,
the ticket, what is sold out, a person who asks too often, an overloaded ledger.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.acceptance.two_ways import Case, Sent, exchange
from tests.acceptance.two_ways_cases import of_a_spent_network, overloaded
from tests.acceptance.two_ways_refusals import not_admitted, with_unknown_quota
from tests.acceptance.two_ways_requests import claim as replayed_claim
from tests.acceptance.two_ways_world import World

Make = Callable[[World], Awaitable[Sent]]
Body = Callable[[World], Awaitable[Any]]
KEY = "one-key-for-an-order"


async def spent(world: World) -> dict[str, Any]:
    """An applicant who may claim once on the front that limits people, and has."""

    async def make() -> dict[str, Any]:
        person = world.stack.applicant()
        sent = world.claim({"quota": await world.quota(), "applicants": [person]})
        answer = await exchange(world.urls["limited"], sent.raw("plain"), "POST")
        assert answer.status == 201, answer
        return person

    person: dict[str, Any] = await world.once("spent", make)
    return person


async def newcomer(world: World) -> dict[str, Any]:
    person: dict[str, Any] = await world.once("newcomer", lambda: _applicant(world))
    return person


async def _applicant(world: World) -> dict[str, Any]:
    return world.stack.applicant()


def claiming(
    quota: Callable[[World], Awaitable[str]], who: Callable[[World], Awaitable[dict[str, Any]]], **more: Any
) -> Make:
    async def make(world: World) -> Sent:
        return world.claim({"quota": await quota(world), "applicants": [await who(world)], **more}, KEY)

    return make


async def is_open(world: World) -> str:
    return await world.quota()


async def is_full(world: World) -> str:
    return await world.quota("full")


async def is_closed(world: World) -> str:
    return await world.quota("closed")


async def is_later(world: World) -> str:
    return await world.quota("later")


async def is_unknown(world: World) -> str:
    quota: str = (await with_unknown_quota(world))["quota"]
    return quota


async def of_room(world: World) -> str:
    return (await world.room("opened before")).quota


async def of_full_room(world: World) -> str:
    return (await world.room("full")).quota


async def malformed(world: World) -> Sent:
    return world.claim({"quota": await world.quota("full"), "applicants": [{**(await spent(world)), "nik": "1"}]}, KEY)


async def too_early(world: World) -> Sent:
    return world.claim(await not_admitted(world), KEY)


def forwarded(make: Make) -> Make:
    """A request of a network that has asked too often."""

    async def request(world: World) -> Sent:
        return await of_a_spent_network(world, await make(world))

    return request


def joining(kind: str, *, often: bool = False) -> Make:
    async def make(world: World) -> Sent:
        person = await spent_joiner(world) if often else await world.joiner()
        return world.join((await world.room(kind)).id, person)

    return make


async def spent_joiner(world: World) -> dict[str, Any]:
    person = await spent(world)
    return {"nik": person["nik"], "birth_date": person["birth_date"]}


async def malformed_join(world: World) -> Sent:
    return world.join((await world.room("full")).id, {**await spent_joiner(world), "nik": "1"})


async def join_nowhere(world: World) -> Sent:
    return replace(await malformed_join(world), target="/v1/openings/nowhere-1/tickets")


# What is said, why else it could be refused, the request, whether the front limits people and networks.
CLAIMS: tuple[tuple[str, str, Make, bool], ...] = (
    ("invalid-request", "person, overload", malformed, True),
    ("unknown-quota", "person, overload", claiming(is_unknown, spent), True),
    ("unknown-quota", "overload", claiming(is_unknown, newcomer), False),
    ("rate-limited", "network, ticket, person, overload", forwarded(claiming(of_room, spent)), True),
    ("rate-limited", "network, sold out, person, overload", forwarded(claiming(is_full, spent)), True),
    ("rate-limited", "network, overload", forwarded(claiming(is_open, newcomer)), True),
    ("waiting-room-required", "person, overload", claiming(of_room, spent), True),
    ("waiting-room-required", "forged, person, overload", claiming(of_room, spent, ticket="forged"), True),
    ("waiting-room-required", "overload", claiming(of_room, newcomer), False),
    ("not-admitted", "overload", too_early, False),
    ("sold-out", "person, overload", claiming(is_full, spent), True),
    ("sold-out", "overload", claiming(is_full, newcomer), False),
    ("sold-out", "ticket, person, overload", claiming(of_full_room, spent), True),
    ("rate-limited", "person, overload", claiming(is_open, spent), True),
    ("rate-limited", "person, closed, overload", claiming(is_closed, spent), True),
    ("rate-limited", "person, not open, overload", claiming(is_later, spent), True),
    ("overloaded", "closed", claiming(is_closed, newcomer), False),
    ("overloaded", "not open", claiming(is_later, newcomer), False),
    ("overloaded", "replayed", replayed_claim, False),
)
JOINS: tuple[tuple[str, str, Make, bool], ...] = (
    ("invalid-request", "person, overload", malformed_join, True),
    ("rate-limited", "network, sold out, person, overload", forwarded(joining("full", often=True)), True),
    ("joining-closed", "person, overload", joining("over", often=True), True),
    ("closed", "person, overload", joining("all closed", often=True), True),
    ("opening-cancelled", "person, overload", joining("cancelled", often=True), True),
    ("no-waiting-room", "person, overload", joining("none", often=True), True),
    ("not-open", "person, overload", joining("soon", often=True), True),
    ("sold-out", "person, overload", joining("full", often=True), True),
    ("sold-out", "overload", joining("full"), False),
    ("rate-limited", "person, overload", joining("joining", often=True), True),
    ("rate-limited", "person, proof, overload", joining("proof", often=True), True),
    ("proof-of-work-required", "overload", joining("proof"), False),
    ("invalid-request", "nowhere, person, overload", join_nowhere, True),
)


def order_cases() -> Iterator[Case]:
    """Every case of the order, while the ledger takes nothing."""
    for operation, cases in (("claim", CLAIMS), ("join", JOINS)):
        for outcome, others, make, limited in cases:
            yield Case(
                operation=operation,
                outcome=outcome,
                about=f"before {others}" if others != "replayed" else "of a replay",
                make=make,
                front="limited" if limited else "usual",
                fault=overloaded,
            )
