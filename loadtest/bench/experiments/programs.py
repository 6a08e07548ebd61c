"""A program of an experiment's own: its quotas, claims of the size that real ones have, and the calls to its ledger."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import redis.asyncio as redis_asyncio

from loadtest.stage.program import open_terms
from reservasi.errors import ReservasiError
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.wire import messages
from reservasi.model import Answer, Claim, Command, Outcome, Release, SetQuota, Sweep
from reservasi.sealing import program_tag

TIMEOUT_S = 60.0
QUEUE_DELAY_TARGET_MS = 5000  # so that no claim of a measurement is refused
TOMBSTONE_MS = 86_400_000
HOLD_MS = 86_400_000  # no hold ends during an experiment
LOAD_BATCH = 1000  # commands in one call while a ledger is filled
BATCH = 64
AnyCommand = TypeVar("AnyCommand", bound=Command)
SEALED = "k1." + "x" * 200  # an envelope of one applicant and a contact


class LedgerRefused(Exception):
    """The ledger did not do what an experiment rests on."""


class OwnLedger:
    """One program's ledger, whose people come one after the other."""

    def __init__(self, redis_url: str, program: str, quotas: int) -> None:
        self.program = program
        self.quotas = tuple(f"{program}.kanim.baru.20261201.{number:05d}.online" for number in range(quotas))
        self.connection = LedgerConnection(redis_url, program, read_library())
        self._tag = program_tag(program)
        self._people = itertools.count()

    async def open(self, capacity: int) -> None:
        """Own it and offer the places."""
        seen = (await self.connection.meta(TIMEOUT_S)).position
        await self.connection.own(seen, seen.epoch + 1, TIMEOUT_S)
        terms = open_terms(capacity=capacity, hold_ms=HOLD_MS)
        await self.carry_out([SetQuota(quota=quota, terms=terms) for quota in self.quotas], Outcome.QUOTA_SET)

    def claims(self, count: int, width: int = 0) -> list[Claim]:
        """Claims of so many further people; every `BATCH` of them name `width` quotas, each time others (0: all)."""
        return [self._claim(number, width or len(self.quotas)) for number in itertools.islice(self._people, count)]

    async def fill(self, count: int, width: int = 0) -> None:
        """Hold so many places, as fast as it goes."""
        for left in range(count, 0, -LOAD_BATCH):
            await self.carry_out(self.claims(min(LOAD_BATCH, left), width), Outcome.HELD)

    async def forget(self, claims: Sequence[Claim]) -> None:
        """Release these holds, and leave nothing behind that would say that they ever were."""
        await self.carry_out([Release(reservation_id=claim.reservation_id) for claim in claims], Outcome.RELEASED)
        sweep = Sweep(items_max=LOAD_BATCH)
        for _ in batches(claims, LOAD_BATCH):
            await self.carry_out([sweep], Outcome.SWEPT, tombstone_ms=0)

    async def carry_out(self, commands: Sequence[Command], wanted: Outcome, tombstone_ms: int = TOMBSTONE_MS) -> None:
        """Carry out commands of one kind.

        Raises:
            LedgerRefused: one had another outcome.
        """
        for batch in batches(commands, LOAD_BATCH):
            (raw,) = await self.connection.call([messages.encode_frame(batch, tombstone_ms)], TIMEOUT_S)
            if isinstance(raw, ReservasiError):
                raise raw
            reply = messages.decode_reply(raw)
            outcomes = {messages.decode_answer(reply, at, command).outcome for at, command in enumerate(batch)}
            if outcomes != {wanted}:
                raise LedgerRefused(f"{self.program}: {outcomes or 'fenced'} instead of {wanted.value}")

    async def remembered(self, client: redis_asyncio.Redis) -> int:
        """How many reservations it knows, live or not."""
        return int(await client.hlen(keys.reservations(self.program)))

    async def held(self) -> int:
        """How many places are held or confirmed."""
        snapshot = await self.connection.snapshot(TIMEOUT_S)
        if snapshot is None:
            raise LedgerRefused(f"{self.program} is fenced")
        return sum(quota.counts.taken for quota in snapshot.quotas)

    def _claim(self, number: int, width: int) -> Claim:
        name = f"{self._tag}{number:022d}"  # as long as a keyed hash, and like it unlike those of other programs
        batch, place = divmod(number, BATCH)
        return Claim(
            reservation_id=name,
            quota=self.quotas[(batch * width + place % width) % len(self.quotas)],
            fingerprint=name[-16:],
            sealed=SEALED,
            persons=(name[-22:],),
        )


def batches(commands: Sequence[AnyCommand], size: int) -> Iterator[list[AnyCommand]]:
    """The commands in order, cut into batches."""
    return (list(commands[first : first + size]) for first in range(0, len(commands), size))


@asynccontextmanager
async def own_ledger(redis_url: str, program: str, quotas: int, capacity: int) -> AsyncIterator[OwnLedger]:
    """A program with so many quotas of that capacity, ready to claim in."""
    ledger = OwnLedger(redis_url, program, quotas)
    try:
        await ledger.open(capacity)
        yield ledger
    finally:
        await ledger.connection.drop()


@asynccontextmanager
async def group_commit(redis_url: str, program: str, batch_items_max: int) -> AsyncIterator[GroupCommit]:
    """A group commit as a front has it."""
    group = GroupCommit(
        LedgerConnection(redis_url, program, read_library()),
        batch_items_max=batch_items_max,
        queue_items_max=100_000,
        command_timeout_ms=int(TIMEOUT_S * 1000),
        tombstone_ms=TOMBSTONE_MS,
        queue_delay_target_ms=QUEUE_DELAY_TARGET_MS,
    )
    group.start()
    try:
        yield group
    finally:
        await group.close()


async def submit_together(group: GroupCommit, commands: Sequence[Command], wanted: Outcome) -> None:
    """Submit all before any is sent, and wait for all answers.

    Raises:
        LedgerRefused: one had another outcome.
    """
    left = len(commands)
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    wrong: list[object] = []

    def tell(result: Answer | ReservasiError) -> None:
        nonlocal left
        left -= 1
        if isinstance(result, ReservasiError) or result.outcome is not wanted:
            wrong.append(result)
        if not left:
            told.set_result(None)

    for command in commands:
        group.enqueue(command, tell)
    await told
    if wrong:
        raise LedgerRefused(f"{wrong[0]} instead of {wanted.value}")


async def info(client: redis_asyncio.Redis, section: str) -> dict[str, Any]:
    """What the server says of itself."""
    found: dict[str, Any] = await client.info(section)
    return found


async def rewritten(client: redis_asyncio.Redis) -> None:
    """Wait until the server rewrites no file in the background, which would take time and memory of its own.

    Raises:
        TimeoutError: it still does.
    """
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            said = await info(client, "persistence")
            if not (said["aof_rewrite_in_progress"] or said["aof_rewrite_scheduled"]):
                return
            await asyncio.sleep(0.05)
