"""The ledger of a program that only a measurement uses, with claims as large as real ones."""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import redis.asyncio as redis_asyncio

from loadtest.bench.figures import WrongResult
from loadtest.stage.processes import until
from loadtest.stage.program import open_terms
from reservasi.errors import ReservasiError
from reservasi.events import Held
from reservasi.ledger import keys
from reservasi.ledger.acknowledging import Acks
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.servers import Servers
from reservasi.ledger.wire.messages import Snapshot
from reservasi.model import Answer, Claim, Command, Confirm, Outcome, Position, Release, SetQuota, Sweep
from reservasi.sealing import program_tag

TIMEOUT_S = 60.0
TIMEOUT_MS = int(TIMEOUT_S * 1000)
HOLD_MS = 86_400_000  # no hold ends during a measurement
QUEUE_ITEMS_MAX = 100_000  # no claim of a measurement is refused
BATCH = 64  # claims in one call of the group commit
LOAD_BATCH = 1000  # commands under way at a time while a ledger is filled
PAGE_EVENTS = 5000  # of the journal, read at a time
SEALED = "k1." + "x" * 200  # an envelope of one applicant and a contact
AnyCommand = TypeVar("AnyCommand", bound=Command)


class OwnLedger:
    """One program's ledger, owned by the measurement. Nothing is recorded, and every claim is of a new person."""

    def __init__(self, servers: Servers, program: str, quotas: int, batch: int, acks: Acks | None) -> None:
        library, server = read_library(), servers.of(program)
        self.program = program
        self.quotas = tuple(f"{program}.kanim.baru.20261201.{number:05d}.online" for number in range(quotas))
        self.capacity = 0  # places in each quota
        self.client = servers.client_of(program)
        self.connection = LedgerConnection(server, program, library)
        self.group = GroupCommit(
            LedgerConnection(server, program, library, acks),
            batch_items_max=batch,
            queue_items_max=QUEUE_ITEMS_MAX,
            command_timeout_ms=TIMEOUT_MS,
            tombstone_ms=0,  # a sweep removes what was released
            queue_delay_target_ms=TIMEOUT_MS,
        )
        self._tag = program_tag(program)
        self._people = itertools.count()

    async def open(self, capacity: int) -> None:
        position = (await self.connection.meta(TIMEOUT_S)).position
        await self.connection.own(position, position.epoch + 1, TIMEOUT_S)
        self.group.start()
        self.capacity = capacity
        terms = open_terms(capacity=capacity, hold_ms=HOLD_MS)
        offers = [SetQuota(quota=quota, terms=terms) for quota in self.quotas]
        await self.submit(offers, Outcome.QUOTA_SET, in_flight=LOAD_BATCH)

    def claims(self, count: int, width: int = 0) -> list[Claim]:
        """Claims of that many new people, for the quotas in turn.

        With `width`, each group of `BATCH` claims names that many quotas, and the next group other ones.
        """
        return [self._claim(number, width) for number in itertools.islice(self._people, count)]

    def _claim(self, number: int, width: int) -> Claim:
        name = f"{self._tag}{number:022d}"  # as long as a keyed hash, and unlike those of other programs
        batch, place = divmod(number, BATCH)
        quota = self.quotas[(batch * width + place % width if width else number) % len(self.quotas)]
        return Claim(reservation_id=name, quota=quota, fingerprint=name[-16:], sealed=SEALED, persons=(name[-22:],))

    async def submit(self, commands: Sequence[Command], wanted: Outcome, in_flight: int) -> None:
        """Submit commands to the group commit with this many in flight; all must have this outcome."""
        waiting, left = deque(commands), len(commands)
        outcomes: Counter[Outcome] = Counter()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(result: Answer | ReservasiError) -> None:
            nonlocal left
            left -= 1
            if isinstance(result, Answer):
                outcomes[result.outcome] += 1
            elif not done.done():
                done.set_exception(result)
            if waiting:
                self.group.enqueue(waiting.popleft(), settle)
            elif not left and not done.done():
                done.set_result(None)

        for _ in range(min(in_flight, len(commands))):
            self.group.enqueue(waiting.popleft(), settle)
        await done
        if outcomes != {wanted: len(commands)}:
            raise WrongResult(f"{self.program}: {dict(outcomes)} instead of {len(commands)} {wanted.value}")

    async def fill(self, count: int) -> None:
        for left in range(count, 0, -LOAD_BATCH):
            await self.submit(self.claims(min(LOAD_BATCH, left)), Outcome.HELD, in_flight=LOAD_BATCH)

    async def forget(self, claims: Sequence[Claim]) -> None:
        """Release these holds, and remove every trace of them."""
        releases = [Release(reservation_id=claim.reservation_id) for claim in claims]
        await self.submit(releases, Outcome.RELEASED, in_flight=LOAD_BATCH)
        for _ in batches(claims, LOAD_BATCH):
            await self.submit([Sweep(items_max=LOAD_BATCH)], Outcome.SWEPT, in_flight=1)

    async def remembered(self) -> int:
        """How many reservations the ledger has, live or not."""
        return int(await self.client.hlen(keys.reservations(self.program)))

    async def snapshot(self) -> Snapshot:
        snapshot = await self.connection.snapshot(TIMEOUT_S)
        if snapshot is None:
            raise WrongResult(f"{self.program} is fenced")
        return snapshot

    async def taken(self) -> int:
        return sum(quota.counts.taken for quota in (await self.snapshot()).quotas)

    async def check(self, claims: Sequence[Claim], *, confirmed: bool) -> None:
        """These claims must have taken every place, and each must be in the ledger and in the journal once."""
        late = self.claims(len(self.quotas))
        await self.submit(late, Outcome.SOLD_OUT, in_flight=len(late))
        snapshot = await self.snapshot()
        for quota in snapshot.quotas:
            counts = (quota.counts.held, quota.counts.confirmed)
            if counts != ((0, self.capacity) if confirmed else (self.capacity, 0)):
                raise WrongResult(f"{quota.id} of {self.capacity} places counts {counts}")
        journal = Journal(self.client, self.program)
        kept = {reservation_id async for reservation_id in journal.reservation_ids()}
        held = await self._held_in_journal(journal, snapshot.position)
        if not {claim.reservation_id for claim in claims} == kept == set(held) or len(held) != len(claims):
            raise WrongResult(f"{self.program}: {len(claims)} answered, {len(kept)} kept, {len(held)} in the journal")

    async def _held_in_journal(self, journal: Journal, until: Position) -> list[str]:
        """The reservations in the journal; reading checks each link of its chain."""
        held, position = list[str](), Position(epoch=0, seq=0)
        start: Position | None = None
        while page := await journal.read(start, PAGE_EVENTS, 0):
            held += [event.reservation_id for entry in page for event in entry.events if isinstance(event, Held)]
            start = position = page[-1].position
        if (position.seq, position.chain) != (until.seq, until.chain):
            raise WrongResult(f"the journal of {self.program} ends at {position}, the ledger at {until}")
        return held


def confirmations(claims: Sequence[Claim]) -> list[Confirm]:
    return [Confirm(reservation_id=claim.reservation_id, payment_reference="paid") for claim in claims]


def batches(commands: Sequence[AnyCommand], size: int) -> Iterator[list[AnyCommand]]:
    return (list(commands[first : first + size]) for first in range(0, len(commands), size))


@asynccontextmanager
async def own_ledger(
    url: str, program: str, *, quotas: int, capacity: int, batch: int = BATCH, acks: Acks | None = None
) -> AsyncIterator[OwnLedger]:
    servers = Servers(url)
    ledger = OwnLedger(servers, program, quotas, batch, acks)
    try:
        await ledger.open(capacity)
        yield ledger
    finally:
        await ledger.group.close()
        await ledger.connection.drop()
        await servers.close()


async def until_rewritten(client: redis_asyncio.Redis) -> None:
    """Wait until the server rewrites no file, which would take processor time and memory."""

    async def rests() -> bool:
        facts = await client.info("persistence")
        return not (facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"])

    await until(rests, "the end of a rewrite", TIMEOUT_S)
