"""Rebuilds a ledger from the records: fenced, emptied, loaded, and owned under a new epoch.

One rebuild at a time, by an advisory lock. If it is interrupted the ledger stays fenced, and the next rebuild starts
again; the last step is one call, so that a ledger is either loaded completely or not owned. Changes that the ledger had
accepted and that were not recorded are recorded first if the ledger still has them; otherwise they are lost.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from reservasi.errors import DamagedKey, JournalGap, LedgerMoved, RebuildRefused, StaleRecorder
from reservasi.ledger.journal.journal_tail import JournalTail
from reservasi.ledger.journal.stream import START, Journal
from reservasi.ledger.loading import Loader
from reservasi.logs import get_logger
from reservasi.metrics import LOST_CHANGES, REBUILD_SECONDS
from reservasi.model import Position
from reservasi.records import BookingCode, EpochRow, Records, Standing
from reservasi.worker.at_stake import AtStake, count_at_stake
from reservasi.worker.dead_letters import settled_in_ledger_alone
from reservasi.worker.ledger_owner import FROM_LEDGER, Comparison, Ownership, compare_ledger, lift_bar, own_ledger
from reservasi.worker.program_stores import ProgramStores

log = get_logger()

LOCK_WAIT_S = 120.0  # for another rebuild to end
LOCK_PAUSE_S = 0.1
DRAIN_TIMEOUT_S = 60.0
DRAIN_EVENTS_MAX = 2000
NAMED = 10  # reservations in a refusal
TAIL_MARGIN_MS = 86_400_000  # for places that were due while no sweeper ran
SAFE = (Ownership.BEHIND, Ownership.LOADING, Ownership.DAMAGED)  # the ledger has nothing that would be lost
READABLE = (Ownership.OWNED, Ownership.OWNABLE, Ownership.DAMAGED)
CAUSES = {
    Ownership.DIVERGED: ", since its journal does not lead from the recorded position to its own position",
    Ownership.RECORDS_OLD: ", since the records are an older copy (was PostgreSQL restored?)",
    Ownership.SUPERSEDED: ", since another server was owned after it",
    Ownership.UNREADABLE: ", since another version stored it",
}
Progress = Callable[[int, int], None]  # number of loaded reservations, total


class RebuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one rebuild."""

    program: str
    found: Ownership  # the ledger's state before
    rebuilt: bool  # False: it was owned without a rebuild
    epoch: int = 0
    seq: int = 0
    quotas: int = 0
    openings: int = 0
    reservations: int = 0  # held or confirmed
    ended: int = 0  # kept for replays
    returning: int = 0  # times at which places return
    recorded_first: int = 0  # changes that only the ledger had, and that were recorded before
    lost: int = 0  # changes that the ledger had accepted and that were not recorded, as far as known
    lost_counted: bool = False  # whether the following were counted: the ledger could still be read
    lost_confirmed: int = 0  # bookings that only the ledger had
    lost_held: int = 0
    lost_ended: int = 0  # reservations that had ended in the ledger, and are live again
    seconds: float = 0.0


class Rebuilder:
    """Rebuilds one program's ledger."""

    def __init__(self, stores: ProgramStores) -> None:
        self._program = stores.program
        self._connection = stores.connection
        self._journal = stores.journal
        self._records = stores.records
        self._booking_code = stores.booking_code
        self._tombstone_ms = stores.tombstone_ms

    async def run(
        self,
        *,
        force: bool = False,
        discard: bool = False,
        discard_confirmed: bool = False,
        seen: Position = START,
        lock_wait_s: float = LOCK_WAIT_S,
        progress: Progress | None = None,
    ) -> RebuildReport:
        """Bring the ledger to the records' state if it differs; `force`: also if it does not.

        What can be read from the ledger is recorded first. `discard` also drops a ledger with another history or form,
        or a superseded one, and `discard_confirmed` also one with confirmed bookings that the records do not have.
        `seen` is the last known position of the ledger.

        Raises:
            RebuildRefused: it could only be discarded.
            StaleRecorder: a later epoch of another server excludes the ledger's unique changes from the records.
            LedgerMoved: another process changed it; RecordsUnavailable, LedgerUnreachable, LedgerFault, JournalGap: it
                is not finished. The ledger is then fenced, or unchanged.
        """
        async with self.alone(lock_wait_s):
            return await self.run_alone(
                force=force, discard=discard, discard_confirmed=discard_confirmed, seen=seen, progress=progress
            )

    @asynccontextmanager
    async def alone(self, wait_s: float = LOCK_WAIT_S) -> AsyncIterator[None]:
        """During the block, nobody else rebuilds the ledger, or owns another run of its server.

        Raises:
            LedgerMoved: another process did so for all of `wait_s`; RecordsUnavailable: it is unknown.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        async with self._records.rebuilding(self._program) as lead:
            while not await lead.take():
                if loop.time() >= deadline:
                    raise LedgerMoved(f"another process rebuilds the ledger of {self._program}")
                await asyncio.sleep(LOCK_PAUSE_S)
            yield

    async def run_alone(
        self,
        *,
        force: bool = False,
        discard: bool = False,
        discard_confirmed: bool = False,
        seen: Position = START,
        progress: Progress | None = None,
    ) -> RebuildReport:
        """`run` inside a block of `alone`."""
        started_s = time.monotonic()
        if await self._records.is_removed(self._program):
            raise RebuildRefused(f"the program {self._program} was removed: import it again to start it again")
        comparison = await self._compare()
        if not discard and (force or comparison.verdict is Ownership.DAMAGED):
            await self._refuse_to_undo_letters(comparison)
        await lift_bar(self._program, comparison, self._journal, self._records)
        if comparison.verdict is Ownership.OWNABLE and not force:
            verdict = await own_ledger(self._program, self._connection, self._journal, self._records, alone=True)
            if verdict is not Ownership.OWNED:
                raise LedgerMoved(f"the ledger of {self._program} is {verdict}: try again")
        if comparison.verdict in (Ownership.OWNED, Ownership.OWNABLE) and not force:
            return RebuildReport(program=self._program, found=comparison.verdict, rebuilt=False)
        is_known = comparison.verdict in (*SAFE, Ownership.OWNED, Ownership.OWNABLE)
        is_placeless = comparison.meta.position.seq == 0  # its recorded part cannot be determined
        if not is_known and not (discard and (discard_confirmed or not is_placeless)):
            await self._refuse_to_forget(comparison, discard=discard)
        return await self._rebuild(
            comparison, seen, progress or _silent, started_s, discard=discard, discard_confirmed=discard_confirmed
        )

    async def _refuse_to_undo_letters(self, comparison: Comparison) -> None:
        """Refuse if dead letters have changes that only the ledger has, if that can be read."""
        if comparison.verdict not in READABLE:
            return
        count = await self._records.dead_letter_count(self._program)
        if count:
            raise RebuildRefused(
                f"{count} dead letters of {self._program} are open, and only its ledger has their changes: "
                f"`reservasi dead-letters retry --program {self._program}` records what can be recorded; settle the "
                f"rest, or give it up with `reservasi rebuild --force --discard --program {self._program}`"
            )
        program, connection, journal = self._program, self._connection, self._journal
        refuse_to_give_up(program, await settled_in_ledger_alone(program, connection, journal, self._records))

    async def _refuse_to_forget(self, comparison: Comparison, *, discard: bool) -> None:
        """Refuse to rebuild a ledger that has unique changes without `discard`, or unique bookings without
        `discard_confirmed`.
        """
        stake = None
        if comparison.verdict is not Ownership.UNREADABLE:
            stake = await count_at_stake(self._program, self._journal, self._records)
        is_cheap = stake is not None and not stake.confirmed and not stake.unreadable
        if discard and is_cheap:
            return
        flags = "--discard" if is_cheap else "--discard --discard-confirmed"
        way = f"read it first; `reservasi rebuild {flags} --program {self._program}` discards them"
        if comparison.verdict is Ownership.RECORDS_OLD:
            way = (
                f"`{FROM_LEDGER.format(self._program)}` records them, and `reservasi rebuild {flags} --program "
                f"{self._program}` discards them"
            )
        cause = f" ({comparison.cause})" if comparison.cause else ""
        raise RebuildRefused(
            f"the ledger of {self._program} is {comparison.verdict}{CAUSES.get(comparison.verdict, '')}{cause}: "
            f"its unrecorded changes would be lost: {stake or 'the number of bookings cannot be read'}; {way}"
        )

    async def _count_losses(self, comparison: Comparison) -> AtStake | None:
        """Count what is lost with the ledger, by kind; None if its form cannot be read."""
        if comparison.verdict is Ownership.UNREADABLE:
            return None
        return await count_at_stake(self._program, self._journal, self._records)

    async def _compare(self) -> Comparison:
        return await compare_ledger(self._program, self._connection, self._journal, self._records)

    async def _rebuild(
        self,
        comparison: Comparison,
        seen: Position,
        progress: Progress,
        started_s: float,
        *,
        discard: bool,
        discard_confirmed: bool,
    ) -> RebuildReport:
        loader = Loader(self._connection)
        fenced = await loader.fence()
        drained, is_saved = 0, comparison.verdict in SAFE
        tip = fenced
        if comparison.verdict is Ownership.DAMAGED:  # its own position cannot be trusted
            end, _ = await self._journal.end()
            if end is not None:
                tip = end
                drained, is_saved = await self._drain(tip, discard=discard)
        if comparison.verdict in (Ownership.OWNED, Ownership.OWNABLE, Ownership.DIVERGED):
            drained, is_saved = await self._drain(fenced, discard=discard)
            is_saved = is_saved and (comparison.verdict is not Ownership.DIVERGED or fenced.seq > 0)
        if not is_saved and not discard_confirmed:
            await self._refuse_to_forget(comparison, discard=discard)
        lost_with_it = None if is_saved else await self._count_losses(comparison)
        await loader.begin(fenced)
        async with self._records.standing(self._program) as standing:
            recorded = standing.position or START
            counts = await self._load(loader, standing, progress)
        epochs = await self._records.epochs(self._program)
        epoch = max(fenced.epoch, tip.epoch, comparison.latest_epoch, *(row.epoch for row in epochs), 0) + 1
        if not await self._records.branch_off(self._program, epoch, recorded, comparison.meta.run_id):
            raise LedgerMoved(f"the records of {self._program} changed while its ledger was loaded")
        # Logged before the last step: it is true by then, and after that step an interrupted rebuild is not repeated.
        await publish_all(self._program, msgspec.structs.replace(recorded, epoch=epoch), self._journal, self._records)
        await loader.own(epoch, recorded)
        lost = max(_lost(tip, recorded, epochs), _lost(seen, recorded, epochs))
        report = RebuildReport(
            program=self._program,
            found=comparison.verdict,
            rebuilt=True,
            epoch=epoch,
            seq=recorded.seq,
            recorded_first=drained,
            lost=lost,
            seconds=round(time.monotonic() - started_s, 3),
        )
        report = msgspec.structs.replace(report, **counts)
        if lost_with_it is not None:
            report = msgspec.structs.replace(
                report,
                lost_counted=True,
                lost_confirmed=lost_with_it.confirmed,
                lost_held=lost_with_it.held,
                lost_ended=lost_with_it.ended,
            )
        LOST_CHANGES.labels(self._program).inc(lost)
        REBUILD_SECONDS.labels(self._program).observe(report.seconds)
        log.warning("ledger_rebuilt", **msgspec.to_builtins(report))
        return report

    async def _load(self, loader: Loader, standing: Standing, progress: Progress) -> dict[str, int]:
        """Load everything except the last step; the next page is read while the ledger loads one."""
        quotas, openings = await standing.quotas(), await standing.openings()
        total, loaded, ended_count = await standing.count_live(), 0, 0
        progress(loaded, total)
        await loader.quotas([(row.id, row.version, row.terms, row.imported) for row in quotas])
        await loader.openings(openings)
        remembered_ms = int(time.time() * 1000) - self._tombstone_ms
        await loader.past([(row.id, row.retired_at_ms) for row in await standing.retired_quotas(remembered_ms)])
        under_way: asyncio.Task[None] | None = None
        try:
            async for page in standing.live():
                if under_way:
                    await under_way
                    progress(loaded, total)
                under_way = asyncio.create_task(loader.reservations(page))
                loaded += len(page)
            if under_way:
                await under_way
                progress(loaded, total)
        finally:
            if under_way and not under_way.done():
                under_way.cancel()
                await asyncio.gather(under_way, return_exceptions=True)
        async for bookings in standing.ended_bookings(remembered_ms):
            await loader.ended(bookings)
            ended_count += len(bookings)
        tail = await read_tail(standing, self._tombstone_ms)
        ended, returning = tail.ended(remembered_ms), list(tail.returning())
        await loader.ended(ended)
        await loader.returns(returning)
        return {
            "quotas": len(quotas),
            "openings": len(openings),
            "reservations": loaded,
            "ended": ended_count + len(ended),
            "returning": len(returning),
        }

    async def _drain(self, tip: Position, *, discard: bool) -> tuple[int, bool]:
        """Record what the fenced ledger accepted, as far as possible; returns the number of changes and whether it
        was all.
        """
        before = await self._records.position(self._program) or START
        try:
            drained = await drain(self._program, tip, self._journal, self._records, booking_code=self._booking_code)
            after = await self._records.position(self._program) or START
            return drained, (after.seq, after.chain) == (tip.seq, tip.chain)  # otherwise they have different histories
        except (JournalGap, LedgerMoved, StaleRecorder):
            if not discard:
                raise
        return (await self._records.position(self._program) or START).seq - before.seq, False


def refuse_to_give_up(program: str, settled: Sequence[str]) -> None:
    """Refuse if settled letters have changes that only the ledger has: a rebuild would sell their places again.

    Raises:
        RebuildRefused: something was settled that a rebuild may undo.
    """
    if not settled:
        return
    named = ", ".join(subject or "unreadable changes" for subject in settled[:NAMED])
    more = f" and {len(settled) - NAMED} more" if len(settled) > NAMED else ""
    raise RebuildRefused(
        f"a rebuild of the ledger of {program} may drop the changes of settled dead letters, whose places would be "
        f"sold again: {named}{more}; see `reservasi dead-letters list --all --program {program}`, then `reservasi "
        "rebuild "
        f"--force --discard --program {program}` gives them up"
    )


async def publish_all(program: str, position: Position, journal: Journal, records: Records) -> None:
    """Publish again what is recorded: the ledger's copy may be missing, damaged, or older."""
    epochs = [(row.epoch, row.base_seq) for row in await records.epochs(program)]
    dead = await records.dead_reservations(program)
    try:
        await journal.publish_recorded(position, dead, epochs=epochs)
    except DamagedKey:  # the damaged key is deleted by now
        await journal.publish_recorded(position, dead, epochs=epochs)


async def read_tail(standing: Standing, tombstone_ms: int) -> JournalTail:
    """What is only in the end of the journal, read from before the earliest hold whose end may still be remembered."""
    since_ms = await tail_since_ms(standing, await standing.last_entry_at_ms(), tombstone_ms)
    tail, removed_seq = JournalTail(), await standing.removed_seq()
    follows_removal = False
    async for row in standing.journal(since_ms):
        if row.first_seq > removed_seq and not follows_removal:
            tail.drop_returning()
            follows_removal = True
        tail.follow(row.first_seq, row.at_ms, row.payload)
    if not follows_removal:
        tail.drop_returning()
    return tail


async def tail_since_ms(standing: Standing, last_ms: int, tombstone_ms: int) -> int:
    """Where that end begins, if the last entry is from `last_ms`."""
    hold_ms, return_ms = await standing.longest_ms(last_ms - tombstone_ms)
    return last_ms - max(tombstone_ms, return_ms) - hold_ms - TAIL_MARGIN_MS


async def drain(
    program: str,
    tip: Position,
    journal: Journal,
    records: Records,
    *,
    booking_code: BookingCode,
    timeout_s: float = DRAIN_TIMEOUT_S,
) -> int:
    """Record a journal up to `tip`, or wait for the recorder; returns how many changes were not recorded before.

    Raises:
        LedgerMoved: it did not get that far in time.
        JournalGap, RecordsUnavailable, LedgerUnreachable, LedgerFault: it cannot be read or recorded.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    first = await records.position(program) or START
    async with records.lead(program) as lead:
        while loop.time() < deadline:
            position = await records.position(program)
            if (position or START).seq >= tip.seq:
                return max(0, tip.seq - first.seq)
            if not await lead.take():
                await asyncio.sleep(LOCK_PAUSE_S)
                continue
            entries = await journal.read(position, DRAIN_EVENTS_MAX, 0)
            if not entries:
                break
            await records.record(program, position, entries, booking_code=booking_code)
    raise LedgerMoved(f"the journal of {program} was not recorded up to seq {tip.seq}")


def _lost(seen: Position, recorded: Position, epochs: list[EpochRow]) -> int:
    """How many changes of the history up to `seen` are not recorded and never will be."""
    if seen.epoch == 0:
        return 0
    branched = [row.base_seq for row in epochs if seen.epoch < row.epoch <= recorded.epoch]
    return max(0, seen.seq - min([recorded.seq, *branched]))


def _silent(_loaded: int, _total: int) -> None:
    return
