"""Cases that many operations share, derived from one successful request of each."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from reservasi.catalogue import Catalogue
from reservasi.errors import Overloaded, RecordsUnavailable
from reservasi.front.api.declarations import COMMON_PROBLEMS, Operation
from reservasi.front.api.operations import OPERATIONS
from reservasi.front.api.paths import LIMITED_PATHS, STATIC_PATH
from reservasi.front.deciding.rate_limits import RateLimits
from reservasi.front.pages import PAGES, REDIRECTS
from reservasi.front.views.live_feed import Readers
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.recorded_position import Lineage
from reservasi.model import Answer, Outcome
from reservasi.reservations import Reservations
from reservasi.waiting_room.room import WaitingRoom
from tests.acceptance.two_ways import Case, Sent, exchange
from tests.acceptance.two_ways_requests import SUCCEEDING, Make, reading
from tests.acceptance.two_ways_world import ENGLISH, NOBODY, World

TOO_LARGE_BYTES = 20_000
FORWARDED = "X-Forwarded-For: 203.0.113.9"
Fault = Callable[[pytest.MonkeyPatch], None]
Change = Callable[[World, Sent], Awaitable[Sent]]


# -- what is broken ----------------------------------------------------------------------------------------------


def overloaded(patched: pytest.MonkeyPatch) -> None:
    """As many commands wait for the ledger as may."""

    def refuses(*_: object) -> None:
        raise Overloaded("too many wait for the ledger")

    patched.setattr(GroupCommit, "admits_claims", property(lambda _: False))
    patched.setattr(GroupCommit, "enqueue", refuses)


def faulty(patched: pytest.MonkeyPatch) -> None:
    """A bug of ours in what nearly every request passes."""
    patched.setattr(RateLimits, "network", lambda *_: 1 / 0)


def crowded(patched: pytest.MonkeyPatch) -> None:
    """As many streams are open as may be."""
    patched.setattr(Readers, "admit", lambda *_: False)


def without_records(patched: pytest.MonkeyPatch) -> None:
    """PostgreSQL does not answer."""

    async def fails(*_: object) -> None:
        raise RecordsUnavailable("nobody knows")

    patched.setattr(Catalogue, "audit", fails)
    patched.setattr(Reservations, "live_reservation_of", fails)


def unrecorded(patched: pytest.MonkeyPatch) -> None:
    """What was accepted is not in the records yet."""
    patched.setattr(Lineage, "contains", lambda *_: False)


def too_many_quotas(patched: pytest.MonkeyPatch) -> None:
    """The ledger finds more quotas than change in one step."""

    async def refuses(*_: object) -> Answer:
        return Answer(outcome=Outcome.TOO_MANY_QUOTAS, epoch=1, seq=1, now_ms=1)

    patched.setattr(WaitingRoom, "set_opening", refuses)


# -- what is changed in a request that succeeds ------------------------------------------------------------------


def without(sent: Sent, name: str) -> Sent:
    return replace(sent, headers=tuple(line for line in sent.headers if not line.lower().startswith(f"{name}:")))


def plus(*lines: str) -> Change:
    """With more header lines."""

    async def change(_: World, sent: Sent) -> Sent:
        return replace(sent, headers=(*sent.headers, *lines))

    return change


async def unfinished(_: World, sent: Sent) -> Sent:
    return replace(sent, body=sent.body or b"{}", missing_bytes=10)


async def with_an_unfinished_head(_: World, sent: Sent) -> Sent:
    return replace(sent, is_head_unfinished=True)


async def too_large(_: World, sent: Sent) -> Sent:
    return replace(sent, body=b" " * TOO_LARGE_BYTES)


async def another_method(_: World, sent: Sent) -> Sent:
    return Sent(method="DELETE", target=sent.target, headers=(ENGLISH,))


async def as_text(_: World, sent: Sent) -> Sent:
    headers = ("Content-Type: text/plain", *without(sent, "content-type").headers)
    return replace(sent, body=sent.body or b"x", headers=headers)


async def invalid(_: World, sent: Sent) -> Sent:
    if sent.body is not None:
        return replace(
            sent, body=b'{"nope":1}', headers=("Content-Type: application/json", *without(sent, "content-type").headers)
        )
    return replace(sent, target=f"{sent.target}{'&' if '?' in sent.target else '?'}nope=1")


def by_key(kind: str) -> Change:
    """With another staff key; "" is none."""

    async def change(world: World, sent: Sent) -> Sent:
        key = (f"X-API-Key: {await world.key(kind)}",) if kind else ()
        return replace(sent, headers=(*without(sent, "x-api-key").headers, *key))

    return change


async def somebody_else_s(_: World, sent: Sent) -> Sent:
    return replace(sent, headers=(*without(sent, "authorization").headers, "Authorization: Bearer x"))


def at(target: str) -> Change:
    """Of something else, which there is not."""

    async def change(_: World, sent: Sent) -> Sent:
        return replace(sent, target=target)

    return change


async def of_a_spent_network(world: World, sent: Sent) -> Sent:
    """On a front that lets a network ask once."""
    url = world.urls["limited"]
    first = Sent(method="GET", target="/v1/programs", headers=(FORWARDED,))
    await exchange(url, first.raw("plain"), "GET")
    return replace(sent, headers=(*sent.headers, FORWARDED))


async def another_version(_: World, sent: Sent) -> Sent:
    return replace(sent, version="HTTP/2.0")


async def unknown_method(_: World, sent: Sent) -> Sent:
    return replace(sent, method="BREW")


async def long_target(_: World, sent: Sent) -> Sent:
    return replace(sent, target=f"{sent.target}?{'x' * 20_000}")


async def unchanged(_: World, sent: Sent) -> Sent:
    return sent


CHANGES: Mapping[str, Change] = {
    "bad-request": plus("a line without the mark that it needs"),
    "method-not-allowed": another_method,
    "expectation-failed": plus("Expect: miracles"),
    "internal-error": unchanged,
    "rate-limited": of_a_spent_network,
    "request-timeout": unfinished,
    "body-too-large": too_large,
    "unsupported-media-type": as_text,
    "invalid-request": invalid,
    "api-key-required": by_key(""),
    "api-key-expired": by_key("expired"),
    "api-key-revoked": by_key("revoked"),
    "role-not-allowed": by_key("no scopes"),
    "program-not-allowed": by_key("elsewhere"),
    "overloaded": unchanged,
    "recovering": unchanged,
    "too-many-streams": unchanged,
    "too-many-quotas": unchanged,
    "target-too-long": long_target,
    "method-not-implemented": unknown_method,
    "http-version-not-supported": another_version,
    "headers-too-large": plus("Cookie: " + "x" * 40_000),
}
FAULTS: Mapping[str, Fault] = {
    "internal-error": faulty,
    "overloaded": overloaded,
    "too-many-streams": crowded,
    "too-many-quotas": too_many_quotas,
}
FRONTS: Mapping[str, str] = {"rate-limited": "limited", "recovering": "early", "request-timeout": "hasty"}
VARYING: Mapping[str, frozenset[str]] = {"getChallenge": frozenset({"nonce", "salt", "expiresAt", "signature"})}
NOT_THERE: Mapping[str, str] = {
    "showOpening": "/v1/openings/nowhere-1",
    "showQueue": "/v1/openings/nowhere-1/queue",
    "streamQueue": "/v1/openings/nowhere-1/queue/stream",
    "getChallenge": "/v1/openings/nowhere-1/challenge",
    "join": "/v1/openings/nowhere-1/tickets",
    "changeOpening": "/v1/staff/openings/nowhere-1",
    "setAdmission": "/v1/staff/openings/nowhere-1/admission",
    "setBeacon": "/v1/staff/openings/nowhere-1/beacon",
    "cancelByStaff": f"/v1/staff/reservations/{NOBODY}/cancel",
    "listOpeningsAsCalendar": "/v1/openings.ics?program=nowhere",
    "listAudit": "/v1/staff/audit?program=nowhere",
    "describeProblem": "/problems/nothing",
    "setQuota": "/v1/staff/quotas/nowhere.a.b.20270301.0800.c",
    "/openings/{id}": "/openings/nowhere-1",
    "/static/{version}/{name}": "/static/x/nothing.css",
}


def changed(operation: str, change: Change) -> Make:
    async def make(world: World) -> Sent:
        return await change(world, await SUCCEEDING[operation](world))

    return make


def _of_problem(operation: Operation, problem: str) -> Case | None:
    change = CHANGES.get(problem)
    if problem == "not-found":
        there_is_not = NOT_THERE.get(operation.id)
        change = at(there_is_not) if there_is_not else somebody_else_s if operation.security == "manageToken" else None
    if problem == "request-timeout" and operation.body is None:
        change = with_an_unfinished_head
    if change is None:
        return None
    if problem == "recovering" and operation.id in ("listAudit", "find"):  # which ask the records alone
        return Case(operation=operation.id, outcome=problem, make=SUCCEEDING[operation.id], fault=without_records)
    return Case(
        operation=operation.id,
        outcome=problem,
        make=changed(operation.id, change),
        fault=FAULTS.get(problem),
        front=FRONTS.get(problem, "usual"),
    )


def shared_cases() -> Iterator[Case]:
    """What is declared of every operation and is made alike in all; and what every page has."""
    for operation in OPERATIONS:
        for problem in (*operation.problems, *COMMON_PROBLEMS):
            case = _of_problem(operation, problem.name)
            if case is not None and is_possible(operation, problem.name):
                yield case
        success = min(operation.successes)
        varies = VARYING.get(operation.id, frozenset())
        yield Case(operation=operation.id, outcome=str(success), make=SUCCEEDING[operation.id], varies=varies)
        if operation.method == "GET":
            yield Case(operation=operation.id, outcome="200", make=changed(operation.id, by_head), about="HEAD")
        if 304 in operation.successes or operation.id == "listOpeningsAsCalendar":
            yield Case(operation=operation.id, outcome="304", make=changed(operation.id, plus("If-None-Match: *")))
        if 202 in operation.successes:
            yield Case(operation=operation.id, outcome="202", make=SUCCEEDING[operation.id], fault=unrecorded)
    for page in sorted(page.path for page in PAGES):
        for refusal in ("bad-request", "method-not-allowed", "expectation-failed"):
            yield Case(operation=page, outcome=refusal, make=changed(page, CHANGES[refusal]))
        yield Case(operation=page, outcome="200", make=SUCCEEDING[page])
        yield Case(operation=page, outcome="200", make=changed(page, by_head), about="HEAD")
        yield Case(operation=page, outcome="304", make=changed(page, plus("If-None-Match: *")))
        if page in NOT_THERE:
            there_is_not = "not-found" if page == STATIC_PATH else "404"
            yield Case(operation=page, outcome=there_is_not, make=changed(page, at(NOT_THERE[page])))
        else:
            yield Case(operation=page, outcome="503", make=SUCCEEDING[page], front="early")

    for redirect in REDIRECTS:
        yield Case(operation=redirect.path, outcome="Location", make=reading(redirect.path.replace("{id}", "x-1")))
        yield Case(operation=redirect.path, outcome="Location", make=by_browser(redirect.path), about="for a browser")
    for path in ("/v1/programs", "/v1/reservations", "/openings", "/", "/nothing"):
        yield Case(operation="any", outcome="method-not-implemented", make=sending("BREW", path), about=path)
        yield Case(
            operation="any",
            outcome="not-found" if path == "/nothing" else "204",
            make=sending("OPTIONS", path),
            about=path,
        )
    yield Case(operation="any", outcome="not-found", make=sending("GET", "/nothing"))
    yield Case(operation="any", outcome="404", make=by_browser("/nothing"), about="for a browser")


def sending(method: str, path: str) -> Make:
    async def make(_: World) -> Sent:
        return Sent(method=method, target=path, headers=(ENGLISH,))

    return make


def by_browser(path: str) -> Make:
    async def make(_: World) -> Sent:
        return Sent(method="GET", target=path.replace("{id}", "x-1"), headers=(ENGLISH, "Accept: text/html,*/*;q=0.8"))

    return make


async def by_head(_: World, sent: Sent) -> Sent:
    return replace(sent, method="HEAD")


def is_possible(operation: Operation, problem: str) -> bool:
    """Whether the shared way of making this problem reaches the operation."""
    return problem != "internal-error" or operation.path.startswith(LIMITED_PATHS)
