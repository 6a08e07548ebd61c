"""Owning the ledger: no run of its server sells before it has been compared with the records.

A fresh, restarted, emptied, restored or failed-over ledger answers `fenced`, since the run id that its `meta` names is
not the server's. Here it is compared with what PostgreSQL has. Equal or ahead along the same chain: it is owned and
the journal drained. Behind: it stays fenced, since selling from it would sell places twice, and is rebuilt from the
records (`rebuild.py`). On another chain: it stays fenced until somebody decides which history is the true one.

An owned ledger is compared as well, since nothing that follows a broken chain can be recorded: it is fenced then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from itertools import pairwise

import msgspec

from reservasi.errors import DamagedKey, JournalGap, LedgerFault, RebuildRefused, RecordsUnavailable, Unavailable
from reservasi.health import Health, Part
from reservasi.ledger.connection import LedgerConnection, LedgerMeta
from reservasi.ledger.journal.stream import START, Journal, RecordedWord
from reservasi.ledger.loading import Loader
from reservasi.logs import get_sparing_logger
from reservasi.metrics import LEDGER_EPOCH, LEDGER_OWNED
from reservasi.model import Position
from reservasi.records import EpochRow, Records
from reservasi.worker.at_stake import AtStake, count_at_stake
from reservasi.worker.standstill import Standstill

log = get_sparing_logger()

CALL_TIMEOUT_S = 5.0
LOOK_INTERVAL_S = 0.2
DRAIN_EVENTS_MAX = 2000  # read at once while the chain is checked
COMPARISONS_MAX = 5  # of an owned ledger that seems altered: it and the records go on meanwhile
FOLLOW_LOOKS = (
    25  # looks at an owned ledger for one at which its journal is read: as long as records do not lag, nothing
)
STAKE_INTERVAL_S = 60.0  # between two counts of what only a ledger knows that another server has superseded
FOLLOW_SEQ_MAX = 10_000  # how much of it; whoever records it checks the rest


class Ownership(StrEnum):
    """How a ledger stands to the records, or what came of an attempt to own it."""

    OWNED = "owned"  # this run may sell
    OWNABLE = "ownable"  # nothing that is recorded would be forgotten: it may be owned
    BEHIND = "behind"  # the records have seen more than the ledger knows
    LOADING = "loading"  # being rebuilt, or that was interrupted
    DIVERGED = "diverged"  # ledger and records tell different histories
    RECORDS_OLD = "records_old"  # the records are an older copy of what the ledger knows: they were restored
    SUPERSEDED = "superseded"  # another server's ledger was owned after this one
    UNREADABLE = "unreadable"  # stored by a version whose ledger has another form
    DAMAGED = "damaged"  # what says where it is was damaged, and its journal goes on from the records without it
    MOVED = "moved"  # somebody else was at it: look again


_FAULTS: dict[Ownership | str, str] = {  # why a ledger sells nothing, for people
    Ownership.OWNABLE: "fenced: not compared with the records yet",
    Ownership.BEHIND: "fenced: behind the records",
    Ownership.LOADING: "fenced: being rebuilt",
    Ownership.DIVERGED: "fenced: it tells another history than the records",
    Ownership.RECORDS_OLD: "fenced: the records are an older copy of what the ledger knows",
    Ownership.SUPERSEDED: "fenced: another server was owned after this one",
    Ownership.UNREADABLE: "fenced: stored in another form, which only the version that wrote it can read",
    Ownership.DAMAGED: "fenced: what says where it is was damaged; a rebuild mends it",
    Ownership.MOVED: "fenced: somebody else was at it",
}


ALTERED = (Ownership.BEHIND, Ownership.DIVERGED, Ownership.RECORDS_OLD, Ownership.DAMAGED)
ONLY_IN_LEDGER = (Ownership.DIVERGED, Ownership.RECORDS_OLD, Ownership.SUPERSEDED)  # where something may be
FROM_LEDGER = "reservasi rebuild --from-ledger --program {}"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger beside the records, at one moment."""

    verdict: Ownership  # any but MOVED
    meta: LedgerMeta
    recorded: Position  # epoch 0, seq 0 when nothing is
    latest_epoch: int  # claimed so far, by whichever server; 0 when none was
    cause: str = ""  # where the journal does not lead from the records to the ledger
    program: str = ""
    at_stake: AtStake | None = None  # what only the ledger knows, where somebody counted it

    @property
    def altered(self) -> bool:
        """Whether a ledger that is sold from was altered behind its own back."""
        return self.meta.owned and self.verdict in ALTERED


async def compare_ledger(
    program: str, connection: LedgerConnection, journal: Journal, records: Records, *, follow_max: int | None = None
) -> Comparison:
    """Compare a program's ledger with the records, changing nothing.

    Of an owned ledger's journal `follow_max` changes behind the recorded ones are read; None: all.

    Raises:
        LedgerUnreachable, RecordsUnavailable, LedgerFault: it could not be compared.
    """
    found = await _compare_once(program, connection, journal, records, follow_max)
    for _ in range(COMPARISONS_MAX):
        if not found.altered:
            break
        before, found = found, await _compare_once(program, connection, journal, records, follow_max)
        same_lineage = before.meta.position.epoch == found.meta.position.epoch
        if same_lineage and before.recorded == found.recorded:
            return found  # nothing was rebuilt, or recorded and trimmed meanwhile, that could have misled us
    if found.altered:  # whoever records follows the chain as well, and got on each time
        found = msgspec.structs.replace(found, verdict=Ownership.OWNED)
    return found


async def _compare_once(
    program: str, connection: LedgerConnection, journal: Journal, records: Records, follow_max: int | None
) -> Comparison:
    recorded = await records.position(program) or START  # first: an owned ledger is never behind what was recorded then
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
    found = Comparison(
        verdict=verdict, meta=meta, recorded=recorded, latest_epoch=latest.epoch, cause=cause, program=program
    )
    verdict, cause = await _doubted(found, journal, records)
    return msgspec.structs.replace(found, verdict=verdict, cause=cause)


async def _doubted(found: Comparison, journal: Journal, records: Records) -> tuple[Ownership, str]:
    """The verdict and its cause, held against what journal and recorder say: `meta` alone may be lost or damaged."""
    verdict, cause, meta, recorded = found.verdict, found.cause, found.meta, found.recorded
    if verdict in (Ownership.BEHIND, Ownership.OWNABLE) and meta.position.seq == 0:
        held = await _held(journal, recorded)
        verdict, cause = (Ownership.DIVERGED, held) if held else (verdict, cause)
    if verdict in (Ownership.BEHIND, Ownership.DIVERGED) and await _is_misstated(journal, recorded, meta):
        verdict, cause = Ownership.DAMAGED, ""
    if verdict in (Ownership.BEHIND, Ownership.DAMAGED):
        went_back = await _went_back(found.program, journal, records)
        verdict, cause = (Ownership.DIVERGED, went_back) if went_back else (verdict, cause)
    return verdict, cause


def proves_old_copy(word: RecordedWord | None, recorded: Position, epochs: Sequence[EpochRow], tip: Position) -> bool:
    """Whether the records were farther once, along the same epochs: the ledger keeps what the recorder said last.

    An epoch that was never taken up is moved to where the next one begins, which older records do not know yet.
    """
    if word is None or not (recorded.epoch, recorded.seq) < (word.epoch, word.seq):
        return False
    if word.epoch > tip.epoch or word.seq > tip.seq:
        return False
    bases = dict(word.lineage)
    ends = {epoch: base_seq for (epoch, _), (_, base_seq) in pairwise(word.lineage)}  # where the next one begins
    for row in epochs:
        if row.epoch > max(bases, default=tip.epoch):  # nothing of it was recorded when that was said
            is_known = row.epoch <= tip.epoch and row.base_seq >= word.seq
        elif row.epoch in bases:
            is_known = bases[row.epoch] in (row.base_seq, ends.get(row.epoch))
        else:
            is_known = row.epoch < min(bases, default=row.epoch + 1)  # before the ones that are named
        if not is_known:
            return False
    return all(recorded.seq <= base_seq for epoch, base_seq in word.lineage if recorded.epoch < epoch <= word.epoch)


async def own_ledger(
    program: str, connection: LedgerConnection, journal: Journal, records: Records, *, alone: bool = False
) -> Ownership:
    """Compare a program's ledger with the records, and own it when nothing that is recorded would be forgotten.

    Each run of a server is owned under an epoch of its own, claimed in the records first: what a ledger accepted and
    lost before can then never be taken for what it accepts under the same seq afterwards. Nobody owns a ledger while it
    is rebuilt, but for the one who rebuilds it (`alone`).

    Raises:
        LedgerUnreachable, RecordsUnavailable, LedgerFault: it could not be compared; nothing was changed.
    """
    found = await compare_ledger(program, connection, journal, records, follow_max=FOLLOW_SEQ_MAX)
    if found.verdict is not Ownership.OWNABLE:
        return found.verdict
    return await _own(program, found, connection, records, alone=alone)


async def _own(
    program: str, found: Comparison, connection: LedgerConnection, records: Records, *, alone: bool = False
) -> Ownership:
    seen, run_id = found.meta.position, found.meta.run_id
    epoch = max(seen.epoch, found.latest_epoch) + 1
    # Two may look at a run at once: one claims an epoch, the other a later one, and then the first one owns the ledger.
    owned_under = seen.epoch if found.meta.owned else None
    if not await records.claim_epoch(program, epoch, seen.seq, run_id, owned_under=owned_under, alone=alone):
        return Ownership.MOVED
    outcome = await connection.own(seen, epoch, CALL_TIMEOUT_S)
    return Ownership.OWNED if outcome == "owned" else Ownership.MOVED


async def lift_bar(program: str, found: Comparison, journal: Journal, records: Records) -> int:
    """Let an owned ledger be recorded again where epochs bar it that nobody took up; how many did.

    Older versions left such epochs behind when two looked at a run at once.

    Raises:
        LedgerUnreachable, RecordsUnavailable, LedgerFault, JournalGap: it could not be done.
    """
    seen, position = found.meta.position, found.recorded
    if found.verdict is not Ownership.OWNED:
        return 0
    epoch, last_seq = 0, 0  # the lineage of what is recorded next, and where it ends
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
    """Why the journal does not go on from the recorded position, link by link, to where the ledger says it is.

    "" where it does, as far as `follow_max` changes tell; meanwhile it may go on beyond the tip.
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
    """What a ledger has that says of itself that it is empty; "" where the records have all of it."""
    try:
        end, _ = await journal.end()
    except DamagedKey as fault:
        return str(fault)
    if end is not None and end.seq > recorded.seq:
        return f"nothing says where it is, and its journal goes to seq {end.seq}"
    if end is None and recorded == START and not await journal.is_empty():
        return "nothing says where it is, and it is not empty"
    return ""


async def _went_back(program: str, journal: Journal, records: Records) -> str:
    """Whether the records are an older copy, by what the ledger was told last; a rebuild would make it one as well."""
    word = await journal.recorded_word()
    recorded = await records.position(program) or START  # read behind the word, which is told of what is recorded
    if word is None or word.seq <= recorded.seq:
        return ""
    return f"the records were at seq {word.seq} and are at {recorded.seq} now: they are an older copy"


async def _is_misstated(journal: Journal, recorded: Position, meta: LedgerMeta) -> bool:
    """Whether the journal goes on from the records to its own end, and only what says where the ledger is is wrong."""
    try:
        end, agrees = await journal.end()
        copy = await journal.place_copy() if end is None and not meta.damaged else None
    except DamagedKey:
        return False
    if end is None:  # as after a rebuild: the copy and the records outvote it
        return meta.damaged or (copy is not None and (copy.seq, copy.chain) == (recorded.seq, recorded.chain))
    is_place_wrong = agrees == "copy" or (agrees == "place" and meta.damaged)  # else the journal may have lost its end
    if not is_place_wrong or end.seq < recorded.seq:
        return False
    return not await _break_between(journal, recorded, end, None)


class Owner:
    """Watches one program's ledger, and owns it whenever a new run of its server may be trusted.

    `rebuild` makes a ledger that is behind what the records say; it gets how far the ledger was last seen, and returns
    once the ledger may be looked at again. None leaves that to a person. `note_owned` is told the epoch with each look
    that finds the ledger owned.
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
        self._seen = Position(epoch=0, seq=0)  # the farthest that the ledger was seen at while it was owned
        self._looks = 0
        self._followed_for = ""  # the recorder's fault for which the journal was read
        self._stake: tuple[Comparison, AtStake | None] | None = None  # counted once for each state of the two
        self._stake_at_s = 0.0
        self._waiting_at = START  # what was recorded when the journal was looked at last
        self._last: Ownership | str = ""
        self._told: Ownership | str = ""  # what the log says of it
        self._standstill = Standstill(program)

    async def run(self, stop: asyncio.Event) -> None:
        """Look at the ledger until told to stop."""
        while not stop.is_set():
            await self._look()
            try:
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await stop.wait()
            except TimeoutError:
                continue
        await self._connection.drop()

    async def _look(self) -> None:
        result: Ownership | str
        part: Part = "ledger"
        stalled: str | None = None
        cause = ""
        stake: AtStake | None = None
        try:
            follow_max = FOLLOW_SEQ_MAX if self._is_to_follow() else 0
            self._looks += 1
            found = await compare_ledger(
                self._program, self._connection, self._journal, self._records, follow_max=follow_max
            )
            result, cause = found.verdict, found.cause
            if found.altered:
                await Loader(self._connection).fence()
            if result is Ownership.OWNED:
                self._remember(found.meta.position)
                stalled = self._standstill.reason(found.recorded, found.meta.position)
                if self._note_owned:
                    self._note_owned(found.meta.position.epoch)
                if follow_max:
                    await self._see_that_it_is_recorded(found)
            elif result is Ownership.OWNABLE:
                result = await _own(self._program, found, self._connection, self._records)
            elif result in ONLY_IN_LEDGER:
                stake = await self._count_at_stake(found)
                part = "records" if result is Ownership.RECORDS_OLD else "ledger"
            elif result in (Ownership.BEHIND, Ownership.LOADING, Ownership.DAMAGED) and self._rebuild is not None:
                self._say(result)
                await self._rebuild(self._seen)
        except (Unavailable, LedgerFault, JournalGap, RebuildRefused) as error:
            result = str(error)
            part = "records" if isinstance(error, RecordsUnavailable) else "ledger"
        except Exception as error:  # nobody else would own the ledger again
            log.exception("ledger_ownership_failed", program=self._program)
            result = f"{type(error).__name__}"
        said = "; ".join(filter(None, (cause, str(stake or ""))))
        self._say(result, part, stalled, cause=said)

    async def _count_at_stake(self, found: Comparison) -> AtStake | None:
        """Once for each state of the two, since it reads all reservations; None where they cannot be read.

        Beside another server that is recorded the state changes with each look: counted once in `STAKE_INTERVAL_S`.
        """
        now_s = asyncio.get_running_loop().time()
        is_fresh = (
            self._stake is not None
            and found.verdict is Ownership.SUPERSEDED
            and (self._stake[0].verdict, self._stake[0].meta.run_id) == (found.verdict, found.meta.run_id)
            and now_s - self._stake_at_s < STAKE_INTERVAL_S
        )
        if self._stake is None or (self._stake[0] != found and not is_fresh):
            try:
                stake = await count_at_stake(self._program, self._journal, self._records)
            except Unavailable:
                return None  # counted with the next look
            except Exception as error:  # a damaged value must not hide why the ledger is fenced
                log.warning("not_counted_what_is_at_stake", program=self._program, error=type(error).__name__)
                stake = None
            self._stake, self._stake_at_s = (found, stake), now_s
        return self._stake[1]

    def _is_to_follow(self) -> bool:
        """Whether the journal is read at this look: now and then, and once the recorder has met something in it."""
        fault = self._health.recorder_fault(self._program)
        has_met = fault not in ("", self._followed_for)
        self._followed_for = fault
        return has_met or self._looks % FOLLOW_LOOKS == 0

    async def _see_that_it_is_recorded(self, found: Comparison) -> None:
        if found.recorded == self._waiting_at and found.recorded.seq < found.meta.position.seq:
            await lift_bar(self._program, found, self._journal, self._records)
        self._waiting_at = found.recorded

    def _remember(self, position: Position) -> None:
        LEDGER_EPOCH.labels(self._program).set(position.epoch)
        self._seen = max(self._seen, position)

    def _say(self, result: Ownership | str, part: Part = "ledger", stalled: str | None = None, cause: str = "") -> None:
        LEDGER_OWNED.labels(self._program).set(int(result == Ownership.OWNED))
        if result == Ownership.OWNED and stalled:
            self._health.note_fault(self._program, "records", stalled)
        elif result == Ownership.OWNED:
            self._health.note_well(self._program)
        else:
            fault = _FAULTS.get(result, str(result))
            self._health.note_fault(self._program, part, f"{fault}: {cause}" if cause else fault)
        if result == Ownership.OWNED:
            if self._told != result:
                log.info("ledger_ownership", program=self._program, result=str(result))
                self._told = result
        elif result != self._last:  # told when it changes, not five times a second
            details = {"cause": cause} if cause else {}
            if result == Ownership.RECORDS_OLD:
                details["advice"] = FROM_LEDGER.format(self._program)
            if log.error("ledger_ownership", program=self._program, result=str(result), **details):
                self._told = result
        self._last = result
