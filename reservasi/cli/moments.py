"""Times for people: in the program's own zone, with the zone's name and the year."""

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

# fields that hold a time as machines read it
MOMENTS = ("opens_at", "closes_at", "joins_from", "ends_at", "moved_from", "paused_since")


@lru_cache(maxsize=4096)  # thousands of quotas open and close at a few hundred moments
def local_moment(at: str | None, zone: dt.tzinfo) -> str | None:
    """An RFC 3339 time as people of that zone read it, such as `2026-12-04 14:00 WIB`; seconds where there are any."""
    if at is None:
        return None
    moment = dt.datetime.fromisoformat(at).astimezone(zone)
    clock = "%H:%M:%S" if moment.second or moment.microsecond else "%H:%M"
    return moment.strftime(f"%Y-%m-%d {clock} %Z")


def for_people(row: Mapping[str, Any], timezone: str) -> dict[str, Any]:
    """The row with its times in that zone; what machines read stays as it was."""
    zone = ZoneInfo(timezone)
    return {name: local_moment(value, zone) if name in MOMENTS else value for name, value in row.items()}
