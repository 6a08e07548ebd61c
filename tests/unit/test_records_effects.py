"""The net effect of a batch: contradictions are refused before anything is written."""

import pytest

from reservasi.events import AnyEvent, Confirmed, Ended, Held
from reservasi.model import State
from reservasi.records.effects import Stamped, Unapplicable, net_effects


def stamped(*events: AnyEvent) -> list[Stamped]:
    return [Stamped(epoch=1, at_ms=1000 + event.seq, events=(event,)) for event in events]


def held(seq: int, reservation_id: str = "r1", *persons: str) -> Held:
    return Held(
        seq=seq,
        reservation_id=reservation_id,
        quota="q",
        deadline_ms=1,
        fingerprint="",
        sealed="",
        persons=persons or ("ani",),
    )


def confirmed(seq: int, places: int = 1) -> Confirmed:
    return Confirmed(seq=seq, reservation_id="r1", quota="q", places=places, payment_reference="")


def ended(seq: int, state: State) -> Ended:
    return Ended(seq=seq, state=state, reservation_id="r1", quota="q", places=1, returns_at_ms=0)


@pytest.mark.parametrize(
    "events",
    [
        (held(1), held(2)),
        (held(1), confirmed(2), confirmed(3)),
        (confirmed(1), confirmed(2)),
        (held(1), confirmed(2, places=2)),
        (held(1), ended(2, State.CANCELLED)),
        (held(1), confirmed(2), ended(3, State.EXPIRED)),
        (ended(1, State.EXPIRED), confirmed(2)),
        (ended(1, State.EXPIRED), ended(2, State.RELEASED)),
        (ended(1, State.HELD),),
        (held(1), held(2, "r2")),
    ],
)
def test_a_contradiction_is_refused(events: tuple[AnyEvent, ...]) -> None:
    with pytest.raises(Unapplicable):
        net_effects(stamped(*events))


def test_a_life_that_begins_and_ends_here_leaves_nothing() -> None:
    effects = net_effects(stamped(held(1), ended(2, State.EXPIRED)))
    assert (effects.new_holds, effects.new_bookings, effects.ended_holds) == ([], [], [])
    assert effects.quotas == {}
    assert effects.quotas_held == {"q"}


def test_a_person_may_hold_again_after_the_end() -> None:
    effects = net_effects(stamped(held(1), ended(2, State.RELEASED), held(3)))
    (life,) = effects.new_holds
    assert (life.seq, life.held_at_ms) == (3, 1003)


def test_confirmed_places_are_counted_as_a_net_change() -> None:
    effects = net_effects(stamped(held(1), confirmed(2), ended(3, State.CANCELLED)))
    assert effects.quotas["q"].booked_delta == 0
    (life,) = effects.new_bookings
    assert (life.state, life.confirmed_at_ms, life.ended_at_ms) == (State.CANCELLED, 1002, 1003)

    effects = net_effects(stamped(held(1), confirmed(2)))
    assert effects.quotas["q"].booked_delta == 1
