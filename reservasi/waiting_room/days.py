"""Selects openings by a range of dates."""

import datetime as dt

import msgspec

from reservasi.model import Opening
from reservasi.waiting_room.state import NEVER_MS, last_end_ms


class Days(msgspec.Struct, frozen=True):
    """A range of a program's dates as moments; the end is excluded."""

    first_ms: int
    until_ms: int

    def has(self, opens_at_ms: int, ends_at_ms: int = 0) -> bool:
        """Whether a period overlaps the range."""
        return opens_at_ms < self.until_ms and (opens_at_ms >= self.first_ms or ends_at_ms > self.first_ms)

    def has_opening(self, opening: Opening) -> bool:
        """Whether its moment or its waiting room overlaps the range; while it is paused its end is unknown."""
        return self.has(opening.terms.opens_at_ms, 0 if opening.cancelled else last_end_ms(opening))


def days_between(first: str, last: str, zone: dt.tzinfo) -> Days:
    """From the beginning of one ISO date to the end of another, in a time zone."""
    return Days(_midnight_ms(first, zone, 0, 0), _midnight_ms(last, zone, 1, NEVER_MS))


def _midnight_ms(date: str, zone: dt.tzinfo, days: int, beyond_ms: int) -> int:
    try:
        day = dt.date.fromisoformat(date) + dt.timedelta(days=days)
        return int(dt.datetime.combine(day, dt.time(), zone).timestamp() * 1000)
    except (OverflowError, ValueError):  # the first or the last date that Python supports
        return beyond_ms
