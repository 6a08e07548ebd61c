"""One program's quotas in memory, at a position in its journal."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from reservasi.availability.alternatives import Alternatives
from reservasi.availability.dates import Dates
from reservasi.availability.groups import Groups
from reservasi.events import (
    Confirmed,
    Ended,
    Held,
    JournalEntry,
    OpeningRetired,
    OpeningSet,
    QuotaRetired,
    QuotaSet,
    Returned,
    Unreadable,
)
from reservasi.ledger.wire.messages import Snapshot
from reservasi.model import Opening, Position, Quota, QuotaCounts, State

REMEMBERED_MS = 2 * 86_400_000  # how long ids are kept after their end: a day longer than the promise about replays
ENDED_BOOKING = (State.CANCELLED, State.RETIRED)  # the states in which a confirmed reservation ends


class NotFollowed(Exception):  # never leaves this package
    """The effect of an event cannot be derived from it: a new snapshot is needed."""


class ProgramView:
    """One program's quotas as of a journal position."""

    def __init__(self) -> None:
        self.quotas: dict[str, Quota] = {}
        self.moments: Counter[int] = Counter()  # opens_at_ms -> number of quotas that open then
        self.damaged_quotas: set[str] = set()  # quotas that the ledger could not fully read when the view began
        self.incomplete_since_epoch = 0  # the epoch of a view that began without damaged data; 0: complete
        self.openings: dict[str, Opening] = {}
        self.opening_ids: dict[str, str] = {}  # quota -> the opening with which it opens
        self.covered: dict[str, dict[str, None]] = {}  # opening -> its quotas
        self._openings_at: dict[int, set[str]] = {}  # opens_at_ms -> openings
        self.tickets_changes = 0  # number of changes to these fields, or to whether a quota needs a ticket
        self.known_ids: set[str] = set()
        self._ended: dict[str, int] = {}  # reservation id -> end, the earliest first
        self.removals = 0  # grows when quotas may have been removed
        self.position = Position(epoch=0, seq=0)
        self.changed_at: dict[str, int] = {}  # quota -> version of the whole view at its last change, the oldest first
        self._timers: dict[str, dict[str, int]] = {}  # quota -> hold or returning place -> due time, ms
        self._due_at_ms: dict[str, int] = {}  # the earliest due time, computed on demand
        # Indexes for reads, updated with each change, so that no read scans all quotas.
        self.alternatives, self.dates, self.groups = Alternatives(self.quotas), Dates(()), Groups()

    def reset(self, snapshot: Snapshot, ids: Iterable[str], version: int) -> None:
        """Start again from a snapshot."""
        self.quotas = {quota.id: quota for quota in snapshot.quotas}
        self.damaged_quotas = set(snapshot.damaged_quotas)
        self.incomplete_since_epoch = snapshot.position.epoch if snapshot.unreadable or snapshot.damaged_quotas else 0
        self.moments = Counter(quota.terms.opens_at_ms for quota in snapshot.quotas)
        self.openings, self._openings_at = {opening.id: opening for opening in snapshot.openings}, {}
        for opening in snapshot.openings:
            self._openings_at.setdefault(opening.terms.opens_at_ms, set()).add(opening.id)
        self.opening_ids, self.covered = {}, {}
        self.alternatives, self.dates, self.groups = Alternatives(self.quotas), Dates(snapshot.quotas), Groups()
        self.tickets_changes += 1
        for quota in snapshot.quotas:
            self._find_opening(quota)
        self.known_ids, self._ended = set(ids), {}
        self.position = snapshot.position
        self.removals += 1
        self.changed_at = dict.fromkeys(self.quotas, version)
        self._timers = {quota_id: dict(timers) for quota_id, timers in snapshot.timers.items()}
        self._due_at_ms = {}

    def apply(self, entry: JournalEntry, version: int) -> None:
        """Apply one entry's events.

        Raises:
            NotFollowed: one of them cannot be read; the events before it are applied, and the view must be reset.
        """
        held: dict[str, int] = {}  # counted together, since under load most events are holds
        for event in entry.events:
            match event:
                case Held():
                    self.known_ids.add(event.reservation_id)
                    if event.reservation_id in self._ended:
                        del self._ended[event.reservation_id]
                    timers = self._timers.get(event.quota)
                    if timers is None:
                        timers = self._timers[event.quota] = {}
                    timers[event.reservation_id] = event.deadline_ms
                    held[event.quota] = held.get(event.quota, 0) + len(event.persons)
                    continue
                case Confirmed():
                    self._stop_timer(event.quota, event.reservation_id)
                    self._count(event.quota, held=-event.places, confirmed=event.places)
                case Ended():
                    self._end(event, entry.at_ms)
                case Returned():
                    self._stop_return(event)
                    self._count(event.quota, returning=-event.places)
                case QuotaSet():
                    self._set(event)
                case QuotaRetired():
                    self._remove(event.quota)
                    continue
                case OpeningSet() | OpeningRetired() | Unreadable():
                    self._apply_rare(event, version)
                    continue
            self._due_at_ms.pop(event.quota, None)
            self._note_changed(event.quota, version)
        for quota_id, places in held.items():
            self._count(quota_id, held=places)
            self._due_at_ms.pop(quota_id, None)
            self._note_changed(quota_id, version)
        self.position = entry.position

    def changed_since(self, version: int) -> list[Quota]:
        """The quotas that changed after a version of the whole view."""
        changed = []
        for quota_id in reversed(self.changed_at):
            if self.changed_at[quota_id] <= version:
                break
            changed.append(self.quotas[quota_id])
        return changed

    def _note_changed(self, quota_id: str, version: int) -> None:
        self.changed_at.pop(quota_id, None)
        self.changed_at[quota_id] = version

    def due_at_ms(self, quota_id: str) -> int | None:
        """When the quota's next hold ends or its next place returns; None if there is none."""
        timers = self._timers.get(quota_id)
        if not timers:
            return None
        due_at_ms = self._due_at_ms.get(quota_id)
        if due_at_ms is None:
            due_at_ms = self._due_at_ms[quota_id] = min(timers.values())
        return due_at_ms

    def _end(self, event: Ended, at_ms: int) -> None:
        self._forget_ended(at_ms)
        self._ended[event.reservation_id] = at_ms
        self._stop_timer(event.quota, event.reservation_id)
        returning = event.places if event.returns_at_ms else 0
        if returning:
            self._timers.setdefault(event.quota, {})[f"+{event.seq}:{event.places}"] = event.returns_at_ms
        if event.state in ENDED_BOOKING:
            self._count(event.quota, confirmed=-event.places, returning=returning)
        else:
            self._count(event.quota, held=-event.places, returning=returning)

    def _forget_ended(self, now_ms: int) -> None:
        while self._ended:
            first = next(iter(self._ended))
            if self._ended[first] > now_ms - REMEMBERED_MS:
                break
            del self._ended[first]
            self.known_ids.discard(first)

    def _stop_timer(self, quota_id: str, timer: str) -> None:
        timers = self._timers.get(quota_id)
        if timers is not None:
            timers.pop(timer, None)

    def _stop_return(self, event: Returned) -> None:
        """Remove a timer of a return. The event does not name it: it is the earliest one with as many places."""
        timers = self._timers.get(event.quota, {})
        ends_with = f":{event.places}"
        returning = [timer for timer in timers if timer[0] == "+" and timer.endswith(ends_with)]
        if returning:
            del timers[min(returning, key=timers.__getitem__)]

    def _count(self, quota_id: str, *, held: int = 0, confirmed: int = 0, returning: int = 0) -> None:
        quota = self.quotas[quota_id]
        counts = QuotaCounts(
            held=quota.counts.held + held,
            confirmed=quota.counts.confirmed + confirmed,
            returning=quota.counts.returning + returning,
            version=quota.counts.version,
        )
        self.quotas[quota_id] = Quota(id=quota_id, terms=quota.terms, counts=counts, imported=quota.imported)
        taken = held + confirmed + returning
        if taken:
            before = quota.remaining
            if (before > 0) != (before > taken):
                self.groups.count(quota, has_left=before <= 0)
            self.alternatives.count(quota, before - taken)

    def _apply_rare(self, event: OpeningSet | OpeningRetired | Unreadable, version: int) -> None:
        if isinstance(event, Unreadable):
            raise NotFollowed(f"the event of kind {event.letter!r} at seq {event.seq} cannot be read: {event.why}")
        if isinstance(event, OpeningRetired):
            self._remove_opening(event.opening, version)
        else:
            self._set_opening(event.opening, version)

    def _set_opening(self, opening: Opening, version: int) -> None:
        former, terms = self.openings.get(opening.id), opening.terms
        self.openings[opening.id] = opening
        if former and _ticket(former) != _ticket(opening):
            self.tickets_changes += 1
            for quota_id in self.covered.get(opening.id, ()):
                self._note_changed(quota_id, version)
        if former and _coverage(former) == _coverage(opening):
            return
        if former:
            self._leave_moment(former)
        self._openings_at.setdefault(terms.opens_at_ms, set()).add(opening.id)
        moments = {terms.opens_at_ms, former.terms.opens_at_ms if former else terms.opens_at_ms}
        for quota in [self.quotas[quota_id] for at_ms in moments for quota_id in self.groups.opening_at(at_ms)]:
            if self._find_opening(quota):
                self._note_changed(quota.id, version)

    def _remove_opening(self, opening_id: str, version: int) -> None:
        opening = self.openings.pop(opening_id)
        self._leave_moment(opening)
        for quota_id in list(self.covered.get(opening_id, ())):
            self._find_opening(self.quotas[quota_id])
            self._note_changed(quota_id, version)
        self.covered.pop(opening_id, None)
        self.tickets_changes += 1

    def _leave_moment(self, opening: Opening) -> None:
        there = self._openings_at[opening.terms.opens_at_ms]
        there.discard(opening.id)
        if not there:
            del self._openings_at[opening.terms.opens_at_ms]

    def _find_opening(self, quota: Quota) -> bool:
        """Store which opening covers the quota, since every claim looks it up. A cancelled opening counts if no other
        does.

        Returns whether it changed.
        """
        openings = map(self.openings.__getitem__, self._openings_at.get(quota.terms.opens_at_ms, ()))
        covering = [opening for opening in openings if opening.terms.covers(quota.terms)]
        now = min(covering, key=_precedence).id if covering else None
        before = self.opening_ids.pop(quota.id, None)
        if before is not None:
            self.covered[before].pop(quota.id, None)
        if now is not None:
            self.opening_ids[quota.id] = now
            self.covered.setdefault(now, {})[quota.id] = None
        self.groups.put(quota, now or "")
        self.tickets_changes += now != before
        return now != before

    def _remove(self, quota_id: str) -> None:
        quota = self.quotas.pop(quota_id)
        self._forget_moment(quota)
        self.groups.remove(quota)
        self._note_terms(quota, None)
        opening_id = self.opening_ids.pop(quota_id, None)
        if opening_id is not None:
            del self.covered[opening_id][quota_id]
        for of_quotas in (self._timers, self._due_at_ms, self.changed_at):
            of_quotas.pop(quota_id, None)
        self.removals += 1

    def _forget_moment(self, quota: Quota) -> None:
        opens_at_ms = quota.terms.opens_at_ms
        self.moments[opens_at_ms] -= 1
        if not self.moments[opens_at_ms]:
            del self.moments[opens_at_ms]

    def _set(self, event: QuotaSet) -> None:
        former = self.quotas.get(event.quota)
        if former:
            self._forget_moment(former)
            self.groups.remove(former)
        self.moments[event.terms.opens_at_ms] += 1
        counts = msgspec.structs.replace(former.counts if former else QuotaCounts(), version=event.version)
        quota = Quota(id=event.quota, terms=event.terms, counts=counts, imported=event.imported)
        self.quotas[event.quota] = quota
        self._note_terms(former, quota)
        self._find_opening(quota)

    def _note_terms(self, before: Quota | None, after: Quota | None) -> None:
        self.dates.put(before, after)
        self.alternatives.put(before, after)


def _coverage(opening: Opening) -> tuple[object, ...]:
    """The fields that decide which quotas it covers."""
    return opening.terms.opens_at_ms, opening.terms.offices, opening.cancelled


def _ticket(opening: Opening) -> tuple[object, ...]:
    """The fields, without the clock, that decide whether its quotas need a ticket."""
    return opening.terms.waiting_room, opening.terms.ends_at_ms, opening.paused, opening.cancelled


def _precedence(opening: Opening) -> tuple[bool, int]:
    """Sort key: openings that are not cancelled first, then the latest cancelled one."""
    return opening.cancelled, -opening.revised_at_ms
