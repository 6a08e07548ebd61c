"""What an admission controller reads once a second: a program's openings, the ledger's clock, the fronts' delays.

The time that claims wait in each front is stored in a separate hash. It is only a hint for the rate: old values are
ignored, and the hash expires when nobody writes to it.
"""

import asyncio
from typing import Any

import msgspec
import redis.asyncio as redis_asyncio

from reservasi.errors import LedgerUnreachable
from reservasi.ledger import keys
from reservasi.ledger.topology.clients import LOST
from reservasi.ledger.wire.openings import decode_stored
from reservasi.ledger.wire.stored_forms import read_each
from reservasi.model import Opening

TIMEOUT_S = 2.0
FRESH_MS = 3000  # how long a reported delay counts
FORGET_S = 60  # after which the server deletes delays that are no longer reported


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One read; openings that cannot be decoded are left out."""

    now_ms: int  # the ledger's clock
    openings: list[Opening]
    delay_ms: float | None  # the longest delay of all fronts; None if no front reported recently


class OpeningWatch:
    """Reads one program's openings, and the delays that its fronts report."""

    def __init__(self, client: redis_asyncio.Redis, program: str) -> None:
        self._client = client
        self._program = program
        self._openings_key = keys.openings(program)
        self._delays_key = keys.queue_delays(program)

    async def read(self) -> Seen:
        """Read the openings and delays.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        pipeline.hgetall(self._openings_key)
        pipeline.hgetall(self._delays_key)
        (seconds, microseconds), openings, delays = await self._run(pipeline)
        now_ms = seconds * 1000 + microseconds // 1000
        reports = filter(None, map(_delay_and_time, delays.values()))
        fresh = [delay_ms for delay_ms, at_ms in reports if abs(now_ms - at_ms) <= FRESH_MS]
        return Seen(
            now_ms=now_ms,
            openings=list(read_each(openings.items(), decode_stored, key="openings", unreadable=[]).values()),
            delay_ms=max(fresh, default=None),
        )

    async def report_delay(self, front: str, delay_ms: float, at_ms: int) -> None:
        """Report how long claims wait in a front, at a moment of the ledger's clock.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hset(self._delays_key, front, f"{delay_ms:.1f}:{at_ms}")
        pipeline.expire(self._delays_key, FORGET_S)
        await self._run(pipeline)

    async def withdraw(self, front: str) -> None:
        """Delete the report of a front that has closed.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hdel(self._delays_key, front)
        await self._run(pipeline)

    async def _run(self, pipeline: Any) -> Any:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await pipeline.execute()
        except LOST as error:
            raise LedgerUnreachable(
                f"the openings of {self._program} cannot be read: {type(error).__name__}"
            ) from error


def _delay_and_time(value: bytes) -> tuple[float, int] | None:
    """A front's report; None if it cannot be read, such as one of another version."""
    try:
        delay_ms, _, at_ms = value.decode().partition(":")
        return float(delay_ms), int(at_ms)
    except ValueError:
        return None
