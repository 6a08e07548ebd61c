"""The date range of a query: by default from today on, and limited in length."""

import datetime as dt
from collections.abc import Mapping

from reservasi.front.api.declarations import RANGE_DAYS_MAX


def dates_of(filters: Mapping[str, str], today: str) -> tuple[str, str]:
    """The first and the last date of the filters."""
    first = filters.get("from", today)
    last = filters.get("to")
    return first, last if last is not None else _last_of(max(first, today))


def _last_of(first: str) -> str:
    try:
        return (dt.date.fromisoformat(first) + dt.timedelta(days=RANGE_DAYS_MAX - 1)).isoformat()
    except (ValueError, OverflowError):  # beyond the calendar's last date
        return dt.date.max.isoformat()


def is_too_long(filters: Mapping[str, str], today: str) -> bool:
    """Whether the filters select more days than one answer may have."""
    if "to" not in filters:
        return False
    return filters["to"] > _last_of(filters.get("from", today))
