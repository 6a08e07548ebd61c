"""The queue as the crowd sees it: the resource is the same for everybody, so a few pollers read it for all.

Each poller asks once a second, a little earlier or later each time, with the ETag that it knows, as a browser would.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from loadtest.crowd.crowd import open_client, send
from loadtest.crowd.scenario import Call
from loadtest.waiting.draw import commitment_of

POLL_S = 1.0
JITTER = 0.2  # as a share


class Board:
    """The newest document that any poller read, what was odd about any of them, and how many were asked for."""

    def __init__(self, url: str, opening: str, opens_at_ms: int) -> None:
        self.path = f"/v1/openings/{opening}/queue"
        self.queue: dict[str, Any] = {}
        self.polls: Counter[str] = Counter()
        self.odd: list[str] = []
        self.commitment = ""  # in the first document
        self._url = url
        self._client = open_client()
        self._opens_at_ms = opens_at_ms
        self._documents: dict[str, dict[str, Any]] = {}  # by ETag
        self._changed = asyncio.Event()

    @property
    def mark(self) -> int:
        """Numbers up to here may claim; -1 before the draw is public."""
        return int(self.queue["admitted_through"]) if "seed" in self.queue else -1

    @property
    def state(self) -> str:
        return str(self.queue.get("state", ""))

    async def poll(self, chance: random.Random) -> None:
        etag, previous = "", dict[str, Any]()
        while True:
            headers = {"If-None-Match": etag} if etag else {}
            call = Call(name="availability", method="GET", path=self.path, headers=headers)
            answered, sent = await send(self._client, self._url, 0, call)
            self.polls[answered.problem] += 1
            if answered.outcome == 200:
                etag, queue = answered.etag, answered.body
                self._look_for_oddities(queue, previous, sent.answered_ms)
                if self._documents.setdefault(etag, queue) != queue:
                    self.odd.append(f"two documents with the ETag {etag}")
                self._show(queue)
                previous = queue
            await asyncio.sleep(POLL_S * chance.uniform(1 - JITTER, 1 + JITTER))

    async def close(self) -> None:
        await self._client.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _look_for_oddities(self, queue: dict[str, Any], before: dict[str, Any], answered_ms: float) -> None:
        """What must not be in a document, whatever one poller saw before."""
        self.commitment = self.commitment or queue["commitment"]
        if "seed" in queue and answered_ms < self._opens_at_ms:
            self.odd.append(f"the seed was shown {self._opens_at_ms - answered_ms:.0f} ms before the opening")
        if "seed" in queue and commitment_of(queue["seed"]) != self.commitment:
            self.odd.append("the seed is not the one that was committed to")
        if "seed" in before and any(queue.get(name) != before[name] for name in ("seed", "joined")):
            self.odd.append("the seed, or how many joined, changed after the draw")
        if queue["admitted_through"] < before.get("admitted_through", 0):
            self.odd.append(f"the mark went back from {before['admitted_through']} to {queue['admitted_through']}")

    def _show(self, queue: dict[str, Any]) -> None:
        if not ("seed" in self.queue and (queue["admitted_through"] < self.mark or "seed" not in queue)):
            self.queue = queue
            self._changed.set()
