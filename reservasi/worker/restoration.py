"""Records a program again from its ledger, if the records are an older copy.

The ledger is fenced, read completely, and recorded in one transaction that moves the position to the ledger's; then it
is owned under a new epoch, and recording continues. If this is interrupted, either nothing was recorded or the ledger
can be owned as it is: repeating it has one effect. Nobody rebuilds meanwhile.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from reservasi.contents import KeptReservation, LedgerState, ReturningPlaces
from reservasi.errors import DamagedKey, LedgerMoved, RebuildRefused
from reservasi.events import Ended, Held, Returned
from reservasi.ledger.journal.entries import pack_events
from reservasi.ledger.journal.journal_tail import JournalTail
from reservasi.ledger.journal.stream import START
from reservasi.ledger.loading import Loader
from reservasi.ledger.whole import read_state
from reservasi.logs import get_logger
from reservasi.model import Position, State
from reservasi.records import KnownEvents, Restored, Standing
from reservasi.worker.ledger_owner import Comparison, Ownership, compare_ledger, own_ledger
from reservasi.worker.program_stores import ProgramStores
from reservasi.worker.rebuild import LOCK_WAIT_S, Rebuilder, publish_all, tail_since_ms

log = get_logger()

CALL_TIMEOUT_S = 10.0
OVER = (State.RELEASED, State.EXPIRED)  # ended holds, for which the records have no row


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one restoration."""

    program: str
    found: Ownership  # the ledger's state before
    restored: bool  # False: the records lacked nothing
    epoch: int = 0  # under which the ledger is owned now
    seq: int = 0
    bookings: int = 0  # confirmed ones that the records did not have
    holds: int = 0
    ended: int = 0  # reservations whose end was not recorded
    without_envelope: int = 0  # bookings and holds whose names and contacts are lost
    entries: int = 0  # of the journal
    gap: int = 0  # changes without a journal entry: their audit rows are lost
    left_out: int = 0  # reservations whose stored value cannot be read
    seconds: float = 0.0


class Restorer:
    """Records one program again from its ledger."""

    def __init__(self, stores: ProgramStores) -> None:
        self._program = stores.program
        self._connection = stores.connection
        self._journal = stores.journal
        self._records = stores.records
        self._booking_code = stores.booking_code
        self._tombstone_ms = stores.tombstone_ms
        self._rebuilder = Rebuilder(stores)

    async def run(self, *, lock_wait_s: float = LOCK_WAIT_S) -> RestoreReport:
        """Record what the records lack, and own the ledger.

        Raises:
            RebuildRefused: the records are not an older copy of the ledger.
            LedgerMoved, StaleRecorder: another process changed it; RecordsUnavailable, LedgerUnreachable, LedgerFault:
                it is not finished, and can be repeated.
        """
        async with self._rebuilder.alone(lock_wait_s):
            return await self._run_alone()

    async def _run_alone(self) -> RestoreReport:
        started_s = time.monotonic()
        comparison = await compare_ledger(self._program, self._connection, self._journal, self._records)
        if comparison.verdict in (Ownership.OWNED, Ownership.OWNABLE):
            return await self._own(comparison.verdict, Restored(), started_s, restored_now=False)
        if comparison.verdict is not Ownership.RECORDS_OLD:
            raise RebuildRefused(
                f"the records of {self._program} are not an older copy of its ledger: the ledger is "
                f"{comparison.verdict}, and nothing is recorded from it; see `reservasi rebuild`"
            )
        fenced = await Loader(self._connection).fence()
        state, implied = await self._read(comparison, fenced)
        expected = comparison.recorded if comparison.recorded != START else await self._records.position(self._program)
        restored = await self._records.restore(
            self._program,
            expected,
            state,
            implied,
            booking_code=self._booking_code,
            forgotten_ms=int(time.time() * 1000) - self._tombstone_ms,
        )
        await self._revive(state)
        return await self._own(comparison.verdict, restored, started_s, restored_now=True)

    async def _read(self, comparison: Comparison, fenced: Position) -> tuple[LedgerState, list[KnownEvents]]:
        epochs = {row.epoch: row.base_seq for row in await self._records.epochs(self._program)}
        state = await read_state(self._journal, fenced, after_seq=comparison.recorded.seq, lineage=epochs)
        if (await self._connection.meta(CALL_TIMEOUT_S)).position != fenced:
            raise LedgerMoved(f"another process changed the ledger of {self._program} while it was read")
        implied = known_events(state, comparison.recorded.seq)
        async with self._records.standing(self._program) as standing:
            return state, [*implied, *await self._returned(standing, state, implied, comparison.recorded.seq)]

    async def _returned(
        self, standing: Standing, state: LedgerState, implied: Sequence[KnownEvents], from_seq: int
    ) -> list[KnownEvents]:
        """Events of returns within the gap, for returning places that the records have."""
        last_ms = state.entries[-1].at_ms if state.entries else await standing.last_entry_at_ms()
        tail = JournalTail()
        since_ms = await tail_since_ms(standing, last_ms, self._tombstone_ms)
        async for row in standing.journal(since_ms):
            tail.follow(row.first_seq, row.at_ms, row.payload)
        for each in sorted(implied, key=lambda each: each.first_seq):
            tail.follow(each.first_seq, each.at_ms, each.payload)
        for entry in state.entries:
            tail.follow(entry.first_seq, entry.at_ms, entry.payload)
        gone = list(_gone(tail.returning(), state.returning))
        taken = {each.first_seq for each in implied}
        free = next((seq for seq in range(state.first_told_seq - 1, from_seq, -1) if seq not in taken), None)
        if not gone or free is None:
            return []
        at_ms = max(each.at_ms for each in gone)
        payload = pack_events(
            Returned(seq=free + at, quota=each.quota, places=each.places) for at, each in enumerate(gone)
        )
        return [KnownEvents(epoch=state.epoch_of(free), first_seq=free, at_ms=at_ms, payload=payload)]

    async def _own(
        self, verdict: Ownership, restored: Restored, started_s: float, *, restored_now: bool
    ) -> RestoreReport:
        owned = await own_ledger(self._program, self._connection, self._journal, self._records, alone=True)
        if owned is not Ownership.OWNED:
            raise LedgerMoved(f"the ledger of {self._program} is {owned}: try again")
        position = await self._records.position(self._program)
        if position is not None:  # publish that the ledger's changes are recorded
            await publish_all(self._program, position, self._journal, self._records)
        meta = await self._connection.meta(CALL_TIMEOUT_S)
        counted = {name: value for name, value in msgspec.structs.asdict(restored).items() if name in REPORTED}
        report = RestoreReport(
            program=self._program,
            found=verdict,
            restored=restored_now,
            epoch=meta.position.epoch,
            seq=meta.position.seq,
            seconds=round(time.monotonic() - started_s, 3),
            **counted,
        )
        if restored_now:
            log.warning("records_restored", **msgspec.to_builtins(report))
        return report

    async def _revive(self, state: LedgerState) -> None:
        """Publish that reservations are recorded whose dead letters the older copy does not have."""
        try:
            dead = await self._journal.dead_reservations()
        except DamagedKey:
            return  # fronts get none of them until all are published again
        recorded = dead - set(await self._records.dead_reservations(self._program)) - set(state.unreadable)
        await self._journal.publish_revived(recorded)


REPORTED = frozenset(Restored.__struct_fields__) & frozenset(RestoreReport.__struct_fields__)


def known_events(state: LedgerState, from_seq: int) -> list[KnownEvents]:
    """Events of the gap between the records and the journal's first entry that follow from the ledger's state."""
    gap = range(from_seq + 1, state.first_told_seq)
    returning = {each.seq: each for each in state.returning}
    hold_ms = {quota.id: quota.terms.hold_ms for quota in state.quotas}
    events: dict[int, tuple[int, Held | Ended]] = {
        each.seq: (each.at_ms, _given_back(each)) for each in state.returning if each.seq in gap
    }
    for id_, ended in state.ended.items():
        kept = ended.reservation
        if kept.state in OVER and kept.held_seq in gap:
            held_at_ms = min(ended.ended_at_ms, kept.deadline_ms - hold_ms.get(kept.quota, 0))
            events[kept.held_seq] = (held_at_ms, _held(id_, kept))
        if kept.seq in gap:
            events[kept.seq] = (ended.ended_at_ms, _ended(id_, kept, returning.get(kept.seq)))
    for id_, kept in state.live.items():
        if kept.state is State.HELD and kept.held_seq in gap:  # it may end, and must then be remembered
            events[kept.held_seq] = (kept.deadline_ms - hold_ms.get(kept.quota, 0), _held(id_, kept))
    return [
        KnownEvents(epoch=state.epoch_of(seq), first_seq=seq, at_ms=max(0, at_ms), payload=pack_events([event]))
        for seq, (at_ms, event) in sorted(events.items())
    ]


def _held(reservation_id: str, kept: KeptReservation) -> Held:
    return Held(
        seq=kept.held_seq,
        reservation_id=reservation_id,
        quota=kept.quota,
        deadline_ms=kept.deadline_ms,
        fingerprint=kept.fingerprint,
        sealed="",
        persons=kept.persons,
    )


def _ended(reservation_id: str, kept: KeptReservation, back: ReturningPlaces | None) -> Ended:
    return Ended(
        seq=kept.seq,
        state=kept.state,
        reservation_id=reservation_id,
        quota=kept.quota,
        places=kept.places,
        returns_at_ms=back.at_ms if back else 0,
    )


def _given_back(back: ReturningPlaces) -> Ended:
    """The end of a reservation of which only the returning places are known."""
    return Ended(
        seq=back.seq,
        state=State.RELEASED,
        reservation_id="",
        quota=back.quota,
        places=back.places,
        returns_at_ms=back.at_ms,
    )


def _gone(recorded_returns: Iterable[ReturningPlaces], kept: Sequence[ReturningPlaces]) -> Iterable[ReturningPlaces]:
    """Returning places that the records have and the ledger does not."""
    here = Counter((each.quota, each.seq) for each in kept)
    return (each for each in recorded_returns if not here[each.quota, each.seq])
