"""Rows for people: times in the program's zone, with its name and the year, and states in the words of HTTP's lists."""

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

# Fields that hold a time in machine-readable form.
MOMENTS = ("opens_at", "closes_at", "joins_from", "ends_at", "moved_from", "paused_since")
# An opening's state in JSON, and the word for it in `GET /v1/openings` and in the states of quotas.
STATES = {"announced": "not-open", "sold_out": "sold-out"}


@lru_cache(maxsize=4096)  # thousands of quotas share a few hundred moments
def local_moment(at: str | None, zone: dt.tzinfo) -> str | None:
    """An RFC 3339 time in the zone, such as `2026-12-04 14:00 WIB`; with seconds if they are not 0."""
    if at is None:
        return None
    moment = dt.datetime.fromisoformat(at).astimezone(zone)
    clock = "%H:%M:%S" if moment.second or moment.microsecond else "%H:%M"
    return moment.strftime(f"%Y-%m-%d {clock} %Z")


def for_people(row: Mapping[str, Any], timezone: str) -> dict[str, Any]:
    """The row with its times in that zone and its state in words; other values are unchanged."""
    zone = ZoneInfo(timezone)
    shown: dict[str, Any] = {
        name: local_moment(value, zone) if name in MOMENTS else value for name, value in row.items()
    }
    return {**shown, "state": STATES.get(shown["state"], shown["state"])} if "state" in shown else shown
