"""What one person does at an opening, as a generator that yields requests and pauses and is sent the answers.

No input or output happens here, so that Locust's greenlets and asyncio tasks drive the very same behaviour. A person
looks at the availability, claims, tries elsewhere when that is sold out, and then confirms, cancels or walks away.
An answer that is not definite (none at all, 429, 503) is met by sending the same request again, bounded.
"""

import random
import time
from collections.abc import Generator, Mapping
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from loadtest.checker.history import INDEFINITE, NO_ANSWER, Exchange
from loadtest.stage.http import HOST, request
from loadtest.stage.people import Person, companion, person

TRIES_MAX = 40  # of one request; with kills in between, several are normal
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 3.0
GREEDY = "greedy-"  # begins the key of a second claim by people who have a place
ELSEWHERE_MAX = 2  # further quotas that a person tries after a sold-out one
CONFIRMING_MAX = 60  # times a person asks again while a confirmation or a cancellation is being recorded


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How the crowd behaves; shares are probabilities of one person."""

    program: str
    people: int
    first: int = 0  # number of the first of them
    seed: int = 0
    abandon_share: float = 0.05  # hold a place and never confirm it
    cancel_share: float = 0.05  # confirm and cancel; only in the first half, so that the places find others
    replay_share: float = 0.1  # send the claim again although it was answered
    greedy_share: float = 0.05  # try to hold a second place
    pair_share: float = 0.02  # come with a companion
    think_s_max: float = 5.0  # between claim and confirmation
    look_share: float = 1.0  # look at the availability themselves; the others have seen it on somebody's phone


class Call(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # the exchange's `call`, and Locust's name for it
    method: str
    path: str
    headers: dict[str, str] = {}
    body: bytes = b""
    key: str = ""
    quota: str = ""
    places: int = 0
    reservation_id: str = ""

    def encode(self, host: str = HOST) -> bytes:
        return request(self.method, self.path, self.headers, self.body, host)


class Pause(msgspec.Struct, frozen=True):
    seconds: float


# Definite: no place in this quota. It may have been closed, or moved to a later opening, since somebody looked.
NONE_HERE = tuple(f"/problems/{name}" for name in ("sold-out", "closed", "not-open"))


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    outcome: int  # HTTP status, or NO_ANSWER
    body: dict[str, Any] = {}
    retry_after_s: float = 0.0
    replayed: bool = False
    etag: str = ""

    @property
    def problem(self) -> str:
        """The status, and of a refusal the last part of its type and its reason, as `403 not-admitted`."""
        if self.outcome < 400:
            return str(self.outcome)
        words = (str(self.outcome), self.body.get("type", "").rpartition("/")[2], self.body.get("reason", ""))
        return " ".join(filter(None, words))


class Result(StrEnum):
    CONFIRMED = "confirmed"  # 200: it is in the records
    CONFIRMING = "confirming"  # confirmed or cancelled, and still 202 after all patience
    CANCELLED = "cancelled"  # confirmed, then cancelled
    ABANDONED = "abandoned"  # held, and left so
    WITHOUT = "without"  # definite: no place
    UNANSWERED = "unanswered"  # no definite answer after all tries
    SURPRISED = "surprised"  # an answer that the rules do not know; always a bug


Visit: TypeAlias = Generator[Call | Pause, Answered | None, Result]


class VisitOver(Exception):
    """The visit ends with this result, whatever the person still wanted."""


def visit(number: int, plan: Plan, choices: list[str]) -> Visit:
    """One person's visit; `choices` are the quotas that everybody knows, renewed by each availability that is read."""
    chance = random.Random(f"{plan.seed}/{number}")
    try:
        return (yield from _visit(number, plan, choices, chance))
    except VisitOver as over:
        result: Result = over.args[0]
        return result


def _visit(number: int, plan: Plan, choices: list[str], chance: random.Random) -> Visit:
    if not choices or chance.random() < plan.look_share:
        yield from _look(plan, choices)
    group = [person(number, plan.seed)]
    if chance.random() < plan.pair_share:
        group.append(companion(number, plan.seed))
    claim, held = yield from _claim_somewhere(group, chance, choices)
    if held is None:
        return Result.WITHOUT
    if chance.random() < plan.replay_share:
        again = yield from _definite(claim, chance)
        # Tests without faults check that the answer also says "replayed": when the ledger's own reply was lost, the
        # service cannot distinguish the person's repeat from its own.
        _expect(again.outcome == 201 and again.body == held)
    if chance.random() < plan.greedy_share:
        refused = yield from _definite(claim_call(group, chance.choice(choices), f"{GREEDY}{number}"), chance)
        _expect(refused.outcome == 409)
    yield Pause(chance.uniform(0, plan.think_s_max))
    if chance.random() < plan.abandon_share:
        return Result.ABANDONED
    return (yield from _keep(number, held, plan, chance))


def _look(plan: Plan, choices: list[str]) -> Generator[Call | Pause, Answered | None, None]:
    call = Call(name="availability", method="GET", path=f"/v1/availability?program={plan.program}")
    answered = yield from _definite(call, random.Random(len(choices)))
    _expect(answered.outcome == 200)
    quotas = answered.body["quotas"]
    opened = [quota for quota in quotas if quota["state"] in ("open", "sold-out")]
    left = [quota["id"] for quota in opened if quota["remaining"] > 0]
    choices[:] = left or [quota["id"] for quota in opened or quotas]  # people try all the same when nothing is left


def _claim_somewhere(
    group: list[Person], chance: random.Random, choices: list[str]
) -> Generator[Call | Pause, Answered | None, tuple[Call, dict[str, Any] | None]]:
    """Claim, and try the alternatives that a sold-out answer names; the answer's body when a place was held."""
    quota = chance.choice(choices)
    for attempt in range(1 + ELSEWHERE_MAX):
        call = claim_call(group, quota, f"{group[0].number}-{attempt}-{chance.getrandbits(64):016x}")
        answered = yield from _definite(call, chance)
        if answered.outcome == 201:
            return call, answered.body
        _expect(answered.outcome == 409 and answered.body.get("type") in NONE_HERE)
        alternatives = answered.body.get("alternatives", [])
        if not alternatives:
            break
        quota = chance.choice(alternatives)["id"]
    return call, None


def _keep(number: int, held: dict[str, Any], plan: Plan, chance: random.Random) -> Visit:
    confirm = managed_call("confirm", "POST", held, "/confirm", {"payment_reference": f"PAY-{number}"})
    confirmed = yield from _until_recorded(confirm, chance)
    if confirmed.outcome == 202:
        return Result.CONFIRMING
    shown = yield from _definite(managed_call("show", "GET", held), chance)
    _expect(shown.outcome == 200 and shown.body["status"] == "confirmed")
    _expect(shown.body["booking_code"] == confirmed.body["booking_code"])
    if number < plan.first + plan.people // 2 and chance.random() < plan.cancel_share:
        cancelled = yield from _until_recorded(managed_call("cancel", "POST", held, "/cancel"), chance)
        return Result.CANCELLED if cancelled.outcome == 200 else Result.CONFIRMING
    return Result.CONFIRMED


def _until_recorded(call: Call, chance: random.Random) -> Generator[Call | Pause, Answered | None, Answered]:
    """Ask again while the answer is 202; the last one when patience ends."""
    for _ in range(CONFIRMING_MAX):
        answered = yield from _definite(call, chance)
        _expect(answered.outcome in (200, 202))
        if answered.outcome == 200:
            break
        yield Pause(chance.uniform(PAUSE_MIN_S, 1.0))
    return answered


def _definite(call: Call, chance: random.Random) -> Generator[Call | Pause, Answered | None, Answered]:
    pause_s = PAUSE_MIN_S
    for _ in range(TRIES_MAX):
        answered = yield call
        assert answered is not None, "a call must be answered"
        if answered.outcome not in INDEFINITE:
            return answered
        yield Pause(answered.retry_after_s or pause_s * chance.uniform(0.5, 1.0))
        pause_s = min(pause_s * 2, PAUSE_MAX_S)
    raise VisitOver(Result.UNANSWERED)


def claim_call(group: list[Person], quota: str, key: str, ticket: str = "") -> Call:
    body: dict[str, Any] = {
        "quota": quota,
        "applicants": [one.applicant() for one in group],
        "contact": {"email": group[0].email, "phone": group[0].phone},
    } | ({"ticket": ticket} if ticket else {})
    return Call(
        name="claim",
        method="POST",
        path="/v1/reservations",
        headers={"Idempotency-Key": key, "Content-Type": "application/json"},
        body=msgspec.json.encode(body),
        key=key,
        quota=quota,
        places=len(group),
    )


def managed_call(name: str, method: str, held: dict[str, Any], suffix: str = "", body: Any = None) -> Call:
    """A call about a reservation; `held` is the answer to its claim, `suffix` comes behind its address."""
    headers = {"Authorization": f"Bearer {held['manage_token']}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return Call(
        name=name,
        method=method,
        path=f"/v1/reservations/{held['id']}{suffix}",
        headers=headers,
        body=b"" if body is None else msgspec.json.encode(body),
        reservation_id=held["id"],
    )


def _expect(condition: bool) -> None:
    if not condition:
        raise VisitOver(Result.SURPRISED)


def read_answer(outcome: int, headers: Mapping[str, str], body: bytes) -> Answered:
    """An answer as the scenario reads it; one whose JSON is cut is none."""
    try:
        decoded = msgspec.json.decode(body) if body and "json" in headers.get("Content-Type", "") else {}
    except msgspec.DecodeError:
        return Answered(outcome=NO_ANSWER)
    return Answered(
        outcome=outcome,
        body=decoded,
        retry_after_s=float(headers.get("Retry-After", 0)),
        replayed=headers.get("Idempotent-Replayed") == "true",
        etag=headers.get("ETag", ""),
    )


def exchange(number: int, call: Call, answered: Answered, sent_ms: float) -> Exchange:
    """What a history keeps of a request and its answer: of a refusal only its type, of an availability no body."""
    body = answered.body if answered.outcome < 300 else {k: v for k, v in answered.body.items() if k == "type"}
    return Exchange(
        person=number,
        call=call.name,
        sent_ms=sent_ms,
        answered_ms=time.time() * 1000,
        outcome=answered.outcome,
        key=call.key,
        quota=call.quota,
        places=call.places,
        reservation_id=call.reservation_id,
        replayed=answered.replayed,
        body={} if call.name == "availability" else body,
    )
