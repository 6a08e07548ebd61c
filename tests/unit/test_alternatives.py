"""Alternatives to a sold-out quota, and that few of them are computed again."""

from unittest import mock

import pytest
from msgspec.structs import replace

from reservasi.availability import alternatives as module
from reservasi.availability.alternatives import Alternatives
from reservasi.model import Quota, QuotaCounts
from tests.ledgers import terms


def quota(
    start: str, *, office: str = "kanim", date: str = "2026-12-01", capacity: int = 5, opens_at_ms: int = 0
) -> Quota:
    of_slot = terms(
        capacity, office=office, service="baru", channel="online", date=date, start=start, opens_at_ms=opens_at_ms
    )
    day, hour = date.replace("-", ""), start.replace(":", "")
    return Quota(id=f"p.{office}.baru.{day}.{hour}.online", terms=of_slot, counts=QuotaCounts())


class Program:
    """Changes quotas as a view does."""

    def __init__(self, *quotas: Quota) -> None:
        self.quotas = {each.id: each for each in quotas}
        self.alternatives = Alternatives(self.quotas)
        self.now_ms = 100

    def near(self, refused: Quota, places: int = 1, limit: int = 5) -> list[Quota]:
        return [self.quotas[id_] for id_ in self.alternatives.near(refused, places, limit, self.now_ms).ids]

    def take(self, taken: Quota, places: int) -> None:
        before = self.quotas[taken.id]
        self.quotas[taken.id] = replace(before, counts=QuotaCounts(held=before.counts.held + places))
        self.alternatives.count(before, before.remaining - places)

    def change(self, quota_id: str, **terms: object) -> None:
        before = self.quotas[quota_id]
        after = self.quotas[quota_id] = replace(before, terms=replace(before.terms, **terms))
        self.alternatives.put(before, after)


FULL = quota("09:00", capacity=0)


def watched(method: str) -> "mock._patch[mock.MagicMock]":
    """Counts the calls of a method."""
    return mock.patch.object(Alternatives, method, autospec=True, side_effect=getattr(Alternatives, method))


def test_the_same_office_comes_first_and_then_the_nearest() -> None:
    far, near, day_after = quota("15:00"), quota("08:30"), quota("09:00", date="2026-12-02")
    elsewhere = quota("09:00", office="unit")
    program = Program(elsewhere, far, day_after, near, FULL)
    assert program.near(FULL, 1, 9) == [near, far, day_after, elsewhere]
    assert program.near(FULL, 1, 2) == [near, far]


def test_a_month_s_end_is_no_gap() -> None:
    before, after = quota("09:00", date="2026-12-31"), quota("09:00", date="2027-01-01")
    assert Program(before, after).near(quota("10:00", date="2027-01-01"), 1, 1) == [after]


def test_what_has_too_little_room_is_not_offered_nor_the_quota_itself() -> None:
    small, large = quota("08:00", capacity=2), quota("12:00", capacity=3)
    program = Program(small, large)
    assert program.near(FULL, 3) == [large]
    assert program.near(small, 2) == [large]


def test_an_answer_follows_each_change() -> None:
    first, second = quota("09:10"), quota("09:20")
    program = Program(first, second, FULL)
    assert program.near(FULL, 2, 1) == [first]
    program.take(first, 4)
    assert program.near(FULL, 2, 1) == [second]
    assert [each.remaining for each in program.near(FULL, 1, 1)] == [1]
    program.take(first, -4)
    assert program.near(FULL, 2, 1) == [first]


def test_an_answer_of_other_offices_follows_each_change() -> None:
    near, far = quota("09:00", office="unit"), quota("15:00", office="mpp")
    program = Program(near, far, FULL)
    assert program.near(FULL) == [near, far]
    program.take(near, 4)
    assert program.near(FULL) == [program.quotas[near.id], far], "as they are now"
    program.take(near, 1)
    assert program.near(FULL) == [far]
    here = quota("10:00")
    program.quotas[here.id] = here
    program.alternatives.put(None, here)
    assert program.near(FULL) == [here, far]


def test_the_clock_opens_quotas() -> None:
    later = quota("09:10", opens_at_ms=200)
    program = Program(later, FULL)
    assert program.near(FULL) == []
    assert program.alternatives.turn_ms == 200
    program.now_ms = 200
    assert program.near(FULL) == [later]
    program.now_ms = 199  # set back
    assert program.near(FULL) == []


def test_quotas_are_looked_through_once_for_as_many_places() -> None:
    """However many are sold out, whoever is refused, and whatever changes."""
    refused = [quota(f"{hour:02}:00", capacity=0) for hour in range(10)]
    offered = [quota("12:30", office=f"unit-{number}", capacity=9) for number in range(10)]
    program = Program(*refused, *offered)
    with watched("_build") as looks:
        for turn in range(20):
            program.take(offered[turn % 10], 1)
            for each in refused:
                for places in (1, 2):
                    assert len(program.near(each, places)) == 5
    assert [call.args[2] for call in looks.call_args_list] == [1, 2]


def test_what_changes_elsewhere_does_not_make_an_answer_anew() -> None:
    own, elsewhere = [quota(f"1{at}:00") for at in range(3)], quota("09:00", office="unit", capacity=1)
    program = Program(*own, elsewhere, FULL)
    with watched("_find") as searches:
        for change in (0, 1, -1):
            program.take(elsewhere, change)
            assert program.near(FULL, 1, 3) == own
        assert searches.call_count == 1
        program.take(own[0], 5)
        assert program.near(FULL, 1, 3) == [own[1], own[2], elsewhere]
        assert searches.call_count == 2


def test_a_change_that_moves_nothing_on_the_shelves_makes_no_answer_anew() -> None:
    own = [quota(f"1{at}:00", capacity=40) for at in range(3)]
    program = Program(*own, FULL)
    with watched("_find") as searches:
        for capacity in (41, 42):
            program.change(own[0].id, capacity=capacity)
            assert program.near(FULL, 1, 3) == list(program.quotas.values())[:3], "as they are now"
        assert searches.call_count == 1
        program.change(own[0].id, capacity=0)
        program.change(own[1].id, opens_at_ms=200)
        assert program.near(FULL, 1, 3) == [own[2]]
        program.now_ms = 200
        assert program.near(FULL, 1, 3) == [program.quotas[own[1].id], own[2]]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 3)
    refused = [quota(f"{hour:02}:00", capacity=0) for hour in range(10)]
    program = Program(*refused, quota("12:30"))
    for each in refused:
        assert len(program.near(each)) == 1
        assert all(len(shelf.found) <= 3 for shelf in program.alternatives._shelves.values())


def test_sold_out_quotas_of_offices_without_places_share_what_they_are_offered() -> None:
    program = Program(quota("08:00"), quota("10:00", office="unit", capacity=2))
    elsewhere = [quota("09:00", office=office, capacity=0) for office in ("mpp", "ulp", "lain")]
    with watched("_find") as searches:
        assert len({id(program.alternatives.near(each, 1, 5, program.now_ms)) for each in elsewhere}) == 1
        assert searches.call_count == 1
    assert program.near(elsewhere[0]) == list(program.quotas.values())
    full_here = quota("09:00", office="unit", capacity=0)
    assert program.near(full_here) == list(program.quotas.values())[::-1], "its own office first"


def test_an_offer_counts_the_changes_of_a_quota_that_moved_to_another_office() -> None:
    own, refused_elsewhere = quota("08:00"), quota("09:00", office="unit", capacity=0)
    program = Program(own, FULL)

    def offer(refused: Quota) -> module.Offer:
        return program.alternatives.near(refused, 1, 1, program.now_ms)

    of_own_office = offer(FULL)
    program.change(own.id, office="mpp")
    later = offer(refused_elsewhere)
    assert later.ids == of_own_office.ids
    before = later.contents.changes
    program.take(program.quotas[own.id], 1)
    assert later.contents.changes > before
