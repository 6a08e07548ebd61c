"""Openings within a range of dates."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from reservasi.model import Opening, OpeningTerms
from reservasi.waiting_room.days import days_between

HOUR_MS = 3_600_000
ZONE = ZoneInfo("Asia/Jayapura")
TODAY_MS = int(dt.datetime(2026, 12, 1, tzinfo=ZONE).timestamp() * 1000)
TERMS = OpeningTerms(
    opens_at_ms=0,
    joins_from_ms=0,
    ends_at_ms=0,
    waiting_room=True,
    proof_of_work=False,
    rate_per_min=1,
    rate_max_per_min=1,
    adaptive=False,
    commitment="",
    sealed_seed="",
)


@pytest.mark.parametrize(
    ("opens_h", "ends_h", "state", "is_in"),
    [
        (-2, -1, {}, False),
        (-2, 0, {}, False),
        (-2, 1, {}, True),
        (-2, -1, {"paused": True}, True),
        (-2, 1, {"cancelled": True}, False),
        (-2, 1, {"cancelled": True, "paused": True}, False),
        (0, 1, {}, True),
        (0, 1, {"cancelled": True}, True),
        (23, 24, {}, True),
        (24, 25, {}, False),
        (-48, 48, {}, True),
    ],
)
def test_an_opening_lies_in_the_days_of_its_moment_and_its_waiting_room(
    opens_h: int, ends_h: int, state: dict[str, Any], is_in: bool
) -> None:
    opens_at_ms, ends_at_ms = TODAY_MS + opens_h * HOUR_MS, TODAY_MS + ends_h * HOUR_MS
    terms = msgspec.structs.replace(TERMS, opens_at_ms=opens_at_ms, ends_at_ms=ends_at_ms)
    day = days_between("2026-12-01", "2026-12-01", ZONE)
    assert day.has_opening(Opening(id="p-1", terms=terms, **state)) is is_in


def test_a_day_begins_in_the_program_s_zone_and_the_calendar_may_end() -> None:
    east, west = (
        days_between("2026-12-01", "2026-12-01", ZoneInfo(name)) for name in ("Asia/Jayapura", "Asia/Jakarta")
    )
    assert west.first_ms - east.first_ms == west.until_ms - east.until_ms == 2 * HOUR_MS
    assert days_between("2026-12-01", "9999-12-31", ZONE).has(2**61)
    assert days_between("0001-01-01", "0001-01-01", ZONE).has(TODAY_MS) is False
