"""A program's ledger as tests see it: commands as one batch, raw calls, the clock, the keys and the journal."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import redis.asyncio as redis_asyncio

from reservasi.errors import ReservasiError
from reservasi.events import JournalEntry, chain_hash
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.clients import open_client
from reservasi.ledger.wire import messages
from reservasi.model import Answer, Claim, Command, Opening, OpeningTerms, Position, QuotaTerms, SetOpening, SetQuota

TIMEOUT_S = 60.0
TOMBSTONE_MS = 86_400_000
HOUR_MS = 3_600_000
QUOTA = "p.kanim.baru.20261201.0800.online"
OTHER_QUOTA = "p.kanim.baru.20261201.0900.online"
START = Position(epoch=0, seq=0)
_numbers = itertools.count(1)


def terms(capacity: int = 10, **changes: Any) -> QuotaTerms:
    """A quota's terms: open, holds for an hour, places return at once."""
    values: dict[str, Any] = {
        "capacity": capacity,
        "opens_at_ms": 0,
        "closes_at_ms": 0,
        "cancel_until_ms": 0,
        "hold_ms": HOUR_MS,
        "return_min_ms": 0,
        "return_max_ms": 0,
        "closed": False,
        "office": "kanim",
        "service": "baru",
        "channel": "online",
        "date": "2026-12-01",
        "start": "08:00",
        "end": "09:00",
    }
    return QuotaTerms(**{**values, **changes})


def quota_set(quota: str = QUOTA, capacity: int = 10, **changes: Any) -> SetQuota:
    """Create a quota."""
    return SetQuota(quota=quota, terms=terms(capacity, **changes))


def opening_terms(**changes: Any) -> OpeningTerms:
    """An opening's terms: far ahead, people may join, 600 numbers a minute."""
    values: dict[str, Any] = {
        "opens_at_ms": 4_000_000_000_000,
        "joins_from_ms": 0,
        "ends_at_ms": 4_100_000_000_000,
        "waiting_room": True,
        "proof_of_work": False,
        "rate_per_min": 600,
        "rate_max_per_min": 6000,
        "adaptive": False,
        "commitment": "c" * 64,
        "sealed_seed": "k1.sealed",
    }
    return OpeningTerms(**{**values, **changes})


def opening_set(opening: str = "p-1", **changes: Any) -> SetOpening:
    """Create an opening."""
    return SetOpening(opening=opening, terms=opening_terms(**changes))


def opening_of(opening: str = "p-1", **changes: Any) -> Opening:
    """An opening as it is when it was just created."""
    of = opening_terms(**changes)
    return Opening(id=opening, terms=of, rate_per_min=of.rate_per_min)


def claim(
    persons: Sequence[str] | int = 1, quota: str = QUOTA, *, reservation_id: str = "", fingerprint: str = "f"
) -> Claim:
    """A claim under a new id; a number of persons means so many new ones."""
    number = next(_numbers)
    if isinstance(persons, int):
        persons = [f"person-{number}-{at}" for at in range(persons)]
    return Claim(
        reservation_id=reservation_id or f"reservation-{number}",
        quota=quota,
        fingerprint=fingerprint,
        sealed="k1.sealed",
        persons=tuple(persons),
    )


def frames_of(commands: Sequence[Command], tombstone_ms: int = TOMBSTONE_MS) -> list[messages.Frame]:
    """One frame for each run of commands of the same kind."""
    return [messages.encode_frame(list(group), tombstone_ms) for _, group in itertools.groupby(commands, type)]


class Ledger:
    """One program's ledger, spoken to without a group commit."""

    def __init__(self, url: str, program: str, client: redis_asyncio.Redis) -> None:
        self.url = url
        self.program = program
        self.client = client
        self.connection = LedgerConnection(url, program, read_library())
        self.journal = Journal(client, program)

    async def run(self, *commands: Command, tombstone_ms: int = TOMBSTONE_MS) -> list[Answer]:
        """The commands in one round trip, each run of the same kind as one batch."""
        replies = await self.connection.call(frames_of(commands, tombstone_ms), TIMEOUT_S)
        answers: list[Answer] = []
        for raw in replies:
            assert not isinstance(raw, ReservasiError), raw
            reply = messages.decode_reply(raw)
            assert not reply.fenced
            answered = commands[len(answers) : len(answers) + len(reply.answers)]
            answers += [messages.decode_answer(reply, at, command) for at, command in enumerate(answered)]
        assert len(answers) == len(commands)
        return answers

    async def one(self, command: Command, *, tombstone_ms: int = TOMBSTONE_MS) -> Answer:
        """One command as a batch of its own."""
        (answer,) = await self.run(command, tombstone_ms=tombstone_ms)
        return answer

    async def raw(self, command: str, items: Sequence[Any], epoch: int = 1, envelopes: bytes = b"") -> list[Any]:
        """The reply as the function packed it, without any help of the connection."""
        function = read_library().function(command)
        program_keys = keys.program_keys(self.program)
        packed = msgpack.packb(list(items), use_bin_type=False)
        reply: Any = await self.client.fcall(function, len(program_keys), *program_keys, str(epoch), packed, envelopes)
        unpacked: list[Any] = msgpack.unpackb(reply, unicode_errors="surrogateescape", strict_map_key=False)
        return unpacked

    async def own(self) -> str:
        """Own it where it is, without asking any records."""
        position = (await self.connection.meta(TIMEOUT_S)).position
        return await self.connection.own(position, position.epoch + 1, TIMEOUT_S)

    async def snapshot(self) -> messages.Snapshot:
        state = await self.connection.snapshot(TIMEOUT_S)
        assert state is not None
        return state

    async def opening(self, opening: str = "p-1") -> Opening:
        (state,) = [each for each in (await self.snapshot()).openings if each.id == opening]
        return state

    async def counts(self, quota: str = QUOTA) -> tuple[int, int, int]:
        """Held, confirmed, returning."""
        (state,) = [each for each in (await self.snapshot()).quotas if each.id == quota]
        return state.counts.held, state.counts.confirmed, state.counts.returning

    async def entries(self) -> list[JournalEntry]:
        """The whole journal, verified link by link."""
        journal: list[JournalEntry] = []
        while page := await self.journal.read(journal[-1].position if journal else START, 100_000, 0):
            journal += page
        return journal

    async def append(self, *events: Any, payload: bytes | None = None, without: str = "") -> int:
        """Write one more entry as another version of the library would, behind its back; its last seq."""
        before = (await self.connection.meta(TIMEOUT_S)).position
        packed = payload if payload is not None else msgpack.packb(list(events), use_bin_type=False)
        first, at_ms, seq = before.seq + 1, await self.now_ms(), before.seq + max(1, len(events))
        chain = chain_hash(before.chain, before.epoch, first, at_ms, packed)
        fields: dict[Any, Any] = {"first": first, "at": at_ms, "chain": chain, "events": packed}
        fields.pop(without, None)
        await self.client.xadd(keys.journal(self.program), fields, id=f"{before.epoch}-{seq}")
        await self.client.hset(keys.meta(self.program), mapping={"seq": seq, "chain": chain})
        return seq

    async def now_ms(self) -> int:
        seconds, microseconds = await self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def until(self, moment_ms: int) -> None:
        """Wait until the ledger's clock shows the moment."""

        async def reached() -> bool:
            return await self.now_ms() >= moment_ms

        await eventually(reached)

    async def dump(self) -> dict[bytes, bytes | None]:
        """Every key of the program with its content."""
        names = sorted([key async for key in self.client.scan_iter(match=f"{{{self.program}}}*", count=1000)])
        return {key: await self.client.dump(key) for key in names}


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = TIMEOUT_S) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - a server has no event to wait for
            await asyncio.sleep(0.002)


@asynccontextmanager
async def open_ledger(url: str, program: str, *, owned: bool = True) -> AsyncIterator[Ledger]:
    """A program's ledger with the library loaded."""
    client = open_client(url)
    ledger = Ledger(url, program, client)
    try:
        await client.function_load(read_library().source, replace=True)
        if owned:
            assert await ledger.own() in ("owned", "exists")
        yield ledger
    finally:
        await ledger.connection.drop()
        await client.aclose()


@asynccontextmanager
async def open_group(url: str, program: str, **limits: int) -> AsyncIterator[GroupCommit]:
    """A group commit that runs."""
    values: dict[str, Any] = {
        "batch_items_max": 256,
        "queue_items_max": 5000,
        "command_timeout_ms": 10_000,
        "queue_delay_target_ms": 100,
    } | limits
    group = GroupCommit(LedgerConnection(url, program, read_library()), tombstone_ms=TOMBSTONE_MS, **values)
    group.start()
    try:
        yield group
    finally:
        await group.close()


async def function_calls(client: redis_asyncio.Redis) -> int:
    """How many function calls the server has carried out, of everybody."""
    stats: dict[str, Any] = await client.info("commandstats")
    return sum(int(stats[name]["calls"]) for name in ("cmdstat_fcall", "cmdstat_fcall_ro") if name in stats)
