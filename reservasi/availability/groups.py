"""Quotas that open together: those of one opening, or those of one moment that no opening covers.

What people ask of an opening (is anything left, when does the last booking end, what does it offer) is answered from
a group, which follows each change of a quota, and not by looking through the quotas.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from reservasi.availability.alternatives import NEVER_MS
from reservasi.model import Quota
from reservasi.quota_state import QuotaState

GroupKey: TypeAlias = tuple[int, str]  # when they open, and the opening; "" where none covers them


class Summary(NamedTuple):
    """What a group offers."""

    quotas: int
    places: int
    offices: list[str]
    services: list[str]
    dates: list[str]


class _Ends:
    """Moments at which claims end, each as often as quotas have it, and the last of them."""

    __slots__ = ("_counts", "last_ms")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.last_ms = 0  # 0: there is none

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
        self._ends = _Ends()  # of all
        self._bookable = _Ends()  # of those that staff have not closed
        self._left = _Ends()  # of those that have places as well
        self._summaries: dict[bool, Summary] = {}

    @property
    def last_end_ms(self) -> int:
        """When claims end in all of them; `NEVER_MS` where they do not."""
        return self._ends.last_ms or NEVER_MS

    def has_left(self, now_ms: int) -> bool:
        """Whether a place remains in a quota that has not closed, whether it has opened or not."""
        return self._left.last_ms > now_ms

    def state(self, now_ms: int) -> QuotaState:
        """The best state that one of them has."""
        if self._bookable.last_ms <= now_ms:
            return "closed"
        if self.opens_at_ms > now_ms:
            return "not-open"
        return "open" if self.has_left(now_ms) else "sold-out"

    def turn_ms(self, now_ms: int) -> int:
        """The next moment at which `state` may be another one by the clock."""
        moments = (self.opens_at_ms, self._left.last_ms, self._bookable.last_ms)
        return min((at_ms for at_ms in moments if at_ms > now_ms), default=NEVER_MS)

    def summary(self, quotas: Mapping[str, Quota], *, with_closed: bool) -> Summary:
        """What they offer, with or without what staff have closed; the names of closed ones where all are."""
        found = self._summaries.get(with_closed)
        if found is None:
            found = self._summaries[with_closed] = self._summarise(quotas, with_closed)
        return found

    def _summarise(self, quotas: Mapping[str, Quota], with_closed: bool) -> Summary:
        every = [quotas[quota_id].terms for quota_id in self.quotas]
        offered = every if with_closed else [terms for terms in every if not terms.closed]
        named = offered or every
        return Summary(
            quotas=len(offered),
            places=sum(terms.capacity for terms in offered),
            offices=sorted({terms.office for terms in named}),
            services=sorted({terms.service for terms in named}),
            dates=sorted({terms.date for terms in named}),
        )

    def add(self, quota: Quota) -> None:
        """One more."""
        self.quotas[quota.id] = None
        self._summaries = {}
        for ends in self._ends_of(quota):
            ends.add(_end_ms(quota))

    def remove(self, quota: Quota) -> None:
        """One less; as it was added, or as `count` had it."""
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
        """The last place of a quota was taken, or the first came back."""
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
        """One group, of one office or of all; None where it has no quota."""
        return self._groups.get(key, {}).get(office)

    def between(self, first_ms: int, until_ms: int) -> Iterator[GroupKey]:
        """The groups that open then, the earliest first; the end excluded."""
        for at in range(bisect_left(self._keys, (first_ms, "")), len(self._keys)):
            if self._keys[at][0] >= until_ms:
                break
            yield self._keys[at]

    def opening_at(self, at_ms: int) -> list[str]:
        """The quotas that open then, with whatever opening."""
        return [quota_id for key in self.between(at_ms, at_ms + 1) for quota_id in self._groups[key][None].quotas]

    def put(self, quota: Quota, opening_id: str) -> None:
        """A quota of the view opens with an opening, or with none: "". It may be new, but not changed in itself."""
        key = (quota.terms.opens_at_ms, opening_id)
        known = self._key_of.get(quota.id)
        if known == key:
            return
        if known is not None:
            self.remove(quota)
        self._key_of[quota.id] = key
        if key not in self._groups:
            self._groups[key] = {}
            insort(self._keys, key)
        for office in (None, quota.terms.office):
            self._groups[key].setdefault(office, Group(key[0])).add(quota)

    def remove(self, quota: Quota) -> None:
        """A quota has gone, or is about to change in itself."""
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
        """The last place of a quota was taken, or the first came back; `quota` is what it was before."""
        groups = self._groups[self._key_of[quota.id]]
        for office in (None, quota.terms.office):
            groups[office].count(quota, has_left=has_left)


def _end_ms(quota: Quota) -> int:
    return quota.terms.closes_at_ms or NEVER_MS
