"""Quotas that open together: those of one opening, or those of one moment that no opening covers.

Questions about an opening (is a place left, when does the last booking end, what is offered) are answered from a group,
which is updated with each change of a quota, without a scan of the quotas.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from reservasi.availability.alternatives import NEVER_MS
from reservasi.model import Quota
from reservasi.quota_state import QuotaState, was_offered

GroupKey: TypeAlias = tuple[int, str]  # moment of opening; opening id, "" if no opening covers them


class Summary(NamedTuple):
    """What a group offers."""

    quotas: int
    places: int
    offices: list[str]
    services: list[str]
    dates: list[str]


class _Ends:
    """A multiset of moments at which claims end, with the latest."""

    __slots__ = ("_counts", "last_ms")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.last_ms = 0  # 0: empty

    def add(self, at_ms: int) -> None:
        self._counts[at_ms] = self._counts.get(at_ms, 0) + 1
        self.last_ms = max(self.last_ms, at_ms)

    def remove(self, at_ms: int) -> None:
        self._counts[at_ms] -= 1
        if not self._counts[at_ms]:
            del self._counts[at_ms]
            if at_ms == self.last_ms:
                self.last_ms = max(self._counts, default=0)


class Group:
    """Quotas that open at the same moment, in one office or in all."""

    __slots__ = ("_bookable", "_ends", "_left", "_summaries", "opens_at_ms", "quotas")

    def __init__(self, opens_at_ms: int) -> None:
        self.opens_at_ms = opens_at_ms
        self.quotas: dict[str, None] = {}
        self._ends = _Ends()  # of all quotas
        self._bookable = _Ends()  # of quotas that staff have not closed
        self._left = _Ends()  # of those that also have places
        self._summaries: dict[bool, Summary] = {}

    @property
    def last_end_ms(self) -> int:
        """When claims end in all quotas; `NEVER_MS` if they do not end."""
        return self._ends.last_ms or NEVER_MS

    def has_left(self, now_ms: int) -> bool:
        """Whether a place remains in a quota that has not closed; it need not have opened yet."""
        return self._left.last_ms > now_ms

    def is_closed(self, now_ms: int) -> bool:
        """Whether each of its quotas is closed, by staff or by the clock."""
        return self._bookable.last_ms <= now_ms

    def state(self, now_ms: int) -> QuotaState:
        """The best state of its quotas."""
        if self.is_closed(now_ms):
            return "closed"
        if self.opens_at_ms > now_ms:
            return "not-open"
        return "open" if self.has_left(now_ms) else "sold-out"

    def turn_ms(self, now_ms: int) -> int:
        """The next moment at which `state` may change because of the clock."""
        moments = (self.opens_at_ms, self._left.last_ms, self._bookable.last_ms)
        return min((at_ms for at_ms in moments if at_ms > now_ms), default=NEVER_MS)

    def summary(self, quotas: Mapping[str, Quota], *, cancelled: bool) -> Summary:
        """What the quotas offer, or offered until they were cancelled; if nothing, the names of all."""
        summary = self._summaries.get(cancelled)
        if summary is None:
            summary = self._summaries[cancelled] = self._summarise(quotas, cancelled)
        return summary

    def _summarise(self, quotas: Mapping[str, Quota], cancelled: bool) -> Summary:
        every = [quotas[quota_id] for quota_id in self.quotas]
        offered = [quota.terms for quota in every if (was_offered(quota) if cancelled else not quota.terms.closed)]
        named = offered or [quota.terms for quota in every]
        return Summary(
            quotas=len(offered),
            places=sum(terms.capacity for terms in offered),
            offices=sorted({terms.office for terms in named}),
            services=sorted({terms.service for terms in named}),
            dates=sorted({terms.date for terms in named}),
        )

    def add(self, quota: Quota) -> None:
        self.quotas[quota.id] = None
        self._summaries = {}
        for ends in self._ends_of(quota):
            ends.add(_end_ms(quota))

    def remove(self, quota: Quota) -> None:
        """Remove a quota, in the state in which it was added or last counted."""
        del self.quotas[quota.id]
        self._summaries = {}
        for ends in self._ends_of(quota):
            ends.remove(_end_ms(quota))

    def _ends_of(self, quota: Quota) -> Iterator[_Ends]:
        yield self._ends
        if not quota.terms.closed:
            yield self._bookable
            if quota.remaining > 0:
                yield self._left

    def count(self, quota: Quota, *, has_left: bool) -> None:
        """The last place of a quota was taken, or a place became available."""
        if quota.terms.closed:
            return
        if has_left:
            self._left.add(_end_ms(quota))
        else:
            self._left.remove(_end_ms(quota))


class Groups:
    """The groups of one program."""

    def __init__(self) -> None:
        self._groups: dict[GroupKey, dict[str | None, Group]] = {}  # by office; None: all offices
        self._keys: list[GroupKey] = []  # sorted
        self._key_of: dict[str, GroupKey] = {}

    def get(self, key: GroupKey, office: str | None = None) -> Group | None:
        """One group, of one office or of all; None if it has no quota."""
        return self._groups.get(key, {}).get(office)

    def between(self, first_ms: int, until_ms: int) -> Iterator[GroupKey]:
        """The groups that open from `first_ms` until before `until_ms`, the earliest first."""
        for at in range(bisect_left(self._keys, (first_ms, "")), len(self._keys)):
            if self._keys[at][0] >= until_ms:
                break
            yield self._keys[at]

    def opening_at(self, at_ms: int) -> list[str]:
        """The quotas that open at that moment, with any opening."""
        return [quota_id for key in self.between(at_ms, at_ms + 1) for quota_id in self._groups[key][None].quotas]

    def put(self, quota: Quota, opening_id: str) -> None:
        """Assign a quota to an opening, or to none (""). The quota may be new, but must not have changed."""
        key = (quota.terms.opens_at_ms, opening_id)
        former_key = self._key_of.get(quota.id)
        if former_key == key:
            return
        if former_key is not None:
            self.remove(quota)
        self._key_of[quota.id] = key
        if key not in self._groups:
            self._groups[key] = {}
            insort(self._keys, key)
        for office in (None, quota.terms.office):
            self._groups[key].setdefault(office, Group(key[0])).add(quota)

    def remove(self, quota: Quota) -> None:
        """A quota was removed, or is about to change."""
        key = self._key_of.pop(quota.id)
        groups = self._groups[key]
        for office in (None, quota.terms.office):
            groups[office].remove(quota)
            if not groups[office].quotas:
                del groups[office]
        if not groups:
            del self._groups[key]
            del self._keys[bisect_left(self._keys, key)]

    def count(self, quota: Quota, *, has_left: bool) -> None:
        """The last place of a quota was taken, or a place became available; `quota` is the former state."""
        groups = self._groups[self._key_of[quota.id]]
        for office in (None, quota.terms.office):
            groups[office].count(quota, has_left=has_left)


def _end_ms(quota: Quota) -> int:
    return quota.terms.closes_at_ms or NEVER_MS
