"""The net effect of a run of events, computed in seq order before anything is written. Pure.

A batch may hold, confirm and cancel the same reservation, and end one reservation of a person before holding the next.
Each table is therefore written once, with where the batch leads to and not with every step on the way. What a
step contradicts within the batch itself raises `Unapplicable`; what contradicts the tables is found by `writes.py`.
"""

from collections.abc import Iterable
from typing import TypeAlias, assert_never

import msgspec

from reservasi.model import Confirmed, Ended, Held, QuotaSet, QuotaTerms, Returned, State

AnyEvent: TypeAlias = Held | Confirmed | Ended | Returned | QuotaSet


class Unapplicable(Exception):  # never leaves this package
    """An event does not fit what is recorded."""


class Stamped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event with what its entry says about it."""

    epoch: int
    at_ms: int
    event: AnyEvent


class Life(msgspec.Struct, kw_only=True, gc=False):
    """What a batch does to one reservation."""

    reservation_id: str
    quota: str
    places: int
    state: State = State.HELD  # where the batch leaves it
    held: Held | None = None  # None: the batch found it held or confirmed
    held_epoch: int = 0
    held_at_ms: int = 0
    confirmed: Confirmed | None = None
    confirmed_at_ms: int = 0
    ended: Ended | None = None
    ended_at_ms: int = 0
    epoch: int = 0  # of the last change
    seq: int = 0

    @property
    def returns_at_ms(self) -> int:
        """When the places of an ended reservation return."""
        return self.ended.returns_at_ms if self.ended is not None else 0


class QuotaChange(msgspec.Struct, kw_only=True):
    """What a batch does to one quota."""

    booked_delta: int = 0  # confirmed places gained or lost
    terms: QuotaTerms | None = None  # the last ones set
    version: int = 0


class Effects(msgspec.Struct, kw_only=True):
    """What a batch leads to, by table; lists hold each reservation at most once."""

    quotas: dict[str, QuotaChange] = msgspec.field(default_factory=dict)
    quotas_held: set[str] = msgspec.field(default_factory=set)  # must exist, though nothing about them changes
    new_holds: list[Life] = msgspec.field(default_factory=list)
    new_bookings: list[Life] = msgspec.field(default_factory=list)  # held and confirmed here
    moved: list[Life] = msgspec.field(default_factory=list)  # a recorded hold becomes a booking
    ended_holds: list[Life] = msgspec.field(default_factory=list)
    ended_bookings: list[Life] = msgspec.field(default_factory=list)
    ended_at_once: list[Life] = msgspec.field(
        default_factory=list
    )  # moved and cancelled here: their applicants end as well


def net_effects(events: Iterable[Stamped]) -> Effects:
    """Follow each reservation and quota through the events.

    Raises:
        Unapplicable: two events contradict each other.
    """
    effects = Effects()
    lives: dict[str, list[Life]] = {}
    for stamped in events:
        match stamped.event:
            case Held() as event:
                _hold(effects, lives, stamped, event)
            case Confirmed() as event:
                _confirm(effects, lives, stamped, event)
            case Ended() as event:
                _end(effects, lives, stamped, event)
            case QuotaSet() as event:
                change = effects.quotas.setdefault(event.quota, QuotaChange())
                change.terms, change.version = event.terms, event.version
            case Returned():
                pass  # a place that can be claimed again changes no row: nobody holds it
            case unknown:
                assert_never(unknown)
    for several in lives.values():
        for life in several:
            _file(effects, life)
    _assert_one_live_reservation(effects)
    return effects


def _hold(effects: Effects, lives: dict[str, list[Life]], stamped: Stamped, event: Held) -> None:
    several = lives.setdefault(event.reservation_id, [])
    if several and several[-1].state.live:
        raise Unapplicable("held twice")
    life = Life(
        reservation_id=event.reservation_id,
        quota=event.quota,
        places=event.places,
        held=event,
        held_epoch=stamped.epoch,
        held_at_ms=stamped.at_ms,
        epoch=stamped.epoch,
        seq=event.seq,
    )
    several.append(life)
    effects.quotas_held.add(event.quota)


def _confirm(effects: Effects, lives: dict[str, list[Life]], stamped: Stamped, event: Confirmed) -> None:
    life = _current(lives, event)
    if life.state is not State.HELD:
        raise Unapplicable(f"confirmed while {life.state}")
    life.state, life.confirmed, life.confirmed_at_ms = State.CONFIRMED, event, stamped.at_ms
    life.epoch, life.seq = stamped.epoch, event.seq
    effects.quotas.setdefault(event.quota, QuotaChange()).booked_delta += event.places


def _end(effects: Effects, lives: dict[str, list[Life]], stamped: Stamped, event: Ended) -> None:
    found_here = bool(lives.get(event.reservation_id))
    life = _current(lives, event)
    before = State.CONFIRMED if event.state is State.CANCELLED else State.HELD
    if event.state.live or (found_here and life.state is not before):
        raise Unapplicable(f"{event.state} while {life.state}")
    life.state, life.ended, life.ended_at_ms = event.state, event, stamped.at_ms
    life.epoch, life.seq = stamped.epoch, event.seq
    if event.state is State.CANCELLED:
        effects.quotas.setdefault(event.quota, QuotaChange()).booked_delta -= event.places


def _current(lives: dict[str, list[Life]], event: Confirmed | Ended) -> Life:
    """The reservation as the batch has left it so far; one that the batch has not touched must be in the tables."""
    several = lives.setdefault(event.reservation_id, [])
    if not several:
        several.append(Life(reservation_id=event.reservation_id, quota=event.quota, places=event.places))
    life = several[-1]
    if (life.quota, life.places) != (event.quota, event.places):
        raise Unapplicable("quota or places differ from those that were held")
    return life


def _file(effects: Effects, life: Life) -> None:
    """Put a reservation where the tables will be written from."""
    match (life.held is not None, life.confirmed is not None, life.ended is not None):
        case (True, False, False):
            effects.new_holds.append(life)
        case (True, True, _):
            effects.new_bookings.append(life)
        case (False, True, ended):
            effects.moved.append(life)
            if ended:
                effects.ended_at_once.append(life)
        case (False, False, True):
            cancelled = life.state is State.CANCELLED
            (effects.ended_bookings if cancelled else effects.ended_holds).append(life)
        case _:
            pass  # held and ended without a confirmation: nothing remains


def _assert_one_live_reservation(effects: Effects) -> None:
    seen: set[str] = set()
    for life in (*effects.new_holds, *effects.new_bookings):
        if life.held is None or not life.state.live:
            continue
        if not seen.isdisjoint(life.held.persons):
            raise Unapplicable("a person has two live reservations")
        seen.update(life.held.persons)
