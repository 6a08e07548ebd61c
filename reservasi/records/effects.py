"""The net effect of a run of events, computed in seq order before anything is written. Pure.

A batch may hold, confirm and cancel the same reservation, and end one reservation of a person before holding the next.
Each table is therefore written once, with where the batch leads to and not with every step on the way. What a
step contradicts within the batch itself raises `Unapplicable`; what contradicts the tables is found by `writes.py`.
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

ENDED_BOOKING = (State.CANCELLED, State.RETIRED)  # how a confirmed reservation ends


class Unapplicable(Exception):  # never leaves this package
    """An event does not fit what is recorded."""


class Stamped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event alone, with what its entry says about it."""

    epoch: int
    at_ms: int
    events: tuple[AnyEvent]

    @property
    def event(self) -> AnyEvent:
        return self.events[0]


class Life(msgspec.Struct, gc=False):
    """What a batch does to one reservation."""

    reservation_id: str
    quota: str
    places: int
    held: Held | None = None  # None: the batch found it held or confirmed
    held_epoch: int = 0
    held_at_ms: int = 0
    epoch: int = 0  # of the last change
    seq: int = 0
    state: State = State.HELD  # where the batch leaves it
    confirmed: Confirmed | None = None
    confirmed_at_ms: int = 0
    ended: Ended | None = None
    ended_at_ms: int = 0

    @property
    def returns_at_ms(self) -> int:
        """When the places of an ended reservation return."""
        return self.ended.returns_at_ms if self.ended is not None else 0


class QuotaChange(msgspec.Struct, kw_only=True):
    """What a batch does to one quota."""

    booked_delta: int = 0  # confirmed places gained or lost
    terms: QuotaTerms | None = None  # the last ones set
    version: int = 0
    imported: tuple[int, ...] = ()
    retired_at_ms: int = 0  # 0: it is in the ledger


class OpeningChange(msgspec.Struct):
    """How a batch leaves an opening."""

    opening: Opening
    epoch: int  # of the last change
    seq: int
    retired_at_ms: int = 0  # 0: it is in the ledger


class NamedChange(msgspec.Struct, frozen=True):
    """One event that names who made a change, or why."""

    epoch: int
    at_ms: int
    event: Ended | QuotaSet | OpeningSet


class Effects(msgspec.Struct, kw_only=True):
    """What a batch leads to, by table; lists hold each reservation at most once."""

    quotas: dict[str, QuotaChange] = msgspec.field(default_factory=dict)
    retired_openings: dict[str, int] = msgspec.field(default_factory=dict)  # recorded before, and when they went
    openings: dict[str, OpeningChange] = msgspec.field(default_factory=dict)  # set here, after those were retired
    unreadable: list[Stamped] = msgspec.field(default_factory=list)  # which change no table, and are dead letters
    named: list[NamedChange] = msgspec.field(default_factory=list)
    quotas_held: set[str] = msgspec.field(default_factory=set)  # must exist, though nothing about them changes
    new_holds: list[Life] = msgspec.field(default_factory=list)
    new_bookings: list[Life] = msgspec.field(default_factory=list)  # held and confirmed here
    moved: list[Life] = msgspec.field(default_factory=list)  # a recorded hold becomes a booking
    ended_holds: list[Life] = msgspec.field(default_factory=list)
    ended_bookings: list[Life] = msgspec.field(default_factory=list)
    retired: list[Life] = msgspec.field(default_factory=list)  # of confirmed ones: recorded before, or moved here
    ended_at_once: list[Life] = msgspec.field(
        default_factory=list
    )  # moved and cancelled here: their applicants end as well


def net_effects(entries: Iterable[JournalEntry | Stamped]) -> Effects:
    """Follow each reservation and quota through the events.

    Raises:
        Unapplicable: two events contradict each other.
    """
    course = Course()
    for entry in entries:
        course.follow(entry)
    return course.end()


class Course:
    """The same entry by entry, for who has something else to do in between."""

    def __init__(self) -> None:
        self._effects = Effects()
        self._lives: list[Life] = []
        self._latest: dict[str, Life] = {}  # of each reservation

    def follow(self, entry: JournalEntry | Stamped) -> None:
        """The next entry; raises Unapplicable as `net_effects` does."""
        effects, lives, latest = self._effects, self._lives, self._latest
        for event in entry.events:
            if type(event) is Held:  # isinstance asks msgspec's metaclass, twice as dear as all that follows
                life = _hold(effects, latest.get(event.reservation_id), entry, event)
                lives.append(life)
                latest[event.reservation_id] = life
            elif type(event) is Confirmed:
                _confirm(effects, _latest(lives, latest, event), entry, event)
            else:
                _follow_rare(effects, lives, latest, entry, event)

    def end(self) -> Effects:
        """Where all of it leads to; the last call."""
        for life in self._lives:
            _file(self._effects, life)
        _assert_one_live_reservation(self._effects)
        return self._effects


def _follow_rare(
    effects: Effects, lives: list[Life], latest: dict[str, Life], entry: JournalEntry | Stamped, event: AnyEvent
) -> None:
    """What is neither a hold nor a confirmation."""
    match event:
        case Ended():
            known = event.reservation_id in latest
            _end(effects, _latest(lives, latest, event), entry, event, known=known)
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
            pass  # a place that can be claimed again changes no row: nobody holds it
        case Unreadable():
            effects.unreadable.append(Stamped(epoch=entry.epoch, at_ms=entry.at_ms, events=(event,)))
        case Held() | Confirmed():
            raise AssertionError("handled before")
        case unknown:
            assert_never(unknown)


def _set_opening(effects: Effects, entry: JournalEntry | Stamped, event: OpeningSet) -> None:
    before = effects.openings.get(event.opening.id)
    if before is not None and before.retired_at_ms:
        raise Unapplicable("an opening of that name was retired in the same batch")  # one by one they fit
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
    # By position, which costs half of what names cost.
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


def _end(effects: Effects, life: Life, entry: JournalEntry | Stamped, event: Ended, *, known: bool) -> None:
    before = State.CONFIRMED if event.state in ENDED_BOOKING else State.HELD
    if event.state.live or (known and life.state is not before):
        raise Unapplicable(f"{event.state} while {life.state}")
    life.state, life.ended, life.ended_at_ms = event.state, event, entry.at_ms
    life.epoch, life.seq = entry.epoch, event.seq
    if event.state in ENDED_BOOKING:
        _change_of(effects, event.quota).booked_delta -= event.places


def _latest(lives: list[Life], latest: dict[str, Life], event: Confirmed | Ended) -> Life:
    """The reservation as the batch has left it so far; one that the batch has not touched must be in the tables."""
    life = latest.get(event.reservation_id)
    if life is None:
        life = latest[event.reservation_id] = Life(event.reservation_id, event.quota, event.places)
        lives.append(life)
    elif life.quota != event.quota or life.places != event.places:
        raise Unapplicable("quota or places differ from those that were held")
    return life


def _change_of(effects: Effects, quota: str) -> QuotaChange:
    change = effects.quotas.get(quota)
    if change is None:
        change = effects.quotas[quota] = QuotaChange()
    return change


def _file(effects: Effects, life: Life) -> None:
    """Put a reservation where the tables will be written from."""
    if life.held is not None:
        if life.confirmed is not None:
            effects.new_bookings.append(life)
        elif life.ended is None:
            effects.new_holds.append(life)
        # else held and ended without a confirmation: nothing remains
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
