"""Quotas that open together: those of one opening, or those of one moment that no opening covers.

Questions about an opening (is a place left, when does the last booking end, what is offered) are answered from groups,
which are updated with each change of a quota, without a scan of the quotas. Each channel has its own, so that places
that only staff may claim are no places for the public.
"""

from bisect import bisect_left, insort
from collections.abc import Container, Iterator, Mapping, Sequence
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


class _OfChannel:
    """Quotas of one channel that open at the same moment, in one office or in all."""

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


class Group:
    """Quotas that open at the same moment, in one office or in all, as those see them who may claim some channels."""

    __slots__ = ("_every", "_offered", "opens_at_ms")

    def __init__(self, opens_at_ms: int, every: Sequence[_OfChannel], offered: Sequence[_OfChannel]) -> None:
        self.opens_at_ms = opens_at_ms
        self._every = every
        self._offered = offered  # of the channels that may be claimed

    @property
    def quotas(self) -> list[str]:
        """The ids of all quotas, whoever may claim them."""
        return [quota_id for each in self._every for quota_id in each.quotas]

    @property
    def last_end_ms(self) -> int:
        """When claims end in all quotas; `NEVER_MS` if they do not end."""
        return max(each.last_end_ms for each in self._offered or self._every)

    def has_left(self, now_ms: int) -> bool:
        """Whether a place remains in a quota that has not closed; it need not have opened yet."""
        return any(each.has_left(now_ms) for each in self._offered)

    def is_closed(self, now_ms: int) -> bool:
        """Whether each quota is closed: by staff, by the clock, or since nobody here may claim it."""
        return all(each.is_closed(now_ms) for each in self._offered)

    def state(self, now_ms: int) -> QuotaState:
        """The best state of its quotas."""
        if self.is_closed(now_ms):
            return "closed"
        if self.opens_at_ms > now_ms:
            return "not-open"
        return "open" if self.has_left(now_ms) else "sold-out"

    def turn_ms(self, now_ms: int) -> int:
        """The next moment at which `state` may change because of the clock."""
        return min((each.turn_ms(now_ms) for each in self._offered), default=NEVER_MS)

    def summary(self, quotas: Mapping[str, Quota], *, cancelled: bool) -> Summary:
        """What the quotas offer, or offered until they were cancelled; if nothing, the names of all."""
        parts = [each.summary(quotas, cancelled=cancelled) for each in self._offered or self._every]
        if not self._offered:
            parts = [part._replace(quotas=0, places=0) for part in parts]
        parts = [part for part in parts if part.quotas] or parts
        return Summary(
            quotas=sum(part.quotas for part in parts),
            places=sum(part.places for part in parts),
            offices=sorted({office for part in parts for office in part.offices}),
            services=sorted({service for part in parts for service in part.services}),
            dates=sorted({date for part in parts for date in part.dates}),
        )


class Groups:
    """The groups of one program."""

    def __init__(self) -> None:
        # by office (None: all offices) and channel
        self._groups: dict[GroupKey, dict[str | None, dict[str, _OfChannel]]] = {}
        self._keys: list[GroupKey] = []  # sorted
        self._key_of: dict[str, GroupKey] = {}

    def get(self, key: GroupKey, office: str | None = None, channels: Container[str] | None = None) -> Group | None:
        """One group, of one office or of all, for those who may claim these channels (None: all).

        None if it has no quota, or if no opening covers it and nobody here may claim any of it.
        """
        by_channel = self._groups.get(key, {}).get(office)
        if by_channel is None:
            return None
        every = list(by_channel.values())
        offered = every if channels is None else [each for name, each in by_channel.items() if name in channels]
        return Group(key[0], every, offered) if offered or key[1] else None

    def between(self, first_ms: int, until_ms: int) -> Iterator[GroupKey]:
        """The groups that open from `first_ms` until before `until_ms`, the earliest first."""
        for at in range(bisect_left(self._keys, (first_ms, "")), len(self._keys)):
            if self._keys[at][0] >= until_ms:
                break
            yield self._keys[at]

    def opening_at(self, at_ms: int) -> list[str]:
        """The quotas that open at that moment, with any opening."""
        by_channel = [self._groups[key][None] for key in self.between(at_ms, at_ms + 1)]
        return [quota_id for groups in by_channel for each in groups.values() for quota_id in each.quotas]

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
            by_channel = self._groups[key].setdefault(office, {})
            by_channel.setdefault(quota.terms.channel, _OfChannel(key[0])).add(quota)

    def remove(self, quota: Quota) -> None:
        """A quota was removed, or is about to change."""
        key = self._key_of.pop(quota.id)
        groups = self._groups[key]
        for office in (None, quota.terms.office):
            by_channel, channel = groups[office], quota.terms.channel
            by_channel[channel].remove(quota)
            if not by_channel[channel].quotas:
                del by_channel[channel]
            if not by_channel:
                del groups[office]
        if not groups:
            del self._groups[key]
            del self._keys[bisect_left(self._keys, key)]

    def count(self, quota: Quota, *, has_left: bool) -> None:
        """The last place of a quota was taken, or a place became available; `quota` is the former state."""
        groups = self._groups[self._key_of[quota.id]]
        for office in (None, quota.terms.office):
            groups[office][quota.terms.channel].count(quota, has_left=has_left)


def _end_ms(quota: Quota) -> int:
    return quota.terms.closes_at_ms or NEVER_MS
