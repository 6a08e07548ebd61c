"""The plan of an import: the file compared with the ledger's quotas, and changes by hand."""

import datetime as dt
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from loadtest.stage.program import open_terms
from reservasi.model import NOT_KNOWN, Opening, OpeningTerms, Quota, QuotaCounts, QuotaTerms
from reservasi.programs import Program, expansion
from reservasi.programs.comparison import Plan, Why, by_hand, compare, in_the_way, is_overlapping
from reservasi.programs.expansion import expand

MONDAY = dt.date(2026, 11, 30)
TUESDAY = dt.date(2026, 12, 1)
NOW_MS = int(dt.datetime(2026, 11, 20, tzinfo=dt.UTC).timestamp() * 1000)
FRIDAY_MS = int(dt.datetime(2026, 11, 27, 7, tzinfo=dt.UTC).timestamp() * 1000)  # 14:00 WIB, for the week of MONDAY
HOURS = {"open": "08:00", "close": "12:00"}


def share(**changes: Any) -> dict[str, Any]:
    return {"service": "baru", "channel": "online", "per_day": 40, **changes}


def office(**changes: Any) -> dict[str, Any]:
    fields = {
        "id": "kanim",
        "name": {"id": "Kantor", "en": "Office"},
        "address": "Jl. Satu 1",
        "kind": "kanim",
        "slot_minutes": 60,
        "services": ["baru"],
        "hours": {"mon": HOURS, "tue": HOURS},
        "quotas": [share()],
    }
    return fields | changes


def program(**changes: Any) -> Program:
    """One office with 40 places a day in four windows of an hour."""
    text = {"id": "teks", "en": "text"}
    fields: dict[str, Any] = {
        "id": "desa",
        "name": text,
        "timezone": "Asia/Jakarta",
        "policies": {"hold_s": 7200, "return_delay_min_s": 0, "return_delay_max_s": 0, "applicants_max": 5},
        "opening": {"rule": "weekly", "weekday": "fri", "time": "14:00"},
        "holidays": {"country": "ID"},
        "services": [{"id": "baru", "name": text}],
        "channels": [{"id": "online", "name": text, "public": True}],
        "offices": [office()],
    }
    return msgspec.convert(fields | changes, Program)


def imported(of: Program, last: dt.date = MONDAY, **counts: QuotaCounts) -> list[Quota]:
    """The quotas as a first import leaves them; `counts` by start, such as `at0800`."""
    return [
        Quota(
            id=each.quota, terms=each.terms, counts=counts.get(f"at{each.terms.start.replace(':', '')}", QuotaCounts())
        )
        for each in expand(of, MONDAY, last)
        if each.terms is not None
    ]


def plan(
    of: Program,
    existing: Iterable[Quota],
    last: dt.date = MONDAY,
    openings: Iterable[Opening] = (),
    now_ms: int = NOW_MS,
) -> Plan:
    return compare(of, expand(of, MONDAY, last), existing, openings, now_ms)


def changed_by(quota: Quota, actor: str, **terms: Any) -> Quota:
    """The quota after one more change, as the ledger remembers it."""
    names = ("capacity", "opens_at_ms", "closes_at_ms", "closed")
    before = [int(getattr(quota.terms, name)) for name in names]
    remembered = list(quota.imported or before)
    if actor == "import":
        remembered = [int(terms.get(name, kept)) for name, kept in zip(names, remembered, strict=True)]
    counts = msgspec.structs.replace(quota.counts, version=quota.counts.version + 1)
    after = msgspec.structs.replace(quota.terms, **terms)
    return Quota(id=quota.id, terms=after, counts=counts, imported=tuple(remembered))


def opening(opens_at_ms: int = FRIDAY_MS, arrived: int = 0) -> Opening:
    terms = OpeningTerms(
        opens_at_ms=opens_at_ms,
        joins_from_ms=0,
        ends_at_ms=opens_at_ms + 3_600_000,
        waiting_room=True,
        proof_of_work=False,
        rate_per_min=600,
        rate_max_per_min=600,
        adaptive=False,
        commitment="c",
        sealed_seed="s",
    )
    return Opening(id="desa-1", terms=terms, arrived=arrived)


def after(result: Plan, existing: Iterable[Quota]) -> list[Quota]:
    """The quotas once the plan has been carried out."""
    quotas = {quota.id: quota for quota in existing}
    for each in result.closing:
        quotas[each.quota.id] = changed_by(each.quota, "import", closed=True)
    for change in result.changed:
        terms = {name: getattr(change.terms, name) for name in QuotaTerms.__struct_fields__}
        differing = {name: value for name, value in terms.items() if value != getattr(change.quota.terms, name)}
        quotas[change.quota.id] = changed_by(change.quota, "import", **differing)
    for new in result.new:
        assert new.terms is not None
        quotas[new.quota] = Quota(id=new.quota, terms=new.terms, counts=QuotaCounts())
    return list(quotas.values())


def open_windows(quotas: Iterable[Quota]) -> list[tuple[str, str, int]]:
    alive = [quota for quota in quotas if not quota.terms.closed]
    for quota in alive:
        assert not any(is_overlapping(quota, other) for other in alive)
    return sorted((quota.terms.start, quota.terms.end, quota.terms.capacity) for quota in alive)


def closed_by_staff(quotas: Iterable[Quota], *starts: str) -> list[Quota]:
    return [changed_by(each, "staff", closed=True) if each.terms.start in starts else each for each in quotas]


SHORTER = [office(slot_minutes=30)]
BOTH = [share(), share(service="ganti")]
SERVICES = [{"id": "baru", "name": {"id": "t", "en": "t"}}, {"id": "ganti", "name": {"id": "t", "en": "t"}}]


def test_a_window_that_staff_closed_stays_closed_with_other_slot_lengths() -> None:
    existing = closed_by_staff(imported(program()), "09:00")
    result = plan(program(offices=SHORTER), existing)
    assert {each.terms.start for each in result.new_closed if each.terms} == {"09:30"}
    quotas = after(result, existing)
    assert not [each for each in open_windows(quotas) if "09:00" <= each[0] < "10:00"]
    again = plan(program(offices=SHORTER), quotas)
    assert not again.new
    assert not again.changed
    assert {each.quota.terms.start for each in again.kept} == {"09:00", "09:30"}
    reopened = [changed_by(each, "staff", closed=False) if each.terms.start == "09:30" else each for each in quotas]
    assert not plan(program(offices=SHORTER), reopened).changed


@pytest.mark.parametrize(
    "changes", [{"offices": SHORTER}, {"offices": [office(services=["baru", "ganti"], quotas=BOTH)]}]
)
def test_a_day_that_staff_closed_stays_closed(changes: dict[str, Any]) -> None:
    existing = closed_by_staff(imported(program()), "08:00", "09:00", "10:00", "11:00")
    changed = program(services=SERVICES, **changes)
    result = plan(changed, existing, last=TUESDAY)
    new = [each.terms for each in result.new if each.terms]
    assert {terms.date for terms in new if terms.closed} == {MONDAY.isoformat()}
    assert {terms.date for terms in new if not terms.closed} == {TUESDAY.isoformat()}
    assert result.says_more
    again = plan(changed, after(result, existing), last=TUESDAY)
    assert (again.new, again.changed, again.closing) == ((), (), [])


def test_what_an_import_closed_closes_no_new_window() -> None:
    existing = imported(program())
    narrow = program(offices=[office(hours={"mon": {"open": "08:00", "close": "10:00"}, "tue": HOURS})])
    closed = after(plan(narrow, existing), existing)
    assert not plan(program(offices=SHORTER), closed).new_closed


def test_the_same_file_again_changes_nothing() -> None:
    result = plan(program(), imported(program()))
    assert (result.new, result.changed, result.kept, result.outside, result.unchanged) == ((), (), (), (), 4)
    assert result.only_adds
    assert not result.says_more


def test_later_dates_are_new() -> None:
    result = plan(program(), imported(program()), last=TUESDAY)
    assert (len(result.new), result.unchanged, result.total) == (4, 4, 8)
    assert result.only_adds


@pytest.mark.parametrize(("before", "behind"), [(60, 30), (30, 60), (60, 40), (40, 60), (30, 80), (120, 15)])
def test_another_slot_length_keeps_the_places_and_leaves_no_overlap(before: int, behind: int) -> None:
    existing = imported(program(offices=[office(slot_minutes=before)]))
    wanted = program(offices=[office(slot_minutes=behind)])
    result = plan(wanted, existing)
    assert not result.only_adds
    quotas = after(result, existing)
    assert open_windows(quotas) == open_windows(imported(wanted))
    assert sum(capacity for _, _, capacity in open_windows(quotas)) == 40
    again = plan(wanted, quotas)
    assert (again.new, again.changed, again.kept, again.closing) == ((), (), (), [])
    back = plan(program(offices=[office(slot_minutes=before)]), quotas)
    assert open_windows(after(back, quotas)) == open_windows(existing)


def test_people_in_a_window_that_moves_are_known() -> None:
    existing = imported(program(), at0800=QuotaCounts(confirmed=7), at0900=QuotaCounts(held=1))
    result = plan(program(offices=[office(slot_minutes=30)]), existing)
    first = next(each for each in result.changed if each.quota.terms.start == "08:00")
    assert first.moves_window
    assert (first.terms.end, first.terms.capacity, first.capacity_wanted) == ("08:30", 7, 5)


@pytest.mark.parametrize(
    ("changes", "why", "outside"),
    [
        ({"holidays": {"country": "ID", "closed_dates": ["2026-11-30"]}}, Why.DATE, 4),
        ({"offices": [office(id="ulp")]}, Why.OFFICE, 4),
        ({"offices": [office(quotas=[share(channel="priority")])]}, Why.NOT_OFFERED, 4),
        ({"offices": [office(hours={"tue": HOURS})]}, Why.DATE, 4),
        ({"offices": [office(hours={"mon": {"open": "08:00", "close": "10:00"}})]}, Why.WINDOW, 2),
        ({"offices": [office(quotas=[share(per_day=3)])]}, Why.WINDOW, 1),  # a window without a place is none
        ({"offices": [office(slot_minutes=120)]}, Why.WINDOW, 2),
    ],
)
def test_what_the_file_does_not_have_is_outside(changes: dict[str, Any], why: Why, outside: int) -> None:
    existing = imported(program(), at1100=QuotaCounts(held=1, confirmed=2))
    result = plan(program(**changes), existing)
    assert [each.why for each in result.outside] == [why] * outside
    assert sum(each.people for each in result.outside) == 3
    assert len(result.closing) == outside
    quotas = after(result, existing)
    open_windows(quotas)
    assert plan(program(**changes), quotas).only_adds, "closed once, people or not"


def test_fewer_places_are_taken_back_as_far_as_they_are_free() -> None:
    existing = imported(program(), at0800=QuotaCounts(confirmed=8, held=1), at0900=QuotaCounts(returning=6))
    wanted = program(offices=[office(quotas=[share(per_day=20)])])
    quotas = after(plan(wanted, existing), existing)
    assert [capacity for _, _, capacity in open_windows(quotas)] == [9, 6, 5, 5]
    assert plan(wanted, quotas).changed == ()
    freed = [msgspec.structs.replace(quota, counts=QuotaCounts(confirmed=5, version=2)) for quota in quotas]
    assert [capacity for _, _, capacity in open_windows(after(plan(wanted, freed), freed))] == [5, 5, 5, 5]


def test_more_places_and_other_policies_follow_the_file() -> None:
    policies = {"hold_s": 3600, "return_delay_min_s": 1, "return_delay_max_s": 2, "applicants_max": 5}
    wanted = program(offices=[office(quotas=[share(per_day=80)])], policies=policies)
    result = plan(wanted, imported(program()))
    assert [each.terms for each in result.changed] == [each.terms for each in imported(wanted)]
    assert {change.term for each in result.changed for change in each.changes} == {
        "capacity",
        "hold_ms",
        "return_min_ms",
        "return_max_ms",
    }


@pytest.mark.parametrize(
    "by_staff",
    [{"capacity": 77}, {"closed": True}, {"closes_at_ms": NOW_MS + 1000}, {"opens_at_ms": NOW_MS + 5000}],
    ids=lambda terms: next(iter(terms)),
)
def test_what_staff_changed_is_kept_and_the_rest_follows_the_file(by_staff: dict[str, Any]) -> None:
    first, *rest = imported(program())
    existing = [changed_by(first, "staff:ani", **by_staff), *rest]
    result = plan(program(), existing)
    assert result.only_adds
    assert [(each.quota.id, each.terms[0].term) for each in result.kept] == [(first.id, next(iter(by_staff)))]
    policies = {"hold_s": 60, "return_delay_min_s": 0, "return_delay_max_s": 0, "applicants_max": 5}
    wanted = program(offices=[office(quotas=[share(per_day=20)])], policies=policies)
    quotas = {quota.id: quota for quota in after(plan(wanted, existing), existing)}
    mine = quotas[first.id].terms
    assert {name: getattr(mine, name) for name in by_staff} == by_staff
    assert mine.hold_ms == 60_000
    assert mine.capacity == by_staff.get("capacity", 5)
    again = plan(wanted, quotas.values())
    assert (again.changed, len(again.kept)) == ((), 1), "still staff's own, after imports"


def test_what_an_import_closed_it_opens_again_and_what_staff_closed_stays_closed() -> None:
    closed = program(holidays={"country": "ID", "closed_dates": ["2026-11-30"]})
    first, *rest = imported(program())
    existing = [changed_by(first, "staff:ani", closed=True), *rest]
    quotas = after(plan(closed, existing), existing)
    assert all(quota.terms.closed for quota in quotas)
    result = plan(program(), quotas)
    assert [each.quota.id for each in result.kept] == [first.id]
    assert {quota.id for quota in after(result, quotas) if quota.terms.closed} == {first.id}


def test_what_staff_opened_again_outside_the_file_stays_open_unless_it_is_in_the_way() -> None:
    shorter = program(offices=[office(hours={"mon": {"open": "08:00", "close": "10:00"}})])
    existing = imported(program())
    quotas = after(plan(shorter, existing), existing)
    quotas = [changed_by(quota, "staff:ani", closed=False) if quota.terms.closed else quota for quota in quotas]
    result = plan(shorter, quotas)
    assert result.only_adds
    assert [each.by_hand for each in result.outside] == [True, True]
    assert [each.closes for each in plan(program(offices=[office(slot_minutes=240)]), quotas).outside] == [True] * 3


def test_a_quota_changed_by_hand_is_closed_where_it_lies_outside() -> None:
    """Otherwise it would overlap, or sell for an office that is gone; its terms stay."""
    existing = [changed_by(quota, "staff:ani", capacity=77) for quota in imported(program())]
    result = plan(program(offices=[office(slot_minutes=120)]), existing)
    assert len(result.closing) == 2
    assert {quota.terms.capacity for quota in after(result, existing)} == {77}


@pytest.mark.parametrize(
    ("version", "remembered", "expected"),
    [
        (1, (), False),
        (2, (), True),
        (2, (10, 0, 0, 0), False),
        (2, (9, 0, 0, 0), True),
        (3, (NOT_KNOWN, 0, 0, 0), True),
    ],
)
def test_by_hand_is_what_an_import_did_not_set(version: int, remembered: tuple[int, ...], *, expected: bool) -> None:
    quota = Quota(id="q", terms=open_terms(), counts=QuotaCounts(version=version), imported=remembered)
    assert by_hand(quota, "capacity") is expected


def test_quotas_of_an_opening_stay_with_it_and_it_is_named() -> None:
    moved_ms = FRIDAY_MS + 3_600_000
    existing = [changed_by(quota, "staff:ani", opens_at_ms=moved_ms) for quota in imported(program())]
    result = plan(program(), existing, openings=[opening(moved_ms, arrived=3)])
    assert (result.changed, result.kept, result.unchanged) == ((), (), 4)
    (affected,) = result.openings
    assert (affected.opening.arrived, affected.quotas, affected.elsewhere, affected.moments_ms) == (
        3,
        4,
        4,
        (FRIDAY_MS,),
    )


def test_another_moment_in_the_file_moves_no_opening() -> None:
    later = program(opening={"rule": "weekly", "weekday": "fri", "time": "15:00"})
    with_one = plan(later, imported(program()), openings=[opening()])
    assert (with_one.changed, with_one.openings[0].elsewhere) == ((), 4)
    assert with_one.only_adds
    without = plan(later, imported(program()))
    assert {each.terms.opens_at_ms for each in without.changed} == {FRIDAY_MS + 3_600_000}


def test_a_cancelled_opening_keeps_the_quotas_that_closed_with_it_and_no_others() -> None:
    later = program(opening={"rule": "weekly", "weekday": "fri", "time": "15:00"})
    closed, *others = imported(program())
    cancelled = msgspec.structs.replace(opening(), cancelled=True)
    result = plan(later, [changed_by(closed, "staff:ani", closed=True), *others], openings=[cancelled])
    assert [(each.quota.id, each.terms[0].term) for each in result.kept] == [(closed.id, "closed")]
    assert [each.quota.id for each in result.changed] == [each.id for each in others]
    assert [(each.quotas, each.elsewhere) for each in result.openings] == [(1, 1)]


def test_a_paused_opening_keeps_its_quotas_beyond_its_end() -> None:
    later = program(opening={"rule": "weekly", "weekday": "mon", "time": "14:00", "weeks_ahead": 1})
    behind_ms = FRIDAY_MS + 3_600_001
    wanted = expand(later, MONDAY, MONDAY)
    assert all(each.terms is not None and each.terms.opens_at_ms < FRIDAY_MS for each in wanted)
    sooner = [
        msgspec.structs.replace(
            each, terms=each.terms and msgspec.structs.replace(each.terms, opens_at_ms=behind_ms + 1)
        )
        for each in wanted
    ]
    for paused, named in ((True, 1), (False, 0)):
        of = msgspec.structs.replace(opening(), paused=paused)
        result = compare(later, sooner, imported(program()), [of], behind_ms)
        assert (len(result.openings), len(result.changed)) == (named, 0 if paused else 4)


def test_an_opening_whose_quotas_the_file_does_not_have_is_named() -> None:
    gone = plan(program(offices=[office(id="ulp")]), imported(program()), openings=[opening(arrived=2)])
    assert [(each.outside, each.opening.arrived) for each in gone.openings] == [(4, 2)]


def test_an_opening_that_has_passed_is_as_good_as_another_one() -> None:
    existing = imported(program())
    result = compare(program(), expand(program(), MONDAY, MONDAY, open_now=True), existing, [], FRIDAY_MS + 1)
    assert (result.changed, result.kept) == ((), ())


def test_windows_that_are_over_are_left_alone() -> None:
    half_past_nine_ms = int(dt.datetime(2026, 11, 30, 2, 30, tzinfo=dt.UTC).timestamp() * 1000)
    existing = imported(program(), at0800=QuotaCounts(confirmed=3), at0900=QuotaCounts(confirmed=2))
    result = plan(program(offices=[office(id="ulp")]), existing, now_ms=half_past_nine_ms)
    assert [(each.quota.terms.start, each.people, each.closes) for each in result.outside] == [
        ("09:00", 2, False),  # nobody can claim it any more
        ("10:00", 0, True),
        ("11:00", 0, True),
    ]
    assert result.over == 1


def test_windows_of_the_file_that_are_over_are_not_created() -> None:
    nine_ms = int(dt.datetime(2026, 11, 30, 2, tzinfo=dt.UTC).timestamp() * 1000)
    result = plan(program(), [], now_ms=nine_ms)
    assert [each.terms.start for each in result.new if each.terms] == ["09:00", "10:00", "11:00"]
    assert (result.past, result.total) == (1, 4)
    again = plan(program(), after(result, []), now_ms=nine_ms + 1)
    assert (again.new, again.past, again.unchanged) == ((), 1, 3)
    retired = plan(program(), [], now_ms=nine_ms + 10**9)
    assert (retired.new, retired.past) == ((), 4)


def test_windows_end_at_midnight() -> None:
    late = office(hours={"mon": {"open": "22:00", "close": "24:00"}})
    existing = imported(program(offices=[late]))
    result = plan(program(offices=[late | {"slot_minutes": 120}]), existing)
    assert open_windows(after(result, existing)) == [("22:00", "24:00", 40)]


def test_only_open_windows_of_the_same_line_and_date_overlap() -> None:
    def quota(name: str, **terms: Any) -> Quota:
        return Quota(id=name, terms=open_terms(**terms), counts=QuotaCounts())

    one = quota("one", start="08:00", end="09:00")
    apart = [
        quota("before", start="07:00", end="08:00"),
        quota("behind", start="09:00", end="24:00"),
        quota("closed", start="08:00", end="09:00", closed=True),
        quota("elsewhere", start="08:00", end="09:00", office="ulp"),
        quota("another service", start="08:00", end="09:00", service="lama"),
        quota("another channel", start="08:00", end="09:00", channel="walk-in"),
        quota("another day", start="08:00", end="09:00", date="2026-12-02"),
        one,
    ]
    assert not any(is_overlapping(one, other) for other in apart)
    for start, end in (("08:30", "08:45"), ("07:00", "08:01"), ("08:59", "24:00"), ("08:00", "09:00")):
        other = quota("other", start=start, end=end)
        assert is_overlapping(one, other)


def test_what_keeps_a_quota_from_being_opened_again() -> None:
    hour, *_ = imported(program())
    half = Quota(
        id="half", terms=msgspec.structs.replace(hour.terms, end="08:30", closed=True), counts=QuotaCounts(version=2)
    )
    assert in_the_way(program(), half, [half, hour]) is hour
    assert in_the_way(program(offices=SHORTER), half, [half, hour]) is hour, "the file's, beside one that is not"
    longer = program(offices=[office(slot_minutes=120)])
    assert in_the_way(longer, half, [half, hour]) is None, "neither is the file's, and no import closed it"
    by_import = msgspec.structs.replace(half, imported=(5, 0, 0, 1))
    assert in_the_way(longer, by_import, [half, hour]) is hour
    assert in_the_way(longer, by_import, [half, changed_by(hour, "staff:ani", closed=True)]) is None


def test_expanding_some_dates_is_expanding_a_range() -> None:
    assert expansion.expand_dates(program(), [MONDAY, TUESDAY]) == expand(program(), MONDAY, TUESDAY)
