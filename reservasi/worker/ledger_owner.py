"""Owns the ledger: no run of its server sells before it has been compared with the records.

A new, restarted, emptied, restored or failed-over ledger answers `fenced`, since the run id in its `meta` is not the
server's. Here it is compared with PostgreSQL. Equal or ahead along the same chain: it is owned and the journal
recorded. Behind: it stays fenced, since it would sell places twice, and is rebuilt from the records (`rebuild.py`). On
another chain: it stays fenced until an operator decides which history counts.

An owned ledger is compared as well, since nothing after a broken chain can be recorded: it is then fenced.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from itertools import pairwise

import msgspec

from reservasi.errors import DamagedKey, JournalGap, LedgerFault, RebuildRefused, RecordsUnavailable, Unavailable
from reservasi.health import Health, Part
from reservasi.ledger.connection import LedgerConnection, LedgerMeta
from reservasi.ledger.journal.stream import START, Journal
from reservasi.ledger.loading import Loader
from reservasi.ledger.wire.recorded_word import RecordedWord
from reservasi.logs import get_sparing_logger
from reservasi.metrics import LEDGER_EPOCH, LEDGER_OWNED
from reservasi.model import Position
from reservasi.records import EpochRow, Records
from reservasi.worker.at_stake import AtStake, count_at_stake
from reservasi.worker.standstill import Standstill

log = get_sparing_logger()

CALL_TIMEOUT_S = 5.0
LOOK_INTERVAL_S = 0.2
DRAIN_EVENTS_MAX = 2000  # per read while the chain is checked
COMPARISONS_MAX = 5  # of an owned ledger that seems altered: ledger and records change meanwhile
FOLLOW_LOOKS = 25  # the journal is read at every 25th check of an owned ledger that the records keep up with
STAKE_INTERVAL_S = 60.0  # between two counts of the unrecorded changes of a superseded ledger
FOLLOW_SEQ_MAX = 10_000  # changes that are followed; the recorder checks the rest


class Ownership(StrEnum):
    """The relation of a ledger to the records, or the result of an attempt to own it."""

    OWNED = "owned"  # this run may sell
    OWNABLE = "ownable"  # it may be owned: nothing recorded would be lost
    BEHIND = "behind"  # the records have changes that the ledger lacks
    LOADING = "loading"  # a rebuild is running, or was interrupted
    DIVERGED = "diverged"  # ledger and records have different histories
    RECORDS_OLD = "records_old"  # the records are an older copy: they were restored
    SUPERSEDED = "superseded"  # another server's ledger was owned after this one
    UNREADABLE = "unreadable"  # stored by a version with another form
    DAMAGED = "damaged"  # `meta` was damaged, and the journal continues from the records without it
    MOVED = "moved"  # another process changed it: compare again


_FAULTS: dict[Ownership | str, str] = {  # why a ledger sells nothing, as a message
    Ownership.OWNABLE: "fenced: not compared with the records yet",
    Ownership.BEHIND: "fenced: behind the records",
    Ownership.LOADING: "fenced: being rebuilt",
    Ownership.DIVERGED: "fenced: its history differs from that of the records",
    Ownership.RECORDS_OLD: "fenced: the records are an older copy and lack changes of the ledger",
    Ownership.SUPERSEDED: "fenced: another server was owned after this one",
    Ownership.UNREADABLE: "fenced: stored in another form, which only the version that wrote it can read",
    Ownership.DAMAGED: "fenced: its position was damaged; a rebuild repairs it",
    Ownership.MOVED: "fenced: another process changed it",
}


ALTERED = (Ownership.BEHIND, Ownership.DIVERGED, Ownership.RECORDS_OLD, Ownership.DAMAGED)
# the ledger may have changes that nothing else has
ONLY_IN_LEDGER = (Ownership.DIVERGED, Ownership.RECORDS_OLD, Ownership.SUPERSEDED)
FROM_LEDGER = "reservasi rebuild --from-ledger --program {}"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger compared with the records, at one moment."""

    verdict: Ownership  # any but MOVED
    meta: LedgerMeta
    recorded: Position  # epoch 0, seq 0 if nothing is recorded
    latest_epoch: int  # claimed so far, by any server; 0 if none was
    cause: str = ""  # where the journal does not lead from the records to the ledger
    program: str = ""
    at_stake: AtStake | None = None  # what only the ledger has, if it was counted

    @property
    def altered(self) -> bool:
        """Whether a ledger that is sold from was altered outside the functions."""
        return self.meta.owned and self.verdict in ALTERED


async def compare_ledger(
    program: str, connection: LedgerConnection, journal: Journal, records: Records, *, follow_max: int | None = None
) -> Comparison:
    """Compare a program's ledger with the records, changing nothing.

    Of an owned ledger's journal, `follow_max` changes after the recorded ones are read; None: all.

    Raises:
        LedgerUnreachable, RecordsUnavailable, LedgerFault: it could not be compared.
    """
    comparison = await _compare_once(program, connection, journal, records, follow_max)
    for _ in range(COMPARISONS_MAX):
        if not comparison.altered:
            break
        before, comparison = comparison, await _compare_once(program, connection, journal, records, follow_max)
        same_lineage = before.meta.position.epoch == comparison.meta.position.epoch
        if same_lineage and before.recorded == comparison.recorded:
            return comparison  # no rebuild, and no recording followed by trimming, happened in between
    if comparison.altered:  # the recorder follows the chain as well, and advanced each time
        comparison = msgspec.structs.replace(comparison, verdict=Ownership.OWNED)
    return comparison


async def _compare_once(
    program: str, connection: LedgerConnection, journal: Journal, records: Records, follow_max: int | None
) -> Comparison:
    # first: an owned ledger is never behind a position that was recorded before it was read
    recorded = await records.position(program) or START
    meta = await connection.meta(CALL_TIMEOUT_S)
    epochs = await records.epochs(program)
    latest = epochs[-1] if epochs else EpochRow(epoch=0, base_seq=0, run_id="")
    seen = meta.position
    is_latest = meta.owned and latest.epoch <= seen.epoch
    cause = ""
    if meta.damaged:
        verdict = Ownership.DIVERGED
    elif not meta.readable:
        verdict = Ownership.UNREADABLE
    elif meta.owned and not is_latest and latest.run_id != meta.run_id:
        verdict = Ownership.SUPERSEDED
    elif meta.loading:
        verdict = Ownership.LOADING
    elif (seen.epoch, seen.seq) < (recorded.epoch, recorded.seq) or (is_latest and seen.seq < recorded.seq):
        verdict = Ownership.BEHIND
    elif cause := await _break_between(journal, recorded, seen, follow_max if is_latest else None):
        is_old = proves_old_copy(await journal.recorded_word(), recorded, epochs, seen)
        verdict = Ownership.RECORDS_OLD if is_old else Ownership.DIVERGED
    else:
        verdict = Ownership.OWNED if is_latest else Ownership.OWNABLE
    comparison = Comparison(
        verdict=verdict, meta=meta, recorded=recorded, latest_epoch=latest.epoch, cause=cause, program=program
    )
    verdict, cause = await _doubted(comparison, journal, records)
    return msgspec.structs.replace(comparison, verdict=verdict, cause=cause)


async def _doubted(comparison: Comparison, journal: Journal, records: Records) -> tuple[Ownership, str]:
    """The verdict and its cause, checked against journal and recorder: `meta` alone may be lost or damaged."""
    verdict, cause, meta, recorded = comparison.verdict, comparison.cause, comparison.meta, comparison.recorded
    if verdict in (Ownership.BEHIND, Ownership.OWNABLE) and meta.position.seq == 0:
        held = await _held(journal, recorded)
        verdict, cause = (Ownership.DIVERGED, held) if held else (verdict, cause)
    if verdict in (Ownership.BEHIND, Ownership.DIVERGED) and await _is_misstated(journal, recorded, meta):
        verdict, cause = Ownership.DAMAGED, ""
    if verdict in (Ownership.BEHIND, Ownership.DAMAGED):
        went_back = await _went_back(comparison.program, journal, records)
        verdict, cause = (Ownership.DIVERGED, went_back) if went_back else (verdict, cause)
    return verdict, cause


def proves_old_copy(word: RecordedWord | None, recorded: Position, epochs: Sequence[EpochRow], tip: Position) -> bool:
    """Whether the records once had a later position along the same epochs, according to the recorder's last word.

    An epoch that was never used is moved to the base of the next one, which older records do not have yet.
    """
    if word is None or not (recorded.epoch, recorded.seq) < (word.epoch, word.seq):
        return False
    if word.epoch > tip.epoch or word.seq > tip.seq:
        return False
    bases = dict(word.lineage)
    ends = {epoch: base_seq for (epoch, _), (_, base_seq) in pairwise(word.lineage)}  # the base of the next epoch
    for row in epochs:
        if row.epoch > max(bases, default=tip.epoch):  # nothing of it was recorded at that time
            is_known = row.epoch <= tip.epoch and row.base_seq >= word.seq
        elif row.epoch in bases:
            is_known = bases[row.epoch] in (row.base_seq, ends.get(row.epoch))
        else:
            is_known = row.epoch < min(bases, default=row.epoch + 1)  # earlier than the published epochs
        if not is_known:
            return False
    return all(recorded.seq <= base_seq for epoch, base_seq in word.lineage if recorded.epoch < epoch <= word.epoch)


async def own_ledger(
    program: str, connection: LedgerConnection, journal: Journal, records: Records, *, alone: bool = False
) -> Ownership:
    """Compare a program's ledger with the records, and own it if nothing recorded would be lost.

    Each run of a server is owned under a new epoch, which is first claimed in the records: changes that a ledger
    accepted and lost can then never be confused with later changes of the same seq. Nobody owns a ledger during a
    rebuild, except the process that rebuilds it (`alone`).

    Raises:
        LedgerUnreachable, RecordsUnavailable, LedgerFault: it could not be compared; nothing was changed.
    """
    comparison = await compare_ledger(program, connection, journal, records, follow_max=FOLLOW_SEQ_MAX)
    if comparison.verdict is not Ownership.OWNABLE:
        return comparison.verdict
    return await _own(program, comparison, connection, records, alone=alone)


async def _own(
    program: str, comparison: Comparison, connection: LedgerConnection, records: Records, *, alone: bool = False
) -> Ownership:
    seen, run_id = comparison.meta.position, comparison.meta.run_id
    epoch = max(seen.epoch, comparison.latest_epoch) + 1
    # Two processes may check a run at once: one claims an epoch, the other a later one, and then the first one owns the
    # ledger.
    owned_under = seen.epoch if comparison.meta.owned else None
    if not await records.claim_epoch(program, epoch, seen.seq, run_id, owned_under=owned_under, alone=alone):
        return Ownership.MOVED
    outcome = await connection.own(seen, epoch, CALL_TIMEOUT_S)
    return Ownership.OWNED if outcome == "owned" else Ownership.MOVED


async def lift_bar(program: str, comparison: Comparison, journal: Journal, records: Records) -> int:
    """Make an owned ledger recordable where epochs that were never used exclude it; returns their number.

    Older versions left such epochs behind when two processes checked a run at once.

    Raises:
        LedgerUnreachable, RecordsUnavailable, LedgerFault, JournalGap: it could not be done.
    """
    seen, position = comparison.meta.position, comparison.recorded
    if comparison.verdict is not Ownership.OWNED or position.seq >= seen.seq:  # nothing is unrecorded
        return 0
    epoch, last_seq = 0, 0  # the epoch of the next unrecorded entries, and its last seq
    while entries := await journal.read(position, DRAIN_EVENTS_MAX, 0):
        epoch = epoch or entries[0].epoch
        mine = [each.position.seq for each in entries if each.epoch == epoch]
        last_seq = mine[-1] if mine else last_seq
        if len(mine) < len(entries) or epoch >= seen.epoch:
            break
        position = entries[-1].position
    if not 0 < epoch < seen.epoch:
        return 0
    lifted = await records.lift_bar(program, epoch, seen.epoch, last_seq)
    if lifted:
        log.warning("epochs_never_taken_up", program=program, epochs=lifted, after=epoch, last_seq=last_seq)
    return lifted


async def _break_between(journal: Journal, recorded: Position, tip: Position, follow_max: int | None) -> str:
    """Why the journal does not lead from the recorded position to the ledger's, entry by entry.

    "" if it does, within `follow_max` changes; the journal may meanwhile continue beyond the tip.
    """
    position = recorded
    try:
        while position.seq < tip.seq:
            if follow_max is not None and position.seq - recorded.seq >= follow_max:
                return ""
            entries = await journal.read(position, DRAIN_EVENTS_MAX, 0)
            if not entries:
                return f"there is no entry after seq {position.seq}"
            position = next((each.position for each in entries if each.position.seq >= tip.seq), entries[-1].position)
    except (JournalGap, DamagedKey) as gap:
        return str(gap)
    if (position.seq, position.chain) == (tip.seq, tip.chain):
        return ""
    return f"at seq {position.seq} its chain is not the ledger's at seq {tip.seq}"


async def _held(journal: Journal, recorded: Position) -> str:
    """What an apparently empty ledger has; "" if the records have all of it."""
    try:
        end, _ = await journal.end()
    except DamagedKey as fault:
        return str(fault)
    if end is not None and end.seq > recorded.seq:
        return f"its position is missing, and its journal ends at seq {end.seq}"
    if end is None and recorded == START and not await journal.is_empty():
        return "its position is missing, and it is not empty"
    return ""


async def _went_back(program: str, journal: Journal, records: Records) -> str:
    """Whether the records are an older copy, according to the recorder's last word in the ledger.

    A rebuild would make the ledger an older copy as well.
    """
    word = await journal.recorded_word()
    recorded = await records.position(program) or START  # read after the word, which is published after recording
    if word is None or word.seq <= recorded.seq:
        return ""
    return f"the records were at seq {word.seq} and are now at {recorded.seq}: they are an older copy"


async def _is_misstated(journal: Journal, recorded: Position, meta: LedgerMeta) -> bool:
    """Whether the journal continues from the records to its own end, and only the position in `meta` is wrong."""
    try:
        end, agrees = await journal.end()
        copy = await journal.place_copy() if end is None and not meta.damaged else None
    except DamagedKey:
        return False
    if end is None:  # as after a rebuild: the copy and the records outvote it
        return meta.damaged or (copy is not None and (copy.seq, copy.chain) == (recorded.seq, recorded.chain))
    # otherwise the journal may have lost its end
    is_place_wrong = agrees == "copy" or (agrees == "place" and meta.damaged)
    if not is_place_wrong or end.seq < recorded.seq:
        return False
    return not await _break_between(journal, recorded, end, None)


class Owner:
    """Watches one program's ledger, and owns it when a new run of its server can be trusted.

    `rebuild` rebuilds a ledger that is behind the records; it gets the last position at which the ledger was seen, and
    returns when the ledger may be checked again. None leaves rebuilding to an operator. `note_owned` gets the epoch
    with each check that finds the ledger owned.
    """

    def __init__(
        self,
        program: str,
        connection: LedgerConnection,
        journal: Journal,
        records: Records,
        *,
        rebuild: Callable[[Position], Awaitable[object]] | None = None,
        health: Health | None = None,
        note_owned: Callable[[int], None] | None = None,
    ) -> None:
        self._program = program
        self._note_owned = note_owned
        self._health = health or Health()
        self._health.expect(program)
        self._connection = connection
        self._journal = journal
        self._records = records
        self._rebuild = rebuild
        self._seen = Position(epoch=0, seq=0)  # the last position of the ledger while it was owned
        self._looks = 0
        self._followed_for = ""  # the recorder's fault for which the journal was read
        # counted once for each state of ledger and records
        self._stake: tuple[Comparison, AtStake | None] | None = None
        self._stake_at_s = 0.0
        self._waiting_at = START  # recorded position when the journal was last read
        self._last: Ownership | str = ""
        self._logged: Ownership | str = ""  # the result that was logged last
        self._standstill = Standstill(program)

    async def run(self, stop: asyncio.Event) -> None:
        """Check the ledger until `stop`."""
        while not stop.is_set():
            await self._check()
            try:
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await stop.wait()
            except TimeoutError:
                continue
        await self._connection.drop()

    async def _check(self) -> None:
        result: Ownership | str
        part: Part = "ledger"
        stalled: str | None = None
        cause = ""
        stake: AtStake | None = None
        try:
            follow_max = FOLLOW_SEQ_MAX if self._is_to_follow() else 0
            self._looks += 1
            comparison = await compare_ledger(
                self._program, self._connection, self._journal, self._records, follow_max=follow_max
            )
            result, cause = comparison.verdict, comparison.cause
            if comparison.altered:
                await Loader(self._connection).fence()
            if result is Ownership.OWNED:
                self._remember(comparison.meta.position)
                stalled = self._standstill.reason(comparison.recorded, comparison.meta.position)
                if self._note_owned:
                    self._note_owned(comparison.meta.position.epoch)
                if follow_max:
                    await self._see_that_it_is_recorded(comparison)
            elif result is Ownership.OWNABLE:
                result = await _own(self._program, comparison, self._connection, self._records)
            elif result in ONLY_IN_LEDGER:
                stake = await self._count_at_stake(comparison)
                part = "records" if result is Ownership.RECORDS_OLD else "ledger"
            elif result in (Ownership.BEHIND, Ownership.LOADING, Ownership.DAMAGED) and self._rebuild is not None:
                self._report(result)
                await self._rebuild(self._seen)
        except (Unavailable, LedgerFault, JournalGap, RebuildRefused) as error:
            result = str(error)
            part = "records" if isinstance(error, RecordsUnavailable) else "ledger"
        except Exception as error:  # nothing else would own the ledger again
            log.exception("ledger_ownership_failed", program=self._program)
            result = f"{type(error).__name__}"
        cause_and_stake = "; ".join(filter(None, (cause, str(stake or ""))))
        self._report(result, part, stalled, cause=cause_and_stake)

    async def _count_at_stake(self, comparison: Comparison) -> AtStake | None:
        """Count once for each state of ledger and records, since it reads all reservations; None if they cannot be
        read.

        While another server is recorded, the state changes with each check: then once in `STAKE_INTERVAL_S`.
        """
        now_s = asyncio.get_running_loop().time()
        is_fresh = (
            self._stake is not None
            and comparison.verdict is Ownership.SUPERSEDED
            and (self._stake[0].verdict, self._stake[0].meta.run_id) == (comparison.verdict, comparison.meta.run_id)
            and now_s - self._stake_at_s < STAKE_INTERVAL_S
        )
        if self._stake is None or (self._stake[0] != comparison and not is_fresh):
            try:
                stake = await count_at_stake(self._program, self._journal, self._records)
            except Unavailable:
                return None  # counted with the next check
            except Exception as error:  # a damaged value must not hide why the ledger is fenced
                log.warning("stake_not_counted", program=self._program, error=type(error).__name__)
                stake = None
            self._stake, self._stake_at_s = (comparison, stake), now_s
        return self._stake[1]

    def _is_to_follow(self) -> bool:
        """Whether the journal is read at this check: at intervals, and once the recorder has reported a fault in it."""
        fault = self._health.recorder_fault(self._program)
        has_met = fault not in ("", self._followed_for)
        self._followed_for = fault
        return has_met or self._looks % FOLLOW_LOOKS == 0

    async def _see_that_it_is_recorded(self, comparison: Comparison) -> None:
        if comparison.recorded == self._waiting_at and comparison.recorded.seq < comparison.meta.position.seq:
            await lift_bar(self._program, comparison, self._journal, self._records)
        self._waiting_at = comparison.recorded

    def _remember(self, position: Position) -> None:
        LEDGER_EPOCH.labels(self._program).set(position.epoch)
        self._seen = max(self._seen, position)

    def _report(
        self, result: Ownership | str, part: Part = "ledger", stalled: str | None = None, cause: str = ""
    ) -> None:
        LEDGER_OWNED.labels(self._program).set(int(result == Ownership.OWNED))
        if result == Ownership.OWNED and stalled:
            self._health.note_fault(self._program, "records", stalled)
        elif result == Ownership.OWNED:
            self._health.note_well(self._program)
        else:
            fault = _FAULTS.get(result, str(result))
            self._health.note_fault(self._program, part, f"{fault}: {cause}" if cause else fault)
        if result == Ownership.OWNED:
            if self._logged != result:
                log.info("ledger_ownership", program=self._program, result=str(result))
                self._logged = result
        elif result != self._last:  # logged when it changes, not at every check
            details = {"cause": cause} if cause else {}
            if result == Ownership.RECORDS_OLD:
                details["advice"] = FROM_LEDGER.format(self._program)
            if log.error("ledger_ownership", program=self._program, result=str(result), **details):
                self._logged = result
        self._last = result
