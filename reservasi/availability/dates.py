"""A program's quotas ordered by date, start and id, for all offices and for each, so that a date filter is a slice."""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import TypeAlias

from reservasi.model import Quota

_Place: TypeAlias = tuple[str, str, str]  # date, start, id
_LAST = "\U0010ffff"  # greater than any start


class Dates:
    """The ordered lists; they change with the terms of a quota, not with its places."""

    def __init__(self, quotas: Iterable[Quota]) -> None:
        self._all: list[_Place] = []
        self._offices: dict[str, list[_Place]] = {}
        for quota in quotas:
            place = _place(quota)
            self._all.append(place)
            self._offices.setdefault(quota.terms.office, []).append(place)
        for places in (self._all, *self._offices.values()):
            places.sort()

    def between(self, office: str | None, first: str | None, last: str | None) -> list[str]:
        """The quotas of an office or of all, from one ISO date to another, both included; in order."""
        places = self._all if office is None else self._offices.get(office, [])
        begin = 0 if first is None else bisect_left(places, (first,))
        end = len(places) if last is None else bisect_left(places, (last, _LAST))
        return [quota_id for _, _, quota_id in places[begin:end]]

    def put(self, before: Quota | None, after: Quota | None) -> None:
        """A quota was added, changed its terms, or was removed."""
        if before is not None and after is not None and _where(before) == _where(after):
            return
        if before is not None:
            office = self._offices[before.terms.office]
            for places in (self._all, office):
                del places[bisect_left(places, _place(before))]
            if not office:
                del self._offices[before.terms.office]
        if after is not None:
            for places in (self._all, self._offices.setdefault(after.terms.office, [])):
                insort(places, _place(after))


def _place(quota: Quota) -> _Place:
    return quota.terms.date, quota.terms.start, quota.id


def _where(quota: Quota) -> tuple[str, _Place]:
    return quota.terms.office, _place(quota)
