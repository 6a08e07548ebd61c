"""What is offered instead of a quota that is sold out: open ones of the same service and channel, the nearest first."""

import time
from collections.abc import Callable
from functools import lru_cache
from heapq import nsmallest

from reservasi.model import Quota
from reservasi.programs import program_of

FRESH_S = 0.5  # suggestions may be a little older than what is judged
SLOTS_KEPT_MAX = 4096

FindOpen = Callable[
    [str, str, str], list[Quota]
]  # of program, service and channel: open quotas with room, in any order


class Alternatives:
    """Looks through a program's quotas at most twice a second, whoever is refused, and of however many quotas."""

    def __init__(self, find_open: FindOpen, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._find_open = find_open
        self._clock_s = clock_s
        self._open: dict[tuple[str, str, str], tuple[float, list[Quota]]] = {}  # as many as there are channels

    def near(self, quota: Quota, places: int, limit: int) -> list[Quota]:
        """At most `limit` others with so many places: the same office first, then the nearest in time."""
        terms, at = quota.terms, _minutes(quota.terms.date, quota.terms.start)

        def distance(other: Quota) -> tuple[bool, int, str]:
            away = abs(_minutes(other.terms.date, other.terms.start) - at)
            return other.terms.office != terms.office, away, other.id

        fitting = [other for other in self._open_like(quota) if other.remaining >= places and other.id != quota.id]
        return nsmallest(limit, fitting, key=distance)

    def _open_like(self, quota: Quota) -> list[Quota]:
        key = (program_of(quota.id), quota.terms.service, quota.terms.channel)
        now_s = self._clock_s()
        kept = self._open.get(key)
        if kept is None or now_s - kept[0] >= FRESH_S:
            kept = self._open[key] = (now_s, self._find_open(*key))
        return kept[1]


@lru_cache(maxsize=SLOTS_KEPT_MAX)
def _minutes(date: str, start: str) -> int:
    """A number that orders slots of one program by time and says how far apart they are, months counted as 31 days."""
    year, month, day = (int(part) for part in date.split("-"))
    hour, minute = (int(part) for part in start.split(":"))
    return (((year * 12 + month) * 31 + day) * 24 + hour) * 60 + minute
