"""What people do, and what they are told: claims, replays, confirmations, cancellations, and walking away.

The way from a person to a front loses requests and answers as well. Whoever got no definite answer asks again, at any
front, with the same key. What HTTP would say is told as `loadtest.history` has it, so that the same rules judge it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Any, TypeAlias

from loadtest.checker.history import NO_ANSWER, Exchange
from loadtest.checker.rules import Rule, Violation
from reservasi.errors import Unavailable
from reservasi.model import Answer, Outcome
from reservasi.reservations import ACCEPTED, Applicant, ClaimRequest, Contact
from reservasi.waiting_room.tickets import Ticket
from tests.simulation.processes import PROGRAM, Deployment, Front

TRIES_MAX = 60
PATIENCE_S = 2.5
TURN_TRIES_MAX = 40
UNAVAILABLE = 503

Told: TypeAlias = tuple[int, dict[str, Any]]  # status, body
Work: TypeAlias = Callable[[Front], Awaitable[Told]]  # what a front does with a request
About: TypeAlias = dict[str, Any]  # what the history says of a request
Request: TypeAlias = tuple[Work, About]
CLAIM_STATUS = {
    Outcome.HELD: 201,
    Outcome.EXISTS: 201,
    Outcome.UNKNOWN_QUOTA: 404,
    Outcome.EXISTS_WITH_DIFFERENT_CONTENT: 422,
}
CONFIRM_STATUS = {Outcome.HOLD_EXPIRED: 410, Outcome.NOT_FOUND: 404}


class Crowd:
    """Everybody who wants a place, and what they were told."""

    def __init__(self, deployment: Deployment, chance: random.Random, quotas: Sequence[str], opening: str) -> None:
        self.deployment = deployment
        self.chance = chance
        self.quotas = quotas
        self.opening = opening  # whose waiting room they wait in; "" none
        self.loss = 0.0  # of requests, and of answers
        self.history: list[Exchange] = []
        self.violations: list[Violation] = []
        self.admitted = 0
        self.size = chance.randint(3, 7)

    def people(self) -> list["Visitor"]:
        """All of them."""
        return [Visitor(self, number) for number in range(self.size)]

    async def front(self) -> Front:
        """Any front; waits for one where all have died."""
        while not (alive := self._alive()):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
        return self.chance.choice(alive)

    def _alive(self) -> list[Front]:
        return [front for front in self.deployment.fronts if front.host.alive]

    async def ask(self, work: Work) -> Told:
        """One request: what came back, if anything."""
        front = await self.front()
        latency_s = self.deployment.network.latency_s
        await asyncio.sleep(latency_s())
        if self.chance.random() < self.loss or not front.host.alive:
            await asyncio.sleep(self.chance.uniform(0.0, 0.5))
            return NO_ANSWER, {}
        answering = front.host.spawn(self._answer(front, work))
        await asyncio.wait([answering], timeout=PATIENCE_S)
        if not answering.done() and self.chance.random() < 0.5:
            answering.cancel()  # the front notices that the caller has gone
        if not answering.done() or answering.cancelled():
            return NO_ANSWER, {}
        await asyncio.sleep(latency_s())
        return (NO_ANSWER, {}) if self.chance.random() < self.loss else answering.result()

    async def _answer(self, front: Front, work: Work) -> Told:
        try:
            return await work(front)
        except Unavailable as error:
            return UNAVAILABLE, {"type": type(error).__name__}


class Visitor:
    """One person."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self._crowd = crowd
        self._chance = crowd.chance
        self._tabs = random.Random(f"tabs {number} {crowd.size}")
        self.number = number
        self._life = 0  # grows when a place was left without a word: what follows is judged as somebody else's

    async def live(self) -> None:
        """All that they do."""
        await self._pause(2.0)
        if self._crowd.opening:
            await self._wait_turn()
        for attempt in range(self._chance.randint(1, 3)):
            quota = self._chance.choice(self._crowd.quotas)
            applicants = tuple(_applicant(number) for number in self._party())
            claim = self._claim_of(f"key-{attempt}", quota, applicants)
            status, body = await self._claim(*claim)
            if status == 201:
                await self._use(body["id"], claim)
            await self._pause(0.5)

    def _party(self) -> list[int]:
        others = [number for number in range(self._crowd.size) if number != self.number]
        return [self.number, *self._chance.sample(others, self._chance.choice((0, 0, 0, 1, 2)))]

    async def _use(self, id_: str, claim: Request) -> None:
        doing = self._chance.choice(("confirm", "confirm", "confirm", "cancel", "leave", "both"))
        again = [self._claim(*claim)] if self._chance.random() < 0.3 else []
        await self._pause(1.5)
        match doing:
            case "confirm":
                answers = await asyncio.gather(self._confirm(id_), *again)
                if answers[0][0] == 200 and self._chance.random() < 0.3:
                    await self._pause(1.0)
                    await self._cancel(id_)
                elif answers[0][0] not in (200, 202):
                    self._life += 1
                if self._chance.random() < 0.3:
                    await self._confirm(id_)
            case "cancel":
                answers = await asyncio.gather(self._cancel(id_), *again)
                if answers[0][0] not in (200, 202):
                    self._life += 1
            case "both":
                await asyncio.gather(self._confirm(id_), self._cancel(id_), *again)
                await self._cancel(id_)
                self._life += 1
            case _:
                await asyncio.gather(*again)
                self._life += 1
                await self._pause(4.0)
        if self._chance.random() < 0.2:
            await self._tell(*claim)

    # -- requests ------------------------------------------------------------------------------------------------

    async def _claim(self, work: Work, about: About) -> Told:
        if self._chance.random() < 0.15:
            answer, _ = await asyncio.gather(self._until_definite(work, about), self._tell(work, about))
            return answer
        return await self._until_definite(work, about)

    def _claim_of(self, key: str, quota: str, applicants: tuple[Applicant, ...]) -> Request:
        request = ClaimRequest(
            quota=quota,
            applicants=applicants,
            contact=Contact(email=f"{self.number}@example.id"),
            idempotency_key=key,
        )

        async def work(front: Front) -> Told:
            id_, answer = await front.reservations.claim(request)
            status = CLAIM_STATUS.get(answer.outcome, 409)
            if status != 201:
                return status, {"type": _kind(answer), **_place(answer)}
            token = front.reservations.manage_token(id_)
            body = {"id": id_, "quota": quota, "places": len(applicants), "manage_token": token}
            return 201, {**body, **_place(answer)}

        person = self.number * 10 + self._life
        return work, {"call": "claim", "person": person, "key": key, "quota": quota, "places": len(applicants)}

    async def _confirm(self, id_: str) -> Told:
        async def work(front: Front) -> Told:
            confirmation = await front.reservations.confirm(id_, "")
            answer = confirmation.answer
            outcome = answer.outcome
            if outcome not in (Outcome.CONFIRMED, Outcome.EXISTS):
                return CONFIRM_STATUS.get(outcome, 409), {"type": _kind(answer), **_place(answer)}
            if not confirmation.recorded:
                return 202, {"id": id_, **_place(answer)}
            code = front.reservations.booking_code(id_)
            self._check_recorded(id_, code)
            return 200, {"id": id_, "booking_code": code, **_place(answer)}

        return await self._until_recorded(work, self._about("confirm", id_))

    def _check_recorded(self, id_: str, code: str) -> None:
        """At this very moment the database must have what a front is about to call recorded."""
        recorded = self._crowd.deployment.database.booking_code(id_)
        if recorded != code:
            detail = f"told {code} while the records have {recorded}"
            self._crowd.violations.append(Violation(Rule.CONFIRMATION_FORGOTTEN, id_, detail))

    def _check_ended(self, id_: str) -> None:
        """The same of an end: the database must have nobody live under it."""
        if persons := self._crowd.deployment.database.live_persons(id_):
            detail = f"told that it is recorded while the records have it live for {persons}"
            self._crowd.violations.append(Violation(Rule.CANCELLATION_FORGOTTEN, id_, detail))

    async def _cancel(self, id_: str) -> Told:
        async def work(front: Front) -> Told:
            change = await front.reservations.cancel(id_)
            answer = change.answer
            if answer.outcome in ACCEPTED:
                if change.recorded:
                    self._check_ended(id_)
                return 200 if change.recorded else 202, {"id": id_, **_place(answer)}
            return 404 if answer.outcome is Outcome.NOT_FOUND else 409, {"type": _kind(answer), **_place(answer)}

        return await self._until_recorded(work, self._about("cancel", id_))

    def _about(self, call: str, id_: str) -> About:
        return {"call": call, "person": self.number * 10, "reservation_id": id_}

    async def _until_recorded(self, work: Work, about: About) -> Told:
        answer = await self._until_definite(work, about)
        for _ in range(3):
            if answer[0] != 202:
                break
            await self._pause(0.5)
            answer = await self._until_definite(work, about)
        return answer

    async def _until_definite(self, work: Work, about: About) -> Told:
        for _ in range(TRIES_MAX):
            answer = await self._tell(work, about)
            if answer[0] not in (NO_ANSWER, UNAVAILABLE):
                return answer
            await self._pause(0.4)
        return NO_ANSWER, {}

    async def _tell(self, work: Work, about: About) -> Told:
        """Ask once, and note what was told."""
        clock, trace = asyncio.get_running_loop().time, self._crowd.deployment.network.trace
        sent_ms, who = clock() * 1000, f"person-{self.number}"
        trace(who, "asks", f"{about['call']} {about.get('key', '')}{about.get('reservation_id', '')}")
        status, body = await self._crowd.ask(work)
        trace(who, "hears", f"{about['call']} {status} {sorted(body.items())}")
        exchange = Exchange(
            sent_ms=sent_ms,
            answered_ms=clock() * 1000,
            outcome=status,
            epoch=body.get("epoch", 0),
            seq=body.get("seq", 0),
            body=body,
            **about,
        )
        self._crowd.history.append(exchange)
        return status, body

    # -- waiting -------------------------------------------------------------------------------------------------

    async def _wait_turn(self) -> None:
        """Join, and wait until the mark has come to their number; in the end they try all the same."""
        opening_id = self._crowd.opening
        joined: Ticket | None = None
        for _ in range(TURN_TRIES_MAX):
            front = await self._crowd.front()
            opening = front.availability.opening(opening_id)
            if opening is None:
                await self._pause(0.2)
                continue
            if joined is None:
                joined = await self._join(front)
            if joined is not None and self._tabs.random() < 0.2:
                joined = await self._ask_again(front, joined)
            if joined is not None:
                now_ms = front.availability.now_ms(PROGRAM)
                number = front.room.number_of(joined, opening, now_ms)
                if number is not None and number <= opening.admitted_through:
                    self._crowd.admitted += 1
                    return
            await self._pause(0.4)

    async def _ask_again(self, front: Front, joined: Ticket) -> Ticket:
        """The tab was closed: who joined before the draw gets their drawn number again, as often as they ask."""
        again = await self._join(front)
        if again is not None and joined.number is None and again.number is not None:
            detail = f"{again.number} instead of the drawn number"
            self._crowd.violations.append(Violation(Rule.ANSWER_CHANGED, f"the ticket of {self.number}", detail))
        return again or joined

    async def _join(self, front: Front) -> Ticket | None:
        person = front.room.person(PROGRAM, _applicant(self.number).nik)
        ticket_id = front.room.ticket_id(PROGRAM, self._crowd.opening, person)

        async def work(front: Front) -> Told:
            answer = await front.room.join(PROGRAM, self._crowd.opening, ticket_id)
            return (201, {"number": answer.number}) if answer.outcome is Outcome.JOINED else (409, {})

        status, body = await self._crowd.ask(work)
        if status != 201:
            return None
        number = body["number"] if body["number"] >= 0 else None
        return Ticket(program=PROGRAM, opening=self._crowd.opening, id=ticket_id, ends_at_ms=0, number=number)

    async def _pause(self, most_s: float) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, most_s))


def _kind(answer: Answer) -> str:
    """A refusal's problem type."""
    if answer.outcome is Outcome.EXISTS_WITH_DIFFERENT_CONTENT:
        return "idempotency-key-reused"
    return answer.outcome.value.replace("_", "-")


def _place(answer: Answer) -> dict[str, int]:
    """What HTTP does not say and the rules judge by: where in the program's history an answer lies."""
    return {"epoch": answer.epoch, "seq": answer.seq}


def _applicant(number: int) -> Applicant:
    return Applicant(nik=f"35780101900{number:05d}", name=f"Orang {number}", birth_date=date(1990, 1, 1))
