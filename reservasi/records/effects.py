"""The net effect of a sequence of events, computed in seq order before anything is written. Pure.

A batch may hold, confirm and cancel the same reservation, or end a person's reservation before holding the next one.
Each table is therefore written once, with the final state of the batch and without the steps in between. A step that
contradicts the batch itself raises `Unapplicable`; contradictions with the tables are found by `writes.py`.
"""

from collections.abc import Iterable
from itertools import chain
from typing import assert_never

import msgspec

from reservasi.events import (
    AnyEvent,
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
from reservasi.model import Opening, QuotaTerms, State

ENDED_BOOKING = (State.CANCELLED, State.RETIRED)  # the states in which a confirmed reservation ends


class Unapplicable(Exception):  # never leaves this package
    """An event does not fit the recorded state."""


class Stamped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event with the fields of its entry."""

    epoch: int
    at_ms: int
    events: tuple[AnyEvent]

    @property
    def event(self) -> AnyEvent:
        return self.events[0]


class Life(msgspec.Struct, gc=False):
    """The changes of one reservation in a batch."""

    reservation_id: str
    quota: str
    places: int
    held: Held | None = None  # None: it was held or confirmed before the batch
    held_epoch: int = 0
    held_at_ms: int = 0
    epoch: int = 0  # of the last change
    seq: int = 0
    state: State = State.HELD  # after the batch
    confirmed: Confirmed | None = None
    confirmed_at_ms: int = 0
    ended: Ended | None = None
    ended_at_ms: int = 0

    @property
    def returns_at_ms(self) -> int:
        """When the places of an ended reservation become available again."""
        return self.ended.returns_at_ms if self.ended is not None else 0


class QuotaChange(msgspec.Struct, kw_only=True):
    """The changes of one quota in a batch."""

    booked_delta: int = 0  # change of the number of confirmed places
    terms: QuotaTerms | None = None  # the last terms that were set
    version: int = 0
    imported: tuple[int, ...] = ()
    retired_at_ms: int = 0  # 0: it is in the ledger


class OpeningChange(msgspec.Struct):
    """The state of an opening after a batch."""

    opening: Opening
    epoch: int  # of the last change
    seq: int
    retired_at_ms: int = 0  # 0: it is in the ledger


class NamedChange(msgspec.Struct, frozen=True):
    """One event that names an actor or a reason."""

    epoch: int
    at_ms: int
    event: Ended | QuotaSet | OpeningSet


class Effects(msgspec.Struct, kw_only=True):
    """The changes of a batch by table; each list holds a reservation at most once."""

    quotas: dict[str, QuotaChange] = msgspec.field(default_factory=dict)
    retired_openings: dict[str, int] = msgspec.field(default_factory=dict)  # recorded before; time of retirement
    openings: dict[str, OpeningChange] = msgspec.field(default_factory=dict)  # set in this batch, after the retirements
    unreadable: list[Stamped] = msgspec.field(default_factory=list)  # they change no table and become dead letters
    named: list[NamedChange] = msgspec.field(default_factory=list)
    # quotas that must exist although the batch does not change them
    quotas_held: set[str] = msgspec.field(default_factory=set)
    new_holds: list[Life] = msgspec.field(default_factory=list)
    new_bookings: list[Life] = msgspec.field(default_factory=list)  # held and confirmed in this batch
    moved: list[Life] = msgspec.field(default_factory=list)  # recorded holds that become bookings
    ended_holds: list[Life] = msgspec.field(default_factory=list)
    ended_bookings: list[Life] = msgspec.field(default_factory=list)
    # confirmed reservations that were recorded before or moved here
    retired: list[Life] = msgspec.field(default_factory=list)
    ended_at_once: list[Life] = msgspec.field(
        default_factory=list
    )  # moved and cancelled in this batch: their applicants end as well


def net_effects(entries: Iterable[JournalEntry | Stamped]) -> Effects:
    """Compute the final state of each reservation and quota.

    Raises:
        Unapplicable: two events contradict each other.
    """
    course = Course()
    for entry in entries:
        course.follow(entry)
    return course.end()


class Course:
    """Computes net effects entry by entry, for callers that do other work in between."""

    def __init__(self) -> None:
        self._effects = Effects()
        self._lives: list[Life] = []
        self._latest: dict[str, Life] = {}  # state of each reservation so far

    def follow(self, entry: JournalEntry | Stamped) -> None:
        """Apply the next entry; raises `Unapplicable` as `net_effects` does."""
        effects, lives, latest = self._effects, self._lives, self._latest
        for event in entry.events:
            if type(event) is Held:  # isinstance on a msgspec struct goes through its metaclass, which is much slower
                life = _hold(effects, latest.get(event.reservation_id), entry, event)
                lives.append(life)
                latest[event.reservation_id] = life
            elif type(event) is Confirmed:
                _confirm(effects, _latest(lives, latest, event), entry, event)
            else:
                _follow_rare(effects, lives, latest, entry, event)

    def end(self) -> Effects:
        """Return the net effects; must be the last call."""
        for life in self._lives:
            _file(self._effects, life)
        _assert_one_live_reservation(self._effects)
        return self._effects


def _follow_rare(
    effects: Effects, lives: list[Life], latest: dict[str, Life], entry: JournalEntry | Stamped, event: AnyEvent
) -> None:
    """Events other than holds and confirmations."""
    match event:
        case Ended():
            is_in_batch = event.reservation_id in latest
            _end(effects, _latest(lives, latest, event), entry, event, is_in_batch=is_in_batch)
            _name(effects, entry, event)
        case QuotaSet():
            change = _change_of(effects, event.quota)
            change.terms, change.version, change.imported = event.terms, event.version, event.imported
            change.retired_at_ms = 0
            _name(effects, entry, event)
        case QuotaRetired():
            _change_of(effects, event.quota).retired_at_ms = entry.at_ms
        case OpeningSet():
            _set_opening(effects, entry, event)
            _name(effects, entry, event)
        case OpeningRetired():
            _retire_opening(effects, entry, event)
        case Returned():
            pass  # no row changes when a returned place becomes available
        case Unreadable():
            effects.unreadable.append(Stamped(epoch=entry.epoch, at_ms=entry.at_ms, events=(event,)))
        case Held() | Confirmed():
            raise AssertionError("handled before")
        case unknown:
            assert_never(unknown)


def _set_opening(effects: Effects, entry: JournalEntry | Stamped, event: OpeningSet) -> None:
    before = effects.openings.get(event.opening.id)
    if before is not None and before.retired_at_ms:
        raise Unapplicable("an opening of that name was retired in the same batch")  # each alone would fit
    effects.openings[event.opening.id] = OpeningChange(event.opening, entry.epoch, event.seq)


def _retire_opening(effects: Effects, entry: JournalEntry | Stamped, event: OpeningRetired) -> None:
    change = effects.openings.get(event.opening)
    if change is None:
        effects.retired_openings[event.opening] = entry.at_ms
    else:
        change.retired_at_ms = entry.at_ms


def _name(effects: Effects, entry: JournalEntry | Stamped, event: Ended | QuotaSet | OpeningSet) -> None:
    if event.actor or event.reason:
        effects.named.append(NamedChange(entry.epoch, entry.at_ms, event))


def _hold(effects: Effects, before: Life | None, entry: JournalEntry | Stamped, event: Held) -> Life:
    if before is not None and before.ended is None:
        raise Unapplicable("held twice")
    effects.quotas_held.add(event.quota)
    # Positional arguments, since keyword arguments cost twice as much here.
    return Life(
        event.reservation_id,
        event.quota,
        len(event.persons),
        event,
        entry.epoch,
        entry.at_ms,
        entry.epoch,
        event.seq,
    )


def _confirm(effects: Effects, life: Life, entry: JournalEntry | Stamped, event: Confirmed) -> None:
    if life.state is not State.HELD:
        raise Unapplicable(f"confirmed while {life.state}")
    life.state = State.CONFIRMED
    life.confirmed = event
    life.confirmed_at_ms = entry.at_ms
    life.epoch = entry.epoch
    life.seq = event.seq
    _change_of(effects, event.quota).booked_delta += event.places


def _end(effects: Effects, life: Life, entry: JournalEntry | Stamped, event: Ended, *, is_in_batch: bool) -> None:
    before = State.CONFIRMED if event.state in ENDED_BOOKING else State.HELD
    if event.state.live or (is_in_batch and life.state is not before):
        raise Unapplicable(f"{event.state} while {life.state}")
    life.state, life.ended, life.ended_at_ms = event.state, event, entry.at_ms
    life.epoch, life.seq = entry.epoch, event.seq
    if event.state in ENDED_BOOKING:
        _change_of(effects, event.quota).booked_delta -= event.places


def _latest(lives: list[Life], latest: dict[str, Life], event: Confirmed | Ended) -> Life:
    """The state of a reservation so far in the batch; one that is new to the batch must be in the tables."""
    life = latest.get(event.reservation_id)
    if life is None:
        life = latest[event.reservation_id] = Life(event.reservation_id, event.quota, event.places)
        lives.append(life)
    elif life.quota != event.quota or life.places != event.places:
        raise Unapplicable("quota or places differ from those of the hold")
    return life


def _change_of(effects: Effects, quota: str) -> QuotaChange:
    change = effects.quotas.get(quota)
    if change is None:
        change = effects.quotas[quota] = QuotaChange()
    return change


def _file(effects: Effects, life: Life) -> None:
    """Put a reservation into the list of the table that is written for it."""
    if life.held is not None:
        if life.confirmed is not None:
            effects.new_bookings.append(life)
        elif life.ended is None:
            effects.new_holds.append(life)
        # otherwise it was held and ended without a confirmation: no row remains
    elif life.confirmed is not None:
        effects.moved.append(life)
        if life.state is State.RETIRED:
            effects.retired.append(life)
        elif life.ended is not None:
            effects.ended_at_once.append(life)
    elif life.state is State.RETIRED:
        effects.retired.append(life)
    elif life.state is State.CANCELLED:
        effects.ended_bookings.append(life)
    else:
        effects.ended_holds.append(life)


def _assert_one_live_reservation(effects: Effects) -> None:
    live = [
        person
        for life in chain(effects.new_holds, effects.new_bookings)
        if life.held is not None and life.ended is None
        for person in life.held.persons
    ]
    if len(set(live)) != len(live):
        raise Unapplicable("a person has two live reservations")
