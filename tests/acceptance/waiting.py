"""Openings with a waiting room for tests: created shortly before they open, joined, opened and admitted."""

import asyncio
import itertools
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reservasi.front.views.quota_json import moment
from reservasi.model import Opening, Outcome, SetOpening
from reservasi.programs import WaitingRoom as Policy
from reservasi.waiting_room import draw
from reservasi.waiting_room.creation import new_terms
from tests.acceptance.conftest import Reply, Stack, eventually

HOUR_MS = 3_600_000
AHEAD_MS = 500  # enough for a command that names the moment to reach the ledger before it
AT_ONCE = 1_000_000  # a rate at which everybody is admitted with the controller's next call
ELSEWHERE: dict[str, Any] = {"capacity": 7, "office": "ulp-wiyung"}  # another office than most tests use
_distinct_ms = itertools.count()  # no two openings of the program at one moment


async def now_ms(stack: Stack) -> int:
    """The ledger's clock."""
    seconds, microseconds = await stack.worker.client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


@dataclass
class Room:
    """One opening with a waiting room and one quota."""

    stack: Stack
    id: str
    quota: str
    opens_at_ms: int

    @property
    def opening(self) -> Opening:
        """As the front's view has it."""
        state = self.stack.front.availability.opening(self.id)
        assert state is not None
        return state

    async def join(self, applicant: dict[str, Any], **options: Any) -> Reply:
        body = {"nik": applicant["nik"], "birth_date": applicant["birth_date"], **options}
        return await self.stack.request("POST", f"/v1/openings/{self.id}/tickets", json=body)

    async def joined(self, applicant: dict[str, Any]) -> dict[str, Any]:
        """The answer to a join that gave a ticket."""
        reply = await self.join(applicant)
        assert reply.status == 201, reply.text
        ticket: dict[str, Any] = reply.json
        return ticket

    async def queue(self) -> dict[str, Any]:
        reply = await self.stack.request("GET", f"/v1/openings/{self.id}/queue")
        assert reply.status == 200, reply.text
        document: dict[str, Any] = reply.json
        return document

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The queue once it fulfils the condition."""
        queue: dict[str, Any] = {}

        async def fulfilled() -> bool:
            queue.update(await self.queue())
            return bool(condition(queue))

        await eventually(fulfilled)
        return queue

    async def opened(self) -> dict[str, Any]:
        """The queue once the numbers are drawn."""
        return await self.until(lambda queue: "seed" in queue)

    async def open(self, *, lasts_ms: int = HOUR_MS) -> dict[str, Any]:
        """The queue once the numbers are drawn; staff bring the opening forward, so those who joined were in time."""
        opens_at_ms = await now_ms(self.stack) + AHEAD_MS + next(_distinct_ms)
        change = {"opens_at": moment(opens_at_ms), "ends_at": moment(opens_at_ms + lasts_ms)}
        reply = await self.stack.staff("PATCH", f"/v1/staff/openings/{self.id}", json=change)
        assert reply.status == 200, reply.text
        return await self.opened()

    async def set(self, **changes: Any) -> None:
        """What staff may change."""
        command = SetOpening(opening=self.id, **changes)
        answer = await self.stack.front.waiting_room.set_opening(self.stack.program, command)
        assert answer.outcome in (Outcome.OPENING_SET, Outcome.EXISTS)

    async def admit_all(self) -> dict[str, Any]:
        """The queue once everybody who joined may claim."""
        await self.set(rate_per_min=AT_ONCE)
        return await self.until(lambda queue: queue["admitted_through"] >= queue["arrived"] > 0)

    async def claim(self, applicant: dict[str, Any], ticket: str | None = None, key: str | None = None) -> Reply:
        body = {"quota": self.quota, "applicants": [applicant]}
        return await self.stack.claim(body if ticket is None else {**body, "ticket": ticket}, key)

    def number(self, queue: dict[str, Any], ticket: dict[str, Any]) -> int:
        """A ticket's number, from public data."""
        seed = bytes.fromhex(queue["seed"])
        assert draw.commitment(seed) == queue["commitment"]
        return draw.number(seed, ticket["ticket_id"], queue.get("beacon", ""), queue["joined"])


async def create_opening(
    stack: Stack,
    policy: Policy | None,
    *,
    opens_in_ms: int = HOUR_MS,
    joins_before_ms: int = 24 * HOUR_MS,
    lasts_ms: int = HOUR_MS,
) -> tuple[str, int]:
    """The id of an opening ahead, which the front need not have read of yet, and its moment."""
    opens_at_ms = await now_ms(stack) + opens_in_ms + next(_distinct_ms)
    name = f"{stack.program}-{secrets.token_hex(6)}"
    terms = new_terms(
        stack.front.waiting_room.sealing,
        name,
        opens_at_ms,
        policy,
        joins_from_ms=opens_at_ms - joins_before_ms,
        ends_at_ms=opens_at_ms + lasts_ms,
    )
    answer = await stack.front.waiting_room.set_opening(stack.program, SetOpening(opening=name, terms=terms))
    assert answer.outcome is Outcome.OPENING_SET
    return name, opens_at_ms


async def create_room(
    stack: Stack,
    *,
    opens_in_ms: int = HOUR_MS,
    joins_before_ms: int = 24 * HOUR_MS,
    lasts_ms: int = HOUR_MS,
    waiting_room: bool = True,
    proof_of_work: bool = False,
    rate_per_min: int = 1,
    **quota: Any,
) -> Room:
    """An opening ahead and its quota. At the rate of one a minute only number 0 is admitted in any test's time."""
    policy = Policy(rate_per_min=rate_per_min, rate_max_per_min=AT_ONCE, adaptive=False, proof_of_work=proof_of_work)
    name, opens_at_ms = await create_opening(
        stack,
        policy if waiting_room else None,
        opens_in_ms=opens_in_ms,
        joins_before_ms=joins_before_ms,
        lasts_ms=lasts_ms,
    )
    quota_id = await stack.quota(opens_at_ms=opens_at_ms, **quota)

    async def shown() -> bool:
        return stack.front.availability.opening(name) is not None

    await stack.eventually(shown)
    return Room(stack, name, quota_id, opens_at_ms)


async def listed(stack: Stack, query: str = "") -> dict[str, dict[str, Any]]:
    reply = await stack.request("GET", f"/v1/openings?program={stack.program}{query}")
    assert reply.status == 200
    return {opening["id"]: opening for opening in reply.json["openings"]}


async def wanted(stack: Stack, **changes: Any) -> tuple[dict[str, Any], str]:
    """A request for an opening, and the one quota that it chooses."""
    quota = await stack.quota(**{"service": "penggantian", **changes.pop("quota", {})})
    day = (await stack.seen(quota, lambda _: True)).terms.date
    opens_at = moment(await now_ms(stack) // 1000 * 1000 + changes.pop("in_ms", HOUR_MS))
    body = {"program": stack.program, "opens_at": opens_at, "from": day, "to": day, "service": "penggantian"}
    return {**body, **changes}, quota


async def events(stack: Stack, path: str, count: int, act: Any) -> list[dict[str, Any]]:
    """The first events of a stream; `act` is called after the first one."""
    documents: list[dict[str, Any]] = []
    async with asyncio.timeout(60), stack.client.get(stack.url + path) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        async for line in response.content:
            if line.startswith(b"data: "):
                documents.append(json.loads(line.removeprefix(b"data: ")))
                if len(documents) == 1:
                    await act()
            elif line.startswith(b"event: "):
                assert line.strip() == b"event: queue"
            if len(documents) == count:
                break
    return documents
