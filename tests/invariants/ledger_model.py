"""The ledger once more, as plainly as Python can say it: what the Lua functions are compared with.

It counts nothing that it can look up: held and confirmed places follow from the reservations themselves. Time exists
only as `lapse`, which lets every deadline and return of a quota pass.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from reservasi.model import (
    IMPORT_ACTOR,
    NOT_KNOWN,
    STAFF_TERMS,
    Admit,
    Cancel,
    Claim,
    Command,
    Confirm,
    Find,
    Join,
    MoveOpening,
    Outcome,
    QuotaTerms,
    Release,
    Retire,
    RetireOpening,
    SetOpening,
    SetQuota,
    State,
    Sweep,
)

CLOSED = STAFF_TERMS.index("closed")
PAST_DATE = "2001-01-01"  # windows of an earlier date are over
EARLIEST_END_MS = 946_720_800_000 - 14 * 3_600_000  # of those windows: 2000-01-01T10:00, anywhere on Earth
PAST_MS = 1_000_000_000_000  # terms that name a moment before this one mean "long ago", after it "not for long"


class Said(NamedTuple):
    """What of an answer does not depend on the clock."""

    outcome: Outcome
    state: State | None = None
    quota: str = ""
    places: int = 0
    remaining: int = 0
    taken: int = 0
    version: int = 0
    expired: int = 0
    returned: int = 0
    ended: int = 0
    applicant: int = 0


@dataclass
class Reservation:
    """A reservation through its life."""

    quota: str
    fingerprint: str
    persons: tuple[str, ...]
    state: State = State.HELD
    overdue: bool = False


@dataclass
class KnownQuota:
    """A quota, and the places that are on their way back to it."""

    terms: QuotaTerms
    version: int = 1
    imported: tuple[int, ...] = ()
    returning: list[int] = field(default_factory=list)  # places, one entry a reservation that ended
    due: list[int] = field(default_factory=list)  # those whose moment has passed


class LedgerModel:
    """One program."""

    def __init__(self) -> None:
        self.quotas: dict[str, KnownQuota] = {}
        self.reservations: dict[str, Reservation] = {}
        self.seq = 0

    def run(self, command: Command) -> Said:
        """Carry one command out."""
        match command:
            case Claim():
                return self._claim(command)
            case Confirm():
                return self._confirm(command.reservation_id)
            case Release():
                return self._release(command.reservation_id)
            case Cancel():
                return self._cancel(command)
            case SetQuota():
                return self._set_quota(command)
            case Find():
                return self._find(command.reservation_id)
            case Sweep():
                return self._sweep()
            case Retire():
                return self._retire(command)
            case SetOpening() | MoveOpening() | RetireOpening() | Join() | Admit():
                raise AssertionError("openings have their own model")

    def lapse(self, quota_id: str) -> None:
        """Let every deadline and every return of a quota pass."""
        for reservation in self.reservations.values():
            if reservation.quota == quota_id and reservation.state is State.HELD:
                reservation.overdue = True
        if quota_id in self.quotas:
            quota = self.quotas[quota_id]
            quota.due += quota.returning
            quota.returning = []

    def is_overdue(self, one: Reservation) -> bool:
        """Whether a hold has ended: its deadline has passed, or its quota has closed for booking."""
        return one.state is State.HELD and (one.overdue or self.has_closed(one.quota))

    def has_closed(self, quota_id: str) -> bool:
        """Whether a quota's own closing time has passed."""
        return 0 < self.quotas[quota_id].terms.closes_at_ms < PAST_MS

    def count(self, quota_id: str, state: State) -> int:
        """Places of a quota's reservations in a state."""
        reservations = self.reservations.values()
        return sum(len(one.persons) for one in reservations if one.quota == quota_id and one.state is state)

    def given_back(self, quota_id: str) -> int:
        """Places that have not come back yet."""
        quota = self.quotas[quota_id]
        return sum(quota.returning) + sum(quota.due)

    def taken(self, quota_id: str) -> int:
        """Places that nobody can claim now."""
        return self.count(quota_id, State.HELD) + self.count(quota_id, State.CONFIRMED) + self.given_back(quota_id)

    def remaining(self, quota_id: str) -> int:
        """Places that can be claimed now."""
        return self.quotas[quota_id].terms.capacity - self.taken(quota_id)

    def persons(self) -> dict[str, str]:
        """Who has which live reservation."""
        return {
            person: reservation_id
            for reservation_id, one in self.reservations.items()
            if one.state.live
            for person in one.persons
        }

    def _claim(self, command: Claim) -> Said:
        reservation = self.reservations.get(command.reservation_id)
        if reservation and reservation.fingerprint != command.fingerprint:
            return Said(Outcome.EXISTS_WITH_DIFFERENT_CONTENT)
        if reservation:
            return Said(Outcome.EXISTS, State.HELD, reservation.quota, len(reservation.persons))
        quota = self.quotas.get(command.quota)
        if quota is None:
            return Said(Outcome.UNKNOWN_QUOTA)
        if quota.terms.closed or self.has_closed(command.quota):
            return Said(Outcome.CLOSED)
        if quota.terms.opens_at_ms > PAST_MS:
            return Said(Outcome.NOT_OPEN)
        duplicate = self._find_duplicate(command.persons)
        if duplicate:
            return Said(Outcome.DUPLICATE_APPLICANT, applicant=duplicate)
        if self.remaining(command.quota) < len(command.persons):
            self._run_timers(command.quota)
        if self.remaining(command.quota) < len(command.persons):
            return Said(Outcome.SOLD_OUT, remaining=self.remaining(command.quota))
        self.reservations[command.reservation_id] = Reservation(command.quota, command.fingerprint, command.persons)
        self.seq += 1
        return Said(Outcome.HELD, State.HELD, command.quota, len(command.persons))

    def _find_duplicate(self, persons: tuple[str, ...]) -> int:
        """Which of them, from 1, has a live reservation or comes twice; 0: none."""
        for at, person in enumerate(persons):
            live_id = self.persons().get(person)
            if live_id is not None and self.is_overdue(self.reservations[live_id]):
                self._end(live_id, State.EXPIRED)
                live_id = None
            if live_id is not None or person in persons[:at]:
                return at + 1
        return 0

    def _end(self, reservation_id: str, state: State) -> None:
        reservation = self.reservations[reservation_id]
        reservation.state, reservation.overdue = state, False
        quota = self.quotas[reservation.quota]
        if quota.terms.return_max_ms > 0:
            quota.returning.append(len(reservation.persons))
        self.seq += 1

    def _run_timers(self, quota_id: str) -> tuple[int, int]:
        quota = self.quotas[quota_id]
        overdue = [key for key, one in self.reservations.items() if one.quota == quota_id and self.is_overdue(one)]
        returned, quota.due = len(quota.due), []
        self.seq += returned
        for reservation_id in overdue:
            self._end(reservation_id, State.EXPIRED)
        return len(overdue), returned

    def _about(self, outcome: Outcome, reservation_id: str, state: State | None = None) -> Said:
        one = self.reservations[reservation_id]
        return Said(outcome, state or one.state, one.quota, len(one.persons))

    def _confirm(self, reservation_id: str) -> Said:
        one = self.reservations.get(reservation_id)
        if one is None:
            return Said(Outcome.NOT_FOUND)
        if one.state in (State.CONFIRMED, State.RETIRED):
            return self._about(Outcome.EXISTS, reservation_id)
        if self.is_overdue(one):
            self._end(reservation_id, State.EXPIRED)
        if one.state is not State.HELD:
            expired = one.state is State.EXPIRED
            return self._about(Outcome.HOLD_EXPIRED if expired else Outcome.NOT_HELD, reservation_id)
        one.state = State.CONFIRMED
        self.seq += 1
        return self._about(Outcome.CONFIRMED, reservation_id)

    def _release(self, reservation_id: str) -> Said:
        one = self.reservations.get(reservation_id)
        if one is None:
            return Said(Outcome.NOT_FOUND)
        if one.state is State.RELEASED:
            return self._about(Outcome.EXISTS, reservation_id)
        if self.is_overdue(one):
            self._end(reservation_id, State.EXPIRED)
        if one.state is not State.HELD:
            expired = one.state is State.EXPIRED
            return self._about(Outcome.HOLD_EXPIRED if expired else Outcome.NOT_HELD, reservation_id)
        self._end(reservation_id, State.RELEASED)
        return self._about(Outcome.RELEASED, reservation_id)

    def _cancel(self, command: Cancel) -> Said:
        one = self.reservations.get(command.reservation_id)
        if one is None:
            return Said(Outcome.NOT_FOUND)
        if one.state is State.CANCELLED:
            return self._about(Outcome.EXISTS, command.reservation_id)
        if one.state is State.RETIRED:
            return self._about(Outcome.TOO_LATE, command.reservation_id)
        if one.state is not State.CONFIRMED:
            return self._about(Outcome.NOT_CONFIRMED, command.reservation_id)
        if 0 < self.quotas[one.quota].terms.cancel_until_ms < PAST_MS and not command.by_staff:
            return self._about(Outcome.TOO_LATE, command.reservation_id)
        self._end(command.reservation_id, State.CANCELLED)
        return self._about(Outcome.CANCELLED, command.reservation_id)

    def _find(self, reservation_id: str) -> Said:
        one = self.reservations.get(reservation_id)
        if one is None:
            return Said(Outcome.NOT_FOUND)
        return self._about(Outcome.FOUND, reservation_id, State.EXPIRED if self.is_overdue(one) else None)

    def _set_quota(self, command: SetQuota) -> Said:
        current = self.quotas.get(command.quota)
        if current is None:
            if command.terms is None or command.version != 0:
                return Said(Outcome.UNKNOWN_QUOTA)
            if _is_reversed(command.terms):
                return Said(Outcome.WINDOW_REVERSED)
            self.quotas[command.quota] = KnownQuota(command.terms)
            self.seq += 1
            return Said(Outcome.QUOTA_SET, version=1)
        wanted, takes_over = _changed(current.terms, command), _takes_closing_over(current, command)
        if wanted == current.terms and not takes_over:
            return Said(Outcome.EXISTS, version=current.version)
        if command.terms is not None and command.version == 0:
            return Said(Outcome.EXISTS_WITH_DIFFERENT_CONTENT, version=current.version)
        if command.version not in (0, current.version):
            return Said(Outcome.VERSION_MISMATCH, version=current.version)
        if _window(wanted) != _window(current.terms) and _is_reversed(wanted):
            return Said(Outcome.WINDOW_REVERSED, version=current.version)
        taken = self.taken(command.quota)
        if wanted.capacity < taken:
            return Said(Outcome.BELOW_TAKEN, taken=taken, version=current.version)
        if self.has_closed(command.quota):
            self._run_timers(command.quota)
        current.imported = _imported(current, wanted, command.actor)
        if takes_over:
            current.imported = (*current.imported[:CLOSED], NOT_KNOWN)
        current.terms = wanted
        current.version += 1
        self.seq += 1
        return Said(Outcome.QUOTA_SET, version=current.version)

    def _retire(self, command: Retire) -> Said:
        quota = self.quotas.get(command.quota)
        if quota is None:
            return Said(Outcome.UNKNOWN_QUOTA)
        is_over = quota.terms.date < PAST_DATE and quota.terms.closes_at_ms < PAST_MS
        if not is_over or not EARLIEST_END_MS <= command.ends_at_ms < PAST_MS:
            return Said(Outcome.NOT_OVER)
        self._run_timers(command.quota)
        ended = 0
        for reservation_id in command.reservations:
            one = self.reservations.get(reservation_id)
            if one and one.state is State.CONFIRMED and one.quota == command.quota:
                one.state = State.RETIRED
                ended += 1
        self.seq += ended
        taken = self.taken(command.quota)
        if taken:
            return Said(Outcome.RETIRING, ended=ended, taken=taken)
        del self.quotas[command.quota]
        self.seq += 1
        return Said(Outcome.RETIRED, ended=ended)

    def _sweep(self) -> Said:
        done = [self._run_timers(quota_id) for quota_id in self.quotas]
        return Said(
            Outcome.SWEPT, expired=sum(expired for expired, _ in done), returned=sum(returned for _, returned in done)
        )


def _takes_closing_over(current: KnownQuota, command: SetQuota) -> bool:
    """Whether somebody closes what an import had closed."""
    by_import = bool(current.imported) and current.imported[CLOSED] == 1
    return command.closed is True and command.actor != IMPORT_ACTOR and current.terms.closed and by_import


def _imported(current: KnownQuota, wanted: QuotaTerms, actor: str) -> tuple[int, ...]:
    """What imports set, after a change of this quota."""
    before = [int(getattr(current.terms, name)) for name in STAFF_TERMS]
    after = [int(getattr(wanted, name)) for name in STAFF_TERMS]
    imported = current.imported or (before if current.version == 1 else [NOT_KNOWN] * len(before))
    by_import = actor == IMPORT_ACTOR
    return tuple(
        new if by_import and new != old else remembered
        for remembered, old, new in zip(imported, before, after, strict=True)
    )


def _window(terms: QuotaTerms) -> tuple[int, int]:
    return terms.opens_at_ms, terms.closes_at_ms


def _is_reversed(terms: QuotaTerms) -> bool:
    return 0 < terms.closes_at_ms <= terms.opens_at_ms


def _changed(terms: QuotaTerms, command: SetQuota) -> QuotaTerms:
    if command.terms is not None:
        return command.terms
    changes = {
        "capacity": command.capacity,
        "opens_at_ms": command.opens_at_ms,
        "closes_at_ms": command.closes_at_ms,
        "closed": command.closed,
    }
    kept = {name: getattr(terms, name) for name in QuotaTerms.__struct_fields__}
    return QuotaTerms(**{**kept, **{name: value for name, value in changes.items() if value is not None}})
