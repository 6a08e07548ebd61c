"""Compares a ledger with the records at one position, while both change.

The ledger is read first: its hashes page by page, then quotas, openings and timers at once. Then the records are read
at a later position in one transaction. Changes in between are known from the recorded journal: their reservations and
persons are left out, and counts are taken back. Every remaining difference is a real one.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from reservasi.contents import EndedReservation, KeptReservation, can_be_recorded, reference_digest
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.journal_changes import Changes
from reservasi.ledger.journal.stream import START, Journal
from reservasi.ledger.stored_reservations import Holdings
from reservasi.ledger.wire.messages import Snapshot
from reservasi.metrics import DRIFT, JOURNAL_GAPS, UNAPPLIED_EVENTS
from reservasi.model import Opening, QuotaCounts, State
from reservasi.records import QuotaRow, Records, Standing
from reservasi.worker.dead_letters import LedgerNow, settled_subjects
from reservasi.worker.ledger_owner import Comparison, Ownership, compare_ledger
from reservasi.worker.rebuild import read_tail

CALL_TIMEOUT_S = 10.0
RECORDED_WAIT_S = 30.0  # for the recorder to reach the position at which the ledger was read
RECORDED_PAUSE_S = 0.05
READS_MAX = 3  # if it is rebuilt or owned again between the first page and the last
KEPT = 1000  # differences that are listed; all are counted
TOMBSTONE_MARGIN_MS = 60_000  # close to being forgotten
WITH_SOMETHING = (Ownership.OWNED, Ownership.OWNABLE, Ownership.DAMAGED)  # states in which the ledger can be read
KINDS = (
    "ledger", "unrecorded", "quotas", "counts", "reservations", "persons", "timers", "openings", "tombstones",
    "bookings", "gaps", "dead-letters", "unreadable", "due", "names",
)  # fmt: skip
NOT_BY_REBUILDING = ("unrecorded", "bookings", "gaps", "dead-letters")  # differences of the records or the recorder


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One difference."""

    program: str
    kind: str  # one of KINDS
    subject: str  # a quota, an opening, a reservation, or a person's keyed hash
    ledger: str
    records: str

    @property
    def repairable(self) -> bool:
        """Whether a rebuild makes the ledger agree."""
        return self.kind not in NOT_BY_REBUILDING


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one comparison."""

    program: str
    epoch: int
    seq: int  # position of the comparison
    compared: int = 0  # reservations
    skipped: int = 0  # reservations that changed meanwhile
    kinds: dict[str, int] = msgspec.field(default_factory=dict)
    drift: tuple[Drift, ...] = ()  # the first `KEPT`
    repaired: int = 0  # differences before a repair
    lost: int = 0  # changes that a repair could not save
    settled: tuple[str, ...] = ()  # subjects of settled dead letters that a rebuild may undo; "": unknown
    unread: int = 0  # reservations that the records do not have and that are damaged or fit no row

    @property
    def repairable(self) -> int:
        """How many differences a rebuild removes."""
        return sum(count for kind, count in self.kinds.items() if kind not in NOT_BY_REBUILDING)


class Reconciler:
    """Compares one program."""

    def __init__(
        self, program: str, connection: LedgerConnection, journal: Journal, records: Records, *, tombstone_ms: int
    ) -> None:
        self._program = program
        self._connection = connection
        self._journal = journal
        self._records = records
        self._tombstone_ms = tombstone_ms

    async def run(self) -> Reconciled:
        """Compare, and set the metrics of differences by kind.

        Raises:
            LedgerUnreachable, RecordsUnavailable, LedgerFault: they could not be compared.
        """
        result = await self._compare()
        for kind in KINDS:
            DRIFT.labels(self._program, kind).set(result.kinds.get(kind, 0))
        return result

    async def _compare(self) -> Reconciled:
        compared, holdings, snapshot = await self._read()
        before = compared.meta.position
        if holdings is None or snapshot is None:
            verdict = compared.verdict if holdings is None else "fenced"
            settled = await self._settled(None) if compared.verdict in WITH_SOMETHING else ()
            fenced = self._result(before.epoch, before.seq, [self._fenced(str(verdict))])
            return msgspec.structs.replace(fenced, settled=settled)
        at = snapshot.position
        if not await self._recorded(at.seq):
            reached = (await self._records.position(self._program) or START).seq
            late = self._drift("unrecorded", "journal", f"seq {at.seq}", f"seq {reached}")
            return self._result(at.epoch, at.seq, [late])
        async with self._records.standing(self._program) as standing:
            changes = Changes()
            async for row in standing.journal_after(before.seq):
                changes.follow(row.first_seq, row.payload, until=at.seq)
            comparison = _Comparison(self._program, holdings, snapshot, changes, self._tombstone_ms)
            drift = await comparison.differences(standing)
        dead = await self._records.dead_letter_count(self._program)
        UNAPPLIED_EVENTS.labels(self._program).set(dead)
        if dead:
            drift.append(self._drift("dead-letters", "records", "accepted", f"{dead} not applied"))
        result = self._result(at.epoch, at.seq, drift, compared=comparison.compared, skipped=comparison.skipped)
        settled = await self._settled(comparison.ledger()) if drift else ()
        return msgspec.structs.replace(result, settled=settled, unread=len(comparison.unread))

    async def _settled(self, ledger: LedgerNow | None) -> tuple[str, ...]:
        return tuple((await settled_subjects(self._program, self._records, ledger))[:KEPT])

    async def _read(self) -> tuple[Comparison, Holdings | None, Snapshot | None]:
        """The ledger's content in one epoch: no holdings if it is not owned, no snapshot if it is fenced meanwhile."""
        try:
            for _ in range(READS_MAX):
                compared = await compare_ledger(self._program, self._connection, self._journal, self._records)
                if compared.verdict is not Ownership.OWNED:
                    break
                holdings = await Holdings.read(self._journal)
                snapshot = await self._connection.snapshot(CALL_TIMEOUT_S, whole=True)
                if snapshot is None or snapshot.position.epoch == compared.meta.position.epoch:
                    return compared, holdings, snapshot
        finally:
            await self._connection.drop()
        return compared, None, None

    async def _recorded(self, seq: int) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RECORDED_WAIT_S
        while True:
            position = await self._records.position(self._program)
            if seq == 0 or (position is not None and position.seq >= seq):
                return True
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(RECORDED_PAUSE_S)

    def _fenced(self, verdict: str) -> Drift:
        return self._drift("ledger", "ledger", verdict, "owned")

    def _drift(self, kind: str, subject: str, ledger: str, records: str) -> Drift:
        return Drift(program=self._program, kind=kind, subject=subject, ledger=ledger, records=records)

    def _result(self, epoch: int, seq: int, drift: list[Drift], *, compared: int = 0, skipped: int = 0) -> Reconciled:
        return Reconciled(
            program=self._program,
            epoch=epoch,
            seq=seq,
            compared=compared,
            skipped=skipped,
            kinds=dict(Counter(each.kind for each in drift)),
            drift=tuple(drift[:KEPT]),
        )


class _Comparison:
    """One comparison of everything."""

    def __init__(
        self, program: str, holdings: Holdings, snapshot: Snapshot, changes: Changes, tombstone_ms: int
    ) -> None:
        self.compared = 0
        self.skipped = 0
        # Without those that the records have, and with those that fit no row.
        self.unread = set(holdings.damaged_reservations)
        self._program = program
        self._holdings = holdings
        self._snapshot = snapshot
        self._changes = changes
        self._tombstone_ms = tombstone_ms

    def ledger(self) -> LedgerNow:
        """What the ledger has, for the comparison with dead letters."""
        snapshot = self._snapshot
        return LedgerNow(
            reservations=self._holdings.reservations,
            quotas={quota.id: quota.counts.version for quota in snapshot.quotas},
            openings={opening.id: opening.version for opening in snapshot.openings},
            uncertain=frozenset(
                {*self._changes.reservations, *self._holdings.damaged_reservations, *snapshot.damaged_quotas}
            ),
        )

    async def differences(self, standing: Standing) -> list[Drift]:
        quotas = {row.id: row for row in await standing.quotas()}
        places: dict[str, list[int]] = {id_: [0, 0, 0] for id_ in quotas}  # held, confirmed, returning
        timers: dict[str, dict[str, int]] = {}
        drifts = await self._everything_live(standing, places, timers)
        tail = await read_tail(standing, self._tombstone_ms)
        for back in tail.returning():
            places.setdefault(back.quota, [0, 0, 0])[2] += back.places
            timers.setdefault(back.quota, {})[back.timer] = back.at_ms
        drifts += [*self._quotas(quotas, places), *self._timers(timers), *self._openings(await standing.openings())]
        since_ms = self._snapshot.now_ms - self._tombstone_ms + TOMBSTONE_MARGIN_MS
        drifts += self._tombstones(tail.ended(since_ms))
        async for page in standing.ended_bookings(since_ms):
            drifts += self._tombstones(page)
        drifts += [*self._unreadable(), *self._indexes()]
        gaps = await standing.gaps()
        JOURNAL_GAPS.labels(self._program).set(gaps)
        return [*drifts, self._drift("gaps", "journal", None, gaps)] if gaps else drifts

    def _unreadable(self) -> Iterator[Drift]:
        """Damaged values of unknown content; values that depend on them may differ as well."""
        for subject in sorted({*self._holdings.unreadable, *self._snapshot.unreadable}):
            yield self._drift("unreadable", subject, "damaged", None)

    def _indexes(self) -> Iterator[Drift]:
        """The indexes by which the ledger finds quotas, timers and ended reservations."""
        indexes = self._snapshot.indexes
        if indexes is None:
            return
        for quota, number in sorted(indexes.numbers.items()):
            name = indexes.names.get(str(number))
            if name != quota:
                yield self._drift("names", str(number), name, quota)
        for quota, noted_ms in sorted(indexes.noted_due.items()):
            timers, at_ms = self._snapshot.timers.get(quota), indexes.due.get(quota)
            # it may be too early, but not too late
            if timers and (at_ms is None or at_ms > min(timers.values())):
                yield self._drift("due", quota, at_ms, min(timers.values()))
            elif noted_ms != (at_ms or 0):
                yield self._drift("due", quota, noted_ms, at_ms)
        for quota in sorted(indexes.due.keys() - indexes.numbers.keys() - self._snapshot.damaged_quotas):
            yield self._drift("due", quota, indexes.due[quota], None)
        for id_ in indexes.tombstones:
            kept = self._holdings.reservations.get(id_)
            if kept is not None and kept.state.live and id_ not in self._changes.reservations:
                yield self._drift("tombstones", id_, "ended", kept.state)

    async def _everything_live(
        self, standing: Standing, places: dict[str, list[int]], timers: dict[str, dict[str, int]]
    ) -> list[Drift]:
        """Compare reservations and persons, and add up the records' places and holds."""
        drifts: list[Drift] = []
        unseen = {id_ for id_, kept in self._holdings.reservations.items() if kept.state.live}
        persons = dict(self._holdings.persons)
        async for page in standing.live():
            for id_, kept in page:
                counts = places.setdefault(kept.quota, [0, 0, 0])
                counts[kept.state is State.CONFIRMED] += kept.places
                if kept.state is State.HELD:
                    timers.setdefault(kept.quota, {})[id_] = kept.deadline_ms
                unseen.discard(id_)
                self.unread.discard(id_)
                drifts += self._live(id_, kept, persons)
            await asyncio.sleep(0)  # lets other tasks run
        return [*drifts, *self._unknown(unseen, persons)]

    def _live(self, id_: str, kept: KeptReservation, persons: dict[str, str]) -> Iterator[Drift]:
        """Compare a reservation that is live in the records, and remove its persons from those left over."""
        mapped = {person: persons.pop(person, None) for person in kept.persons}
        if id_ in self._changes.reservations:
            self.skipped += 1
            return
        self.compared += 1
        wanted = msgspec.structs.replace(kept, reference=reference_digest(kept.reference))
        held_here = self._holdings.reservations.get(id_)
        if held_here != wanted:
            yield self._drift("reservations", id_, held_here, wanted)
        for person, mapped_to in mapped.items():
            if mapped_to != id_ and person not in self._changes.persons:
                yield self._drift("persons", person, mapped_to, id_)

    def _unknown(self, unseen: set[str], persons: dict[str, str]) -> Iterator[Drift]:
        quotas = {quota.id for quota in self._snapshot.quotas}
        for id_ in sorted(unseen - self._changes.reservations):
            kept = self._holdings.reservations[id_]
            if not can_be_recorded(kept, quotas):  # only the ledger can tell what it was
                self.unread.add(id_)
            yield self._drift("reservations", id_, kept, None)
        for person, id_ in persons.items():
            if id_ not in self._changes.reservations and person not in self._changes.persons:
                yield self._drift("persons", person, id_, None)

    def _quotas(self, rows: dict[str, QuotaRow], places: dict[str, list[int]]) -> Iterator[Drift]:
        here = {quota.id: quota for quota in self._snapshot.quotas}
        for id_ in sorted(rows.keys() | here.keys()):
            row, quota = rows.get(id_), here.get(id_)
            recorded_counts = places.get(id_, [0, 0, 0])
            if row is not None and row.booked != recorded_counts[1]:
                yield self._drift(
                    "bookings", id_, f"{recorded_counts[1]} places of its bookings", f"{row.booked} booked"
                )
            if id_ not in self._changes.later_quotas:
                terms = (quota.terms, quota.counts.version, quota.imported) if quota else None
                if terms != ((row.terms, row.version, row.imported) if row else None):
                    yield self._drift("quotas", id_, terms, row)
            if quota is None:
                continue
            held, confirmed, returning = self._changes.reckon_back(id_, recorded_counts)
            wanted = QuotaCounts(held=held, confirmed=confirmed, returning=returning, version=quota.counts.version)
            if quota.counts != wanted:
                yield self._drift("counts", id_, quota.counts, wanted)

    def _timers(self, wanted: dict[str, dict[str, int]]) -> Iterator[Drift]:
        here = self._snapshot.timers
        for quota in sorted(wanted.keys() | here.keys()):
            mine, theirs = here.get(quota, {}), wanted.get(quota, {})
            for what in mine.keys() | theirs.keys():
                is_settled = what not in self._changes.reservations and what not in self._changes.timers
                if what.startswith("+") and quota in self._changes.later_returns:
                    is_settled = False
                if mine.get(what) != theirs.get(what) and is_settled:
                    yield self._drift("timers", f"{quota} {what}", mine.get(what), theirs.get(what))

    def _openings(self, rows: list[Opening]) -> Iterator[Drift]:
        here = {opening.id: opening for opening in self._snapshot.openings}
        there = {opening.id: opening for opening in rows}
        for id_ in sorted(here.keys() | there.keys()):
            mine, theirs = here.get(id_), there.get(id_)
            if mine and theirs:  # changes without an event: the moment up to which the mark was computed
                mine = msgspec.structs.replace(mine, advanced_at_ms=theirs.advanced_at_ms)
                if not theirs.paused_at_ms:  # paused by a version that did not store the time
                    mine = msgspec.structs.replace(mine, paused_at_ms=0)
            if mine != theirs and id_ not in self._changes.later_openings:
                yield self._drift("openings", id_, mine, theirs)

    def _tombstones(self, ended: Iterable[EndedReservation]) -> Iterator[Drift]:
        for each in ended:
            id_ = each.reservation_id
            self.unread.discard(id_)
            if id_ in self._changes.reservations:
                continue
            held_here = self._holdings.reservations.get(id_)
            wanted = msgspec.structs.replace(each.reservation, reference=reference_digest(each.reservation.reference))
            if held_here is not None and not wanted.persons:  # erased since
                wanted = msgspec.structs.replace(wanted, persons=held_here.persons)
            if held_here != wanted:
                yield self._drift("tombstones", id_, held_here, wanted)
            elif self._snapshot.indexes is not None and id_ not in self._snapshot.indexes.tombstones:
                yield self._drift("tombstones", id_, None, each.reservation.state)

    def _drift(self, kind: str, subject: str, ledger: object, records: object) -> Drift:
        return Drift(program=self._program, kind=kind, subject=subject, ledger=_words(ledger), records=_words(records))


def _words(value: object) -> str:
    return "nothing" if value is None else str(value)
