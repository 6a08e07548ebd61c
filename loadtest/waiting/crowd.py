"""The crowd: joins, waits, computes its numbers from public data, claims when it may, and some of it misbehaves."""

import asyncio
import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from loadtest.checker.history import INDEFINITE, Exchange
from loadtest.crowd.crowd import open_client, send
from loadtest.crowd.scenario import Answered, Call, claim_call, managed_call
from loadtest.stage.people import person
from loadtest.waiting.board import Board
from loadtest.waiting.draw import number_of

PAUSE_S = 0.2
LOOK_S = 0.05  # between two looks of the waiting at the shared copy of the queue
ASKS_MAX = 300
PLACED, SOLD_OUT = "placed", "sold out"
NOT_ADMITTED = "403 not-admitted"
REFUSED = "403 waiting-room-required"
EXPECTED = {  # refusals of each kind of wrong claim; when nothing is left, the answer is sold-out instead
    "early": ("409 not-open", NOT_ADMITTED),
    "hasty": (NOT_ADMITTED,),
    "thief": (f"{REFUSED} ticket-for-other-person",),
    "forger": (f"{REFUSED} ticket-invalid",),
    "careless": (f"{REFUSED} ticket-missing",),
}
INSISTENT_JOINS = 10


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    people: int = 50_000
    late_share: float = 0.05  # join after the opening
    late_s: float = 5.0  # within so long
    insistent_share: float = 0.01  # join ten times
    early_share: float = 0.005  # claim before the opening
    hasty_share: float = 0.01  # claim before their number
    thief_share: float = 0.005  # claim with another's ticket
    forger_share: float = 0.002  # claim with a ticket that they altered
    careless_share: float = 0.002  # claim without a ticket
    connections: int = 64
    pollers: int = 4
    patience_s: float = 240.0  # after the opening; the run has failed where an answer is missing then
    seed: int = 0

    def some(self, share: float) -> int:
        return max(1, round(self.people * share)) if share else 0


class Visitor(msgspec.Struct, kw_only=True):
    """One person, and what became of them; times are milliseconds since the Unix epoch."""

    person: int
    late: bool
    came_ms: float = 0.0  # when they first asked
    tickets: set[str] = set()  # all that they were given: one, if all is well
    ticket: str = ""
    ticket_id: str = ""
    number: int = -1  # by the draw, or given to those who came late
    admitted_ms: float = 0.0  # when they read that they may claim
    answered_ms: float = 0.0  # when they knew: a place, or nothing left
    outcome: str = ""  # "placed", "sold out"


class Crowd:
    """Everybody who comes to one opening."""

    def __init__(self, url: str, opening: str, opens_at_ms: int, quotas: Sequence[str], plan: Plan) -> None:
        self.plan = plan
        self.history: list[Exchange] = []
        self.joins_ms: list[float] = []  # how long each join before the opening took
        self.refusals: Counter[tuple[str, str]] = Counter()  # by kind of claim and answer
        self.surprises: list[str] = []
        self.board = Board(url, opening, opens_at_ms)
        self.chance = random.Random(plan.seed)
        order = list(range(plan.people))
        self.chance.shuffle(order)
        late = plan.some(plan.late_share)
        self.visitors = [Visitor(person=number, late=at < late) for at, number in enumerate(order)]
        self.joined_s = 0.0  # how long the joins before the opening took
        self._url = url
        self._client = open_client(plan.connections)
        self.opens_at_ms = opens_at_ms
        self._quotas = quotas
        self._join_path = f"/v1/openings/{opening}/tickets"
        self._keys = itertools.count()
        self._left = plan.people  # who know nothing definite yet
        self._waiting: list[tuple[int, int, Visitor]] = []  # heap by number: who has one and waits for it

    async def run(self) -> None:
        """Everything, from the first join to the last definite answer.

        Raises:
            TimeoutError: somebody had none within the plan's patience.
        """
        pollers = [asyncio.create_task(self.board.poll(random.Random(n))) for n in range(self.plan.pollers)]
        try:
            await self._join_early()
            async with asyncio.timeout(max(0.0, self.opens_at_ms / 1000 - time.time()) + self.plan.patience_s):
                await self._claim_early()
                await self.board.until(lambda: self.board.mark >= 0)
                await self._be_served()
        finally:
            for poller in pollers:
                poller.cancel()
            await self.board.close()
            await self._client.close()

    # -- joining ---------------------------------------------------------------------------------------------------

    async def _join_early(self) -> None:
        early = [visitor for visitor in self.visitors if not visitor.late]
        insistent = early[: self.plan.some(self.plan.insistent_share)]
        joins = early + insistent * (INSISTENT_JOINS - 1)
        self.chance.shuffle(joins)
        source, begun_s = iter(joins), time.perf_counter()

        async def work() -> None:
            for visitor in source:
                await self._join(visitor)

        await asyncio.gather(*(work() for _ in range(self.plan.connections)))
        self.joined_s = time.perf_counter() - begun_s

    async def _join(self, visitor: Visitor) -> None:
        who = person(visitor.person, self.plan.seed)
        content = msgspec.json.encode({"nik": who.nik, "birth_date": who.birth_date})
        headers = {"Content-Type": "application/json"}
        visitor.came_ms = visitor.came_ms or time.time() * 1000
        call = Call(name="join", method="POST", path=self._join_path, headers=headers, body=content)
        answered, sent = await self._definite(visitor, call)
        if answered.outcome == 201:
            body = answered.body
            visitor.ticket, visitor.ticket_id = body["ticket"], body["ticket_id"]
            visitor.tickets = visitor.tickets | {visitor.ticket}
            if "number" in body:
                visitor.number = body["number"]
            elif not visitor.late:
                self.joins_ms.append(sent.answered_ms - sent.sent_ms)
        elif answered.problem == "409 sold-out" and self.board.mark >= 0:
            self._know(visitor, SOLD_OUT, sent.answered_ms)
        else:
            self.surprises.append(f"a join was answered {answered.problem}")
            self._know(visitor, answered.problem, sent.answered_ms)

    # -- the opening -----------------------------------------------------------------------------------------------

    async def _claim_early(self) -> None:
        some = self._choose(self.plan.early_share, [visitor for visitor in self.visitors if visitor.ticket])
        await asyncio.gather(*(self._misbehave("early", visitor, visitor.ticket) for visitor in some))

    async def _be_served(self) -> None:
        for visitor in self.visitors:
            if visitor.ticket and visitor.number < 0:
                visitor.number = number_of(self.board.queue, visitor.ticket_id)
            if visitor.ticket:
                self._wait(visitor)
        async with asyncio.TaskGroup() as group:
            for visitor in self.visitors:
                if not visitor.ticket:
                    group.create_task(self._come_late(visitor))
            group.create_task(self._misbehave_all())
            while self._left:
                for visitor in self._admitted():
                    group.create_task(self._visit(visitor))
                if self.board.state in ("sold_out", "ended"):
                    self._tell_all()
                await asyncio.sleep(LOOK_S)

    def _wait(self, visitor: Visitor) -> None:
        heapq.heappush(self._waiting, (visitor.number, visitor.person, visitor))

    def _admitted(self) -> Iterable[Visitor]:
        while self._waiting and self._waiting[0][0] <= self.board.mark:
            visitor = heapq.heappop(self._waiting)[2]
            visitor.admitted_ms = time.time() * 1000
            yield visitor

    def _tell_all(self) -> None:
        """Nothing remains: people who wait read it in the queue."""
        for _, _, visitor in self._waiting:
            self._know(visitor, SOLD_OUT, time.time() * 1000)
        self._waiting.clear()

    async def _come_late(self, visitor: Visitor) -> None:
        came_s = self.opens_at_ms / 1000 + self.chance.uniform(0, self.plan.late_s)
        await asyncio.sleep(max(0.0, came_s - time.time()))
        await self._join(visitor)
        if visitor.ticket and not visitor.outcome:
            if visitor.number < int(self.board.queue["joined"]):
                self.surprises.append(f"a late arrival was given number {visitor.number}, before those who waited")
            self._wait(visitor)

    # -- claiming --------------------------------------------------------------------------------------------------

    async def _visit(self, visitor: Visitor) -> None:
        """Claim somewhere, and confirm; the quotas that an answer names are tried next."""
        quota = self.chance.choice(self._quotas)
        while not visitor.outcome:
            answered, sent = await self._claim(visitor, quota, visitor.ticket)
            if answered.outcome == 201:
                self._know(visitor, PLACED, sent.answered_ms)
                await self._confirm(visitor, answered.body)
            elif answered.problem == "409 sold-out":
                others = [each["id"] for each in answered.body["alternatives"]]
                if others:
                    quota = self.chance.choice(others)
                else:
                    self._know(visitor, SOLD_OUT, sent.answered_ms)
            elif answered.problem == NOT_ADMITTED:  # that front does not have the newest mark yet
                self.refusals["admitted", answered.problem] += 1
                await asyncio.sleep(PAUSE_S)
            else:
                self.surprises.append(f"a claim in time was answered {answered.problem}")
                self._know(visitor, answered.problem, sent.answered_ms)

    async def _claim(self, visitor: Visitor, quota: str, ticket: str) -> tuple[Answered, Exchange]:
        group = [person(visitor.person, self.plan.seed)]
        key = f"w-{visitor.person}-{next(self._keys)}"
        return await self._definite(visitor, claim_call(group, quota, key, ticket))

    async def _confirm(self, visitor: Visitor, held: dict[str, Any]) -> None:
        payment = {"payment_reference": f"PAY-{visitor.person}"}
        answered, _ = await self._definite(visitor, managed_call("confirm", "POST", held, "/confirm", payment))
        if answered.outcome != 200:
            self.surprises.append(f"a confirmation was answered {answered.problem}")

    async def _definite(self, visitor: Visitor, call: Call) -> tuple[Answered, Exchange]:
        for _ in range(ASKS_MAX):
            answered, sent = await send(self._client, self._url, visitor.person, call)
            if call.name != "join":
                self.history.append(sent)
            if answered.outcome not in INDEFINITE | {202}:
                break
            self.refusals["come again", f"{call.name}: {answered.problem}"] += 1
            await asyncio.sleep(answered.retry_after_s or PAUSE_S * self.chance.uniform(0.5, 1.0))
        return answered, sent

    def _know(self, visitor: Visitor, outcome: str, at_ms: float) -> None:
        if not visitor.outcome:
            visitor.outcome, visitor.answered_ms = outcome, at_ms
            self._left -= 1

    # -- wrong claims ----------------------------------------------------------------------------------------------

    async def _misbehave_all(self) -> None:
        """Some people claim wrongly now; their right claim comes later."""
        plan, half = self.plan, int(self.board.queue["joined"]) // 2
        holders = [visitor for visitor in self.visitors if visitor.ticket]
        far = [visitor for visitor in holders if visitor.number > max(half, self.board.mark)]
        first = min(holders, key=lambda visitor: visitor.number)
        tries = [("hasty", visitor, visitor.ticket) for visitor in self._choose(plan.hasty_share, far)]
        tries += [("thief", visitor, first.ticket) for visitor in self._choose(plan.thief_share, far)]
        tries += [("forger", visitor, _altered(visitor.ticket)) for visitor in self._choose(plan.forger_share, far)]
        tries += [("careless", visitor, "") for visitor in self._choose(plan.careless_share, far)]
        self.chance.shuffle(tries)
        await asyncio.gather(*itertools.starmap(self._misbehave, tries))

    async def _misbehave(self, kind: str, visitor: Visitor, ticket: str) -> None:
        answered, _ = await self._claim(visitor, self.chance.choice(self._quotas), ticket)
        self.refusals[kind, answered.problem] += 1
        if answered.problem not in (*EXPECTED[kind], "409 sold-out"):
            self.surprises.append(f"{kind}: the claim was answered {answered.problem}")
        elif kind == "hasty" and answered.problem == NOT_ADMITTED and answered.body["number"] != visitor.number:
            self.surprises.append(f"number {visitor.number} was told to be {answered.body['number']}")

    def _choose(self, share: float, among: list[Visitor]) -> list[Visitor]:
        return self.chance.sample(among, min(len(among), self.plan.some(share)))


def _altered(ticket: str) -> str:
    """The same ticket with another last letter of what it says."""
    head, payload, signature = ticket.split(".")
    return ".".join((head, payload[:-1] + ("A" if payload[-1] != "A" else "B"), signature))
