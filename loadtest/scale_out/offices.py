"""A program of a measurement's own, on a primary of our choice, with as many places as people come; and its checks."""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from loadtest.bench.experiments.programs import HOLD_MS, SEALED, TOMBSTONE_MS
from loadtest.stage.program import open_terms
from reservasi.errors import ReservasiError
from reservasi.events import Held
from reservasi.ledger.acknowledging import Acks
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.cluster import SLOTS, slot_of
from reservasi.ledger.topology.servers import Servers
from reservasi.ledger.wire.messages import Snapshot
from reservasi.model import Answer, Claim, Command, Confirm, Outcome, Position, SetQuota
from reservasi.sealing import program_tag

TIMEOUT_S = 60.0
QUEUE_ITEMS_MAX = 100_000
PAGE_EVENTS = 5000
_numbers = itertools.count(1)


class WrongResult(Exception):
    """The ledgers do not hold what was answered; a figure of such a run means nothing."""


def new_names(primaries: int) -> Iterator[str]:
    """Programs that were not there before, on the first primary, the second, and so on in turn."""
    for at in itertools.cycle(range(primaries)):
        first, end = SLOTS * at // primaries, SLOTS * (at + 1) // primaries
        yield next(name for name in map("kanim-{}".format, _numbers) if first <= slot_of(name) < end)


class Office:
    """One program, with a stand-in for the worker that owns it: nothing is recorded here."""

    def __init__(self, servers: Servers, name: str, quotas: int, batch: int, acks: Acks | None = None) -> None:
        self.name = name
        self.journal = Journal(servers.client_of(name), name)
        self._quotas = [f"{name}.kanim.baru.20261201.{number:05d}.online" for number in range(quotas)]
        self._people = itertools.count()
        self._tag = program_tag(name)
        self._connection = LedgerConnection(servers.of(name), name, read_library())
        self._group = GroupCommit(
            LedgerConnection(servers.of(name), name, read_library(), acks),
            batch_items_max=batch,
            queue_items_max=QUEUE_ITEMS_MAX,
            command_timeout_ms=int(TIMEOUT_S * 1000),
            tombstone_ms=TOMBSTONE_MS,
            queue_delay_target_ms=int(TIMEOUT_S * 1000),  # nobody is refused
        )

    async def open(self, claims: int) -> None:
        """Own it, and offer exactly so many places, as many in each quota."""
        if claims % len(self._quotas):
            raise ValueError(f"{claims} places do not fill {len(self._quotas)} quotas evenly")
        seen = (await self._connection.meta(TIMEOUT_S)).position
        await self._connection.own(seen, seen.epoch + 1, TIMEOUT_S)
        self._group.start()
        self._capacity = claims // len(self._quotas)
        terms = open_terms(capacity=self._capacity, hold_ms=HOLD_MS)
        offered = await self.carry_out(
            [SetQuota(quota=quota, terms=terms) for quota in self._quotas], len(self._quotas)
        )
        self._expect(offered, {Outcome.QUOTA_SET: len(self._quotas)})

    async def close(self) -> None:
        await self._group.close()
        await self._connection.drop()

    def claims(self, count: int) -> list[Claim]:
        """Claims of so many further people, who take the quotas in turn."""
        return [self._claim(number) for number in itertools.islice(self._people, count)]

    async def carry_out(self, commands: Sequence[Command], in_flight: int) -> Counter[Outcome]:
        """Carry them out, so many under way at any time; the outcomes.

        Raises:
            ReservasiError: one was not carried out.
        """
        waiting, left = deque(commands), len(commands)
        outcomes: Counter[Outcome] = Counter()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell(result: Answer | ReservasiError) -> None:
            nonlocal left
            left -= 1
            if isinstance(result, Answer):
                outcomes[result.outcome] += 1
            elif not done.done():
                done.set_exception(result)
            if waiting:
                self._group.enqueue(waiting.popleft(), tell)
            elif not left and not done.done():
                done.set_result(None)

        for _ in range(min(in_flight, len(commands))):
            self._group.enqueue(waiting.popleft(), tell)
        await done
        return outcomes

    async def check(self, claims: Sequence[Claim], *, confirmed: bool) -> None:
        """Every place that was answered is in the ledger and in the journal, once, and one more is in no quota.

        Raises:
            WrongResult: it is not so.
        """
        late = self.claims(len(self._quotas))
        self._expect(await self.carry_out(late, len(late)), {Outcome.SOLD_OUT: len(late)})
        snapshot = await self._snapshot()
        for quota in snapshot.quotas:
            counts = (quota.counts.held, quota.counts.confirmed)
            if counts != ((0, self._capacity) if confirmed else (self._capacity, 0)):
                raise WrongResult(f"{quota.id} of {self._capacity} places counts {counts}")
        asked = {claim.reservation_id for claim in claims}
        kept = {reservation_id async for reservation_id in self.journal.reservation_ids()}
        told = await self._held_in_journal(snapshot.position)
        if not asked == kept == set(told) or len(told) != len(claims):
            raise WrongResult(f"{self.name}: {len(claims)} answered, {len(kept)} kept, {len(told)} in the journal")

    async def seq(self) -> int:
        """The last change that the ledger accepted."""
        return (await self._connection.meta(TIMEOUT_S)).position.seq

    async def confirmed(self) -> int:
        """Places that are confirmed."""
        snapshot = await self._snapshot()
        return sum(quota.counts.confirmed for quota in snapshot.quotas)

    def expect_all(self, outcomes: Counter[Outcome], wanted: Outcome, count: int) -> None:
        """Whether everybody was answered the same.

        Raises:
            WrongResult: somebody was not.
        """
        self._expect(outcomes, {wanted: count})

    def _expect(self, outcomes: Counter[Outcome], wanted: dict[Outcome, int]) -> None:
        if outcomes != wanted:
            raise WrongResult(f"{self.name}: {dict(outcomes)} instead of {wanted}")

    async def _snapshot(self) -> Snapshot:
        snapshot = await self._connection.snapshot(TIMEOUT_S)
        if snapshot is None:
            raise WrongResult(f"{self.name} is fenced")
        return snapshot

    async def _held_in_journal(self, until: Position) -> list[str]:
        """Whom the journal gives a place; each link of its chain is checked while it is read."""
        told: list[str] = []
        position: Position | None = None
        while page := await self.journal.read(position, PAGE_EVENTS, 0):
            told += [event.reservation_id for entry in page for event in entry.events if isinstance(event, Held)]
            position = page[-1].position
        if position is None or (position.seq, position.chain) != (until.seq, until.chain):
            raise WrongResult(f"the journal of {self.name} ends at {position}, the ledger at {until}")
        return told

    def _claim(self, number: int) -> Claim:
        name = f"{self._tag}{number:022d}"  # as long as a keyed hash, and like it unlike those of other programs
        return Claim(
            reservation_id=name,
            quota=self._quotas[number % len(self._quotas)],
            fingerprint=name[-16:],
            sealed=SEALED,
            persons=(name[-22:],),
        )


def confirmations(claims: Sequence[Claim]) -> list[Confirm]:
    """The confirmations of these holds."""
    return [Confirm(reservation_id=claim.reservation_id, payment_reference="paid") for claim in claims]
