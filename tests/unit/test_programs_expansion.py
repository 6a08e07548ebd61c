"""A program is expanded into exactly the slots and quotas of its file."""

import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reservasi import model, programs
from reservasi.errors import ConfigurationError
from reservasi.programs import expansion, files, openings

FILES = Path(__file__).parents[2] / "config/programs"
MONDAY = dt.date(2026, 11, 30)  # a week without holidays
SUNDAY = dt.date(2026, 12, 6)
WEEKDAYS = {"open": "08:00", "close": "15:00", "break_start": "12:00", "break_end": "13:00"}
FRIDAY = WEEKDAYS | {"break_start": "11:00"}


def shipped(name: str) -> programs.Program:
    return files.read_program(FILES / f"{name}.toml")


def program(**changes: Any) -> programs.Program:
    """A small program: one office, one service, one channel, 20 a day in windows of an hour."""
    text = {"id": "teks", "en": "text"}
    fields: dict[str, Any] = {
        "id": "desa",
        "name": text,
        "timezone": "Asia/Jakarta",
        "policies": {"hold_s": 7200, "return_delay_min_s": 300, "return_delay_max_s": 3600, "applicants_max": 5},
        "opening": {"rule": "weekly", "weekday": "fri", "time": "14:00"},
        "holidays": {"country": "ID"},
        "services": [{"id": "baru", "name": text}],
        "channels": [{"id": "online", "name": text, "public": True}],
        "offices": [office()],
    }
    return msgspec.convert(fields | changes, programs.Program)


def office(**changes: Any) -> dict[str, Any]:
    fields = {
        "id": "kanim",
        "name": {"id": "Kantor", "en": "Office"},
        "address": "Jl. Satu 1",
        "kind": "kanim",
        "slot_minutes": 60,
        "services": ["baru"],
        "hours": {"mon": WEEKDAYS, "tue": WEEKDAYS, "wed": WEEKDAYS, "thu": WEEKDAYS, "fri": FRIDAY},
        "quotas": [{"service": "baru", "channel": "online", "per_day": 20}],
    }
    return fields | changes


def terms(quotas: list[model.SetQuota]) -> list[model.QuotaTerms]:
    results = [quota.terms for quota in quotas]
    assert None not in results
    return [one for one in results if one is not None]


def on(day: dt.date, **changes: Any) -> list[model.QuotaTerms]:
    return terms(expansion.expand(program(**changes), day, day))


def dates(first: dt.date, last: dt.date, **changes: Any) -> list[str]:
    return sorted({one.date for one in terms(expansion.expand(program(**changes), first, last))})


def opening(day: dt.date, rule: dict[str, Any], **changes: Any) -> str:
    """When the quotas of a date open, in UTC."""
    (at_ms,) = {one.opens_at_ms for one in on(day, opening=rule, **changes)}
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M")


def test_one_day_whole() -> None:
    quotas = expansion.expand(program(), MONDAY, MONDAY)
    assert [quota.quota for quota in quotas] == [
        f"desa.kanim.baru.20261130.{start}.online" for start in ("0800", "0900", "1000", "1100", "1300", "1400")
    ]
    assert [one.capacity for one in terms(quotas)] == [4, 4, 3, 3, 3, 3]
    assert all(quota.version == 0 and quota.capacity is None for quota in quotas)
    midnight_ms = int(dt.datetime(2026, 11, 29, 17, tzinfo=dt.UTC).timestamp()) * 1000  # WIB is UTC+7
    assert quotas[0].terms == model.QuotaTerms(
        capacity=4,
        opens_at_ms=int(dt.datetime(2026, 11, 27, 7, tzinfo=dt.UTC).timestamp()) * 1000,
        closes_at_ms=midnight_ms + 8 * 3_600_000,
        cancel_until_ms=midnight_ms + 8 * 3_600_000,  # none is set: until the window begins
        hold_ms=7_200_000,
        return_min_ms=300_000,
        return_max_ms=3_600_000,
        closed=False,
        office="kanim",
        service="baru",
        channel="online",
        date="2026-11-30",
        start="08:00",
        end="09:00",
    )


def test_the_break_on_fridays_is_longer() -> None:
    assert [one.start for one in on(dt.date(2026, 12, 4))] == ["08:00", "09:00", "10:00", "13:00", "14:00"]
    assert [one.capacity for one in on(dt.date(2026, 12, 4))] == [4, 4, 4, 4, 4]


def test_without_a_break() -> None:
    hours = {"mon": {"open": "08:00", "close": "11:00"}}
    assert [one.start for one in on(MONDAY, offices=[office(hours=hours)])] == ["08:00", "09:00", "10:00"]


def test_a_day_may_end_at_midnight() -> None:
    hours = {"open": "22:00", "close": "24:00"}
    quotas = on(MONDAY, offices=[office(hours={"mon": hours})])
    assert [(one.start, one.end, one.capacity) for one in quotas] == [("22:00", "23:00", 10), ("23:00", "24:00", 10)]
    share = {"service": "baru", "channel": "online", "per_day": 20, "start": "23:00", "end": "24:00"}
    assert [(one.start, one.end) for one in on(MONDAY, offices=[office(hours={"mon": hours}, quotas=[share])])] == [
        ("23:00", "24:00")
    ]
    rest = {"open": "20:00", "close": "24:00", "break_start": "23:00", "break_end": "24:00"}
    assert [one.end for one in on(MONDAY, offices=[office(hours={"mon": rest})])] == ["21:00", "22:00", "23:00"]


@pytest.mark.parametrize(
    ("time", "expected"), [("00:00", "2026-11-29 17:00"), ("23:59", "2026-11-30 16:59"), ("24:00", "2026-11-30 17:00")]
)
def test_an_end_of_24_00_is_the_next_days_midnight(time: str, expected: str) -> None:
    at = openings.instant(MONDAY, time, ZoneInfo("Asia/Jakarta")).astimezone(dt.UTC)
    assert at.strftime("%Y-%m-%d %H:%M") == expected


def test_policies_become_moments() -> None:
    policies = {
        "hold_s": 60,
        "return_delay_min_s": 0,
        "return_delay_max_s": 0,
        "applicants_max": 1,
        "closes_before_min": 90,
        "cancel_until": {"days_before": 1, "time": "23:59"},
    }
    first = on(MONDAY, policies=policies)[0]
    slot = dt.datetime(2026, 11, 30, 1, tzinfo=dt.UTC)  # 08:00 WIB
    assert first.closes_at_ms == int((slot - dt.timedelta(minutes=90)).timestamp()) * 1000
    assert first.cancel_until_ms == int(dt.datetime(2026, 11, 29, 16, 59, tzinfo=dt.UTC).timestamp()) * 1000
    assert (first.hold_ms, first.return_min_ms, first.return_max_ms) == (60_000, 0, 0)


def test_nobody_cancels_a_slot_that_has_begun() -> None:
    policies = {
        "hold_s": 60,
        "return_delay_min_s": 0,
        "return_delay_max_s": 0,
        "applicants_max": 1,
        "cancel_until": {"days_before": 0, "time": "10:00"},
    }
    minutes = {one.start: (one.cancel_until_ms - one.closes_at_ms) // 60_000 for one in on(MONDAY, policies=policies)}
    assert minutes["08:00"] == 0
    assert minutes["10:00"] == 0
    assert minutes["11:00"] == -60


def test_a_share_may_keep_narrower_hours_and_other_windows() -> None:
    shares = [
        {"service": "baru", "channel": "online", "per_slot": 2, "start": "09:00", "end": "10:30", "slot_minutes": 30}
    ]
    windows = on(MONDAY, offices=[office(quotas=shares)])
    assert [(one.start, one.end, one.capacity) for one in windows] == [
        ("09:00", "09:30", 2),
        ("09:30", "10:00", 2),
        ("10:00", "10:30", 2),
    ]


@pytest.mark.parametrize(("per_day", "capacities"), [(0, []), (2, [1, 1]), (6, [1] * 6), (7, [2, 1, 1, 1, 1, 1])])
def test_a_window_without_a_place_has_no_quota(per_day: int, capacities: list[int]) -> None:
    shares = [{"service": "baru", "channel": "online", "per_day": per_day}]
    assert [one.capacity for one in on(MONDAY, offices=[office(quotas=shares)])] == capacities


def test_weekends_holidays_and_collective_leave_are_closed() -> None:
    # 24 December 2026 is collective leave, the 25th a national holiday, 26 and 27 a weekend.
    assert dates(dt.date(2026, 12, 23), dt.date(2026, 12, 28)) == ["2026-12-23", "2026-12-28"]


def test_without_collective_leave() -> None:
    days = dates(dt.date(2026, 12, 23), dt.date(2026, 12, 28), holidays={"country": "ID", "categories": ["public"]})
    assert days == ["2026-12-23", "2026-12-24", "2026-12-28"]


def test_the_files_own_dates_win() -> None:
    holidays = {
        "country": "ID",
        "closed_dates": [dt.date(2026, 12, 23)],
        "extra_dates": [
            {"date": dt.date(2026, 12, 25), "hours_of": "fri"},
            {"date": dt.date(2026, 12, 26), "hours_of": "mon"},
            {"date": dt.date(2026, 12, 27), "hours_of": "sun"},  # no office has hours on Sundays
        ],
    }
    assert dates(dt.date(2026, 12, 23), dt.date(2026, 12, 28), holidays=holidays) == [
        "2026-12-25",
        "2026-12-26",
        "2026-12-28",
    ]
    assert len(on(dt.date(2026, 12, 25), holidays=holidays)) == 5
    assert len(on(dt.date(2026, 12, 26), holidays=holidays)) == 6


@pytest.mark.parametrize(
    ("day", "rule", "expected"),
    [
        # 14:00 WIB is 07:00 UTC; the whole week has one opening, on the Friday before it
        (MONDAY, {"rule": "weekly", "weekday": "fri", "time": "14:00"}, "2026-11-27 07:00"),
        (dt.date(2026, 12, 4), {"rule": "weekly", "weekday": "fri", "time": "14:00"}, "2026-11-27 07:00"),
        (MONDAY, {"rule": "weekly", "weekday": "mon", "time": "06:00", "weeks_ahead": 2}, "2026-11-15 23:00"),
        # twice a month, covering from the day after
        (dt.date(2026, 12, 1), {"rule": "monthly", "days": [1, 15], "time": "09:00"}, "2026-11-15 02:00"),
        (dt.date(2026, 12, 2), {"rule": "monthly", "days": [1, 15], "time": "09:00"}, "2026-12-01 02:00"),
        (dt.date(2026, 12, 15), {"rule": "monthly", "days": [1, 15], "time": "09:00"}, "2026-12-01 02:00"),
        (dt.date(2026, 12, 16), {"rule": "monthly", "days": [1, 15], "time": "09:00"}, "2026-12-15 02:00"),
        (MONDAY, {"rule": "monthly", "days": [15, 1], "time": "09:00", "lead_days": 16}, "2026-11-01 02:00"),
        # day 31 is the last day of a shorter month
        (dt.date(2027, 3, 1), {"rule": "monthly", "days": [31], "time": "09:00"}, "2027-02-28 02:00"),
        # the last working day of the month before; 31 October 2026 is a Saturday
        (dt.date(2026, 11, 2), {"rule": "month-end", "time": "09:00"}, "2026-10-30 02:00"),
        (MONDAY, {"rule": "month-end", "time": "09:00"}, "2026-10-30 02:00"),
        (dt.date(2026, 12, 1), {"rule": "month-end", "time": "09:00"}, "2026-11-30 02:00"),
        (dt.date(2026, 11, 2), {"rule": "month-end", "time": "09:00", "working_day": 2}, "2026-10-29 02:00"),
        (MONDAY, {"rule": "days-before", "days": 30, "time": "00:30"}, "2026-10-30 17:30"),
        (MONDAY, {"rule": "days-before", "days": 0, "time": "07:00"}, "2026-11-30 00:00"),
        (MONDAY, {"rule": "now"}, "1970-01-01 00:00"),
    ],
)
def test_openings(day: dt.date, rule: dict[str, Any], expected: str) -> None:
    assert opening(day, rule) == expected


def test_month_end_skips_holidays() -> None:
    # Monday 31 May 2027 is closed by the file, the days before it are a weekend.
    holidays = {"country": "ID", "closed_dates": [dt.date(2027, 5, 31)]}
    assert opening(dt.date(2027, 6, 2), {"rule": "month-end", "time": "09:00"}, holidays=holidays) == "2027-05-28 02:00"


def test_announced_openings_cover_their_dates_only() -> None:
    rule = {
        "rule": "dates",
        "openings": [
            {"date": "2026-11-20", "time": "09:00", "first": "2026-11-30", "last": "2026-12-01"},
            {"date": "2026-11-24", "time": "10:00", "first": "2026-12-03", "last": "2026-12-03"},
        ],
    }
    assert dates(MONDAY, SUNDAY, opening=rule) == ["2026-11-30", "2026-12-01", "2026-12-03"]
    assert opening(dt.date(2026, 12, 1), rule) == "2026-11-20 02:00"
    assert opening(dt.date(2026, 12, 3), rule) == "2026-11-24 03:00"


@pytest.mark.parametrize(
    ("timezone", "expected"),
    [
        ("Asia/Jakarta", "2026-11-27 07:00"),  # WIB
        ("Asia/Pontianak", "2026-11-27 07:00"),
        ("Asia/Makassar", "2026-11-27 06:00"),  # WITA
        ("Asia/Jayapura", "2026-11-27 05:00"),  # WIT
        ("UTC", "2026-11-27 14:00"),
    ],
)
def test_openings_follow_the_zone(timezone: str, expected: str) -> None:
    rule = {"rule": "weekly", "weekday": "fri", "time": "14:00"}
    assert opening(MONDAY, rule, timezone=timezone) == expected


def test_indonesian_zones_have_no_summer_time() -> None:
    for month in range(1, 13):
        day = next(day for day in (dt.date(2027, month, n) for n in range(10, 28)) if on(day))
        first = on(day)[0]
        assert dt.datetime.fromtimestamp(first.closes_at_ms / 1000, dt.UTC).hour == 1


def test_open_now_opens_everything_from_the_start() -> None:
    quotas = expansion.expand(shipped("surabaya"), MONDAY, SUNDAY, open_now=True)
    assert {one.opens_at_ms for one in terms(quotas)} == {0}
    later = expansion.expand(shipped("surabaya"), MONDAY, SUNDAY)
    assert [quota.quota for quota in quotas] == [quota.quota for quota in later]


def test_open_now_offers_dates_that_no_announced_opening_covers() -> None:
    rule = {
        "rule": "dates",
        "openings": [{"date": "2020-01-01", "time": "09:00", "first": "2020-01-02", "last": "2020-01-02"}],
    }
    assert expansion.expand(program(opening=rule), MONDAY, MONDAY) == []
    assert len(expansion.expand(program(opening=rule), MONDAY, MONDAY, open_now=True)) == 6


@pytest.mark.parametrize("name", ["surabaya", "pontianak", "batam"])
def test_expansion_is_idempotent_and_does_not_depend_on_the_range(name: str) -> None:
    whole = expansion.expand(shipped(name), MONDAY, SUNDAY)
    assert whole == expansion.expand(shipped(name), MONDAY, SUNDAY)
    parts = [expansion.expand(shipped(name), day, day) for day in (MONDAY + dt.timedelta(n) for n in range(7))]
    assert whole == [quota for part in parts for quota in part]
    ids = [quota.quota for quota in whole]
    assert len(set(ids)) == len(ids)
    assert {programs.program_of(quota_id) for quota_id in ids} == {name}


# Windows of a week: Monday to Thursday 12 of half an hour each, Friday 11.
@pytest.mark.parametrize(
    ("name", "quotas", "places_a_day"),
    [
        # 59 windows x 8 shares; ULP: 4 x 6 + 5 windows x 2 shares, and 2 mornings a day; MPP: 59 + 12 windows x 6 shares
        ("surabaya", 59 * 8 + 29 * 2 + 2 * 5 + 71 * 6, [606, 606, 606, 606, 563, 144]),
        # 59 windows x 2 shares, 4 mornings a day x 2 shares
        ("pontianak", 59 * 2 + 4 * 5 * 2, [120] * 5),
        # 59 windows x 2 shares, 10 lost or damaged a day have 10 windows, 5 mornings a day for priority
        ("batam", 59 * 2 + 10 * 5 + 5 * 5, [280] * 5),
    ],
)
def test_a_week_of_the_shipped_programs(name: str, quotas: int, places_a_day: list[int]) -> None:
    windows = terms(expansion.expand(shipped(name), MONDAY, SUNDAY))
    assert len(windows) == quotas
    places: Counter[str] = Counter()
    for one in windows:
        places[one.date] += one.capacity
    assert [places[date] for date in sorted(places)] == places_a_day


def test_batam_offers_each_kind_as_reported() -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    for one in terms(expansion.expand(shipped("batam"), MONDAY, MONDAY)):
        kinds[one.service, one.channel] += one.capacity
    assert kinds == {
        ("paspor", "online"): 200,
        ("paspor", "priority"): 50,
        ("paspor", "express"): 20,
        ("hilang-rusak", "online"): 10,
    }


def test_the_demonstration_has_something_to_claim_in_every_week() -> None:
    demo = shipped("surabaya")
    public = {channel.id for channel in demo.channels if channel.public}
    first = dt.date(2026, 1, 5)
    for year in range(3):
        begin = first + dt.timedelta(weeks=52 * year)
        weeks: Counter[tuple[int, int]] = Counter()
        for half in (
            begin,
            begin + dt.timedelta(weeks=13),
            begin + dt.timedelta(weeks=26),
            begin + dt.timedelta(weeks=39),
        ):
            for one in terms(expansion.expand(demo, half, half + dt.timedelta(days=13 * 7 - 1))):
                if one.channel in public:
                    weeks[dt.date.fromisoformat(one.date).isocalendar()[:2]] += 1
        assert len(weeks) == 52
        assert min(weeks.values()) >= 60


@pytest.mark.parametrize("days", [0, -5, expansion.EXPAND_DAYS_MAX + 1])
def test_a_range_has_limits(days: int) -> None:
    with pytest.raises(ConfigurationError, match="cannot be expanded"):
        expansion.expand(program(), MONDAY, MONDAY + dt.timedelta(days=days - 1))


def test_a_program_has_a_limit_of_quotas() -> None:
    with pytest.raises(ConfigurationError, match="more than 20000 quotas by 2026"):
        expansion.expand(shipped("surabaya"), dt.date(2026, 1, 1), dt.date(2026, 12, 31))


def test_lookups() -> None:
    demo = shipped("surabaya")
    kanim, baru = demo.office("kanim"), demo.service("baru")
    online = next(channel for channel in demo.channels if channel.id == "online")
    assert kanim is not None
    assert kanim.kind is programs.OfficeKind.KANIM
    assert baru is not None
    assert baru.name.en == "New passport"
    assert online.public
    assert (demo.office("x"), demo.service("x")) == (None, None)
    quota_id = demo.quota_id("kanim", "baru", dt.date(2026, 12, 1), "08:00", "online")
    assert quota_id == "surabaya.kanim.baru.20261201.0800.online"
    assert programs.program_of(quota_id) == "surabaya"


@given(places=st.integers(0, 100_000), parts=st.integers(1, 300))
def test_spreading_is_exact_and_even(places: int, parts: int) -> None:
    shares = expansion.spread(places, parts)
    assert sum(shares) == places
    assert len(shares) == parts
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)


@settings(max_examples=60, deadline=None)
@given(
    per_day=st.lists(st.integers(0, 5000), min_size=1, max_size=4),
    slot_minutes=st.sampled_from([10, 15, 20, 30, 60]),
    offset=st.integers(0, 400),
)
def test_the_places_of_a_day_are_the_figure_in_the_file(per_day: list[int], slot_minutes: int, offset: int) -> None:
    day = MONDAY + dt.timedelta(days=offset)
    shares = [{"service": "baru", "channel": f"c{number}", "per_day": places} for number, places in enumerate(per_day)]
    windows = on(day, offices=[office(quotas=shares, slot_minutes=slot_minutes)])
    sums = Counter({share["channel"]: 0 for share in shares})
    for one in windows:
        sums[one.channel] += one.capacity
        assert one.capacity > 0
    assert not windows or [sums[f"c{number}"] for number in range(len(per_day))] == per_day
