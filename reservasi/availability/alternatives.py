"""Alternatives to a sold-out quota: the nearest open quotas of the same service and channel.

Quotas with places are kept in order on shelves, one for each combination of service, channel and number of places. A
shelf is built when it is first used, and updated with each change of a quota. The cost of a refusal therefore does not
depend on the number of quotas, on how many are sold out, or on how often they change.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import NamedTuple, TypeAlias

from reservasi.model import APPLICANTS_MAX, Quota

NEVER_MS = 2**62
TURNS_MAX = 200  # quotas that open or close at one moment; above it shelves are rebuilt on their next use
KEPT_MAX = 10_000  # cached results of a shelf; each stays until a nearby quota gains or loses places
SLOTS_KEPT_MAX = 4096

_Place: TypeAlias = tuple[int, str]  # time in minutes; quota id
Ids: TypeAlias = tuple[str, ...]


class Tally:
    """How often something changed."""

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes = 0


class Offer:
    """Quotas that are offered instead of a sold-out one: one object for all that are offered the same."""

    __slots__ = ("contents", "ids")

    def __init__(self, ids: Ids, contents: Tally) -> None:
        self.ids = ids
        self.contents = contents  # changes of terms and remaining places of these quotas, and of others


class _Near(NamedTuple):
    """A cached result of a shelf, and the number of moves at which it is valid."""

    offer: Offer
    moves: Tally  # of the office, or of the shelf
    moved: int


class _Shelf:
    """The open quotas of one service and channel that have at least so many places, ordered by time."""

    __slots__ = ("_near", "everywhere", "found", "moves", "office_moves", "offices")

    def __init__(self) -> None:
        self.everywhere: list[_Place] = []
        self._near: dict[tuple[int, int], list[_Place]] = {}  # cached results for all offices, by minute and limit
        self.offices: dict[str, list[_Place]] = {}
        self.moves = Tally()
        self.office_moves: dict[str, Tally] = {}
        self.found: dict[tuple[str, int, int], _Near] = {}  # by office with places or "", minute and limit

    def note_move(self, office: str) -> None:
        """Invalidate cached results that may name a quota of the office."""
        self._near = {}
        self.moves.changes += 1
        self.moves_of(office).changes += 1

    def moves_of(self, office: str) -> Tally:
        return self.office_moves.get(office) or self.office_moves.setdefault(office, Tally())

    def near(self, at: int, limit: int) -> list[_Place]:
        """At most `limit` quotas of all offices, those nearest to a minute first."""
        found = self._near.get((at, limit))
        if found is None:
            if len(self._near) >= SLOTS_KEPT_MAX:
                self._near = {}
            found = self._near[at, limit] = _nearest(self.everywhere, at, limit)
        return found


class Alternatives:
    """The shelves of one program."""

    def __init__(self, quotas: Mapping[str, Quota]) -> None:
        """`quotas` are the view's own; the view reports each change to this object."""
        self._quotas = quotas
        self._shelves: dict[tuple[str, str, int], _Shelf] = {}
        self._offers: dict[tuple[Ids, Tally], Offer] = {}
        self._contents = Tally()
        self._office_contents: dict[str, Tally] = {}
        self._at_ms = 0  # the moment for which the shelves show open quotas
        self._turns: dict[int, set[str]] = {}  # later moment -> quotas that open or close then
        self._moments: list[int] = []  # heap of those moments

    def near(self, quota: Quota, places: int, limit: int, now_ms: int) -> Offer:
        """At most `limit` other quotas with enough places: the same office first, then the nearest in time.

        Sold-out quotas of the same service, channel and time have the same ones unless their own office has places.
        """
        shelf, terms = self._shelf(quota, places, now_ms), quota.terms
        at, office = minutes(terms.date, terms.start), terms.office
        if quota.remaining >= places:  # then it may be on the shelf itself
            ids = self._find(shelf, office, at, limit + 1).offer.ids
            return self._offer(tuple([id_ for id_ in ids if id_ != quota.id][:limit]), self._contents)
        if office not in shelf.offices:
            office = ""
        found = shelf.found.get((office, at, limit))
        if found is None or found.moved != found.moves.changes:
            if len(shelf.found) >= KEPT_MAX:
                shelf.found.clear()
            found = shelf.found[office, at, limit] = self._find(shelf, office, at, limit)
        return found.offer

    def _shelf(self, quota: Quota, places: int, now_ms: int) -> _Shelf:
        if not self._shelves or not self._at_ms <= now_ms < self.turn_ms:
            self._turn(now_ms)
        terms = quota.terms
        return self._shelves.get((terms.service, terms.channel, places)) or self._build(quota, places)

    @property
    def turn_ms(self) -> int:
        """The next moment at which a quota opens or closes by the clock."""
        return self._moments[0] if self._moments else NEVER_MS

    def count(self, quota: Quota, remaining: int) -> None:
        """The number of remaining places of a quota changed; `quota` is the former state."""
        self._note_change(quota)
        if not self._shelves:
            return
        before, after = _capped(quota.remaining), _capped(remaining)
        if before != after and _is_open(quota, self._at_ms):
            self._move(quota, before, after)

    def put(self, before: Quota | None, after: Quota | None) -> None:
        """A quota was added, changed its terms, or was removed."""
        for each in filter(None, (before, after)):
            self._note_change(each)
        if not self._shelves:
            return
        if before is None or after is None or self._lies(before) != self._lies(after):
            if before is not None:
                self._move(before, self._level(before), 0)
            if after is not None:
                self._move(after, 0, self._level(after))
        if before is not None:
            for at_ms in _moments_of(before):
                self._turns.get(at_ms, set()).discard(before.id)
        if after is not None:
            self._await(after)

    # --------------------------------------------------------------------------------------------------------------

    def _note_change(self, quota: Quota) -> None:
        self._contents.changes += 1
        self._contents_of(quota.terms.office).changes += 1

    def _contents_of(self, office: str) -> Tally:
        return self._office_contents.get(office) or self._office_contents.setdefault(office, Tally())

    def _level(self, quota: Quota) -> int:
        return _capped(quota.remaining) if _is_open(quota, self._at_ms) else 0

    def _lies(self, quota: Quota) -> tuple[str, str, str, int, int]:
        """The position of a quota on the shelves, and up to how many places."""
        terms = quota.terms
        at = minutes(terms.date, terms.start)
        return terms.service, terms.channel, terms.office, at, self._level(quota)

    def _find(self, shelf: _Shelf, office: str, at: int, limit: int) -> _Near:
        own = shelf.offices.get(office, [])
        found = [id_ for _, id_ in _nearest(own, at, limit)]
        if len(found) == limit:  # changes in other offices do not matter
            moves, contents = shelf.moves_of(office), self._contents_of(office)
        else:
            moves, contents = shelf.moves, self._contents
            others = shelf.near(at, limit + len(own))
            found += [id_ for _, id_ in others if self._quotas[id_].terms.office != office][: limit - len(found)]
        return _Near(self._offer(tuple(found), contents), moves, moves.changes)

    def _offer(self, ids: Ids, contents: Tally) -> Offer:
        offer = self._offers.get((ids, contents))
        if offer is None:
            if len(self._offers) >= KEPT_MAX:
                self._offers.clear()
            offer = self._offers[ids, contents] = Offer(ids, contents)
        return offer

    def _build(self, quota: Quota, places: int) -> _Shelf:
        if not self._shelves:
            self._await_all()
        service, channel = quota.terms.service, quota.terms.channel
        shelf = self._shelves[service, channel, places] = _Shelf()
        for other in self._quotas.values():
            terms = other.terms
            if terms.service == service and terms.channel == channel and self._level(other) >= places:
                place = (minutes(terms.date, terms.start), other.id)
                shelf.everywhere.append(place)
                shelf.offices.setdefault(terms.office, []).append(place)
        for places_in_order in (shelf.everywhere, *shelf.offices.values()):
            places_in_order.sort()
        return shelf

    def _move(self, quota: Quota, before: int, after: int) -> None:
        """Move a quota from the shelves for at most `before` places to those for at most `after` places."""
        terms = quota.terms
        place = (minutes(terms.date, terms.start), quota.id)
        for level in range(min(before, after) + 1, max(before, after) + 1):
            shelf = self._shelves.get((terms.service, terms.channel, level))
            if shelf is None:
                continue
            office = shelf.offices.setdefault(terms.office, [])
            for places_in_order in (shelf.everywhere, office):
                if after > before:
                    insort(places_in_order, place)
                else:
                    del places_in_order[bisect_left(places_in_order, place)]
            if not office:
                del shelf.offices[terms.office]
            shelf.note_move(terms.office)

    # -- the clock -------------------------------------------------------------------------------------------------

    def _turn(self, now_ms: int) -> None:
        """Update the shelves to a moment."""
        if now_ms < self._at_ms:  # the ledger's clock went back
            self._shelves, self._turns, self._moments = {}, {}, []
        turned: set[str] = set()
        while self._moments and self._moments[0] <= now_ms:
            turned |= self._turns.pop(heappop(self._moments))
        if len(turned) > TURNS_MAX:
            self._shelves = {}
        before_ms, self._at_ms = self._at_ms, now_ms
        if self._shelves:
            for quota in map(self._quotas.__getitem__, turned):
                level = _capped(quota.remaining)
                was, is_ = _is_open(quota, before_ms), _is_open(quota, now_ms)
                self._move(quota, level * was, level * is_)

    def _await_all(self) -> None:
        self._turns = {}
        for quota in self._quotas.values():
            for at_ms in _moments_of(quota):
                if at_ms > self._at_ms:
                    self._turns.setdefault(at_ms, set()).add(quota.id)
        self._moments = list(self._turns)
        heapify(self._moments)

    def _await(self, quota: Quota) -> None:
        for at_ms in _moments_of(quota):
            if at_ms <= self._at_ms:
                continue
            if at_ms not in self._turns:
                self._turns[at_ms] = set()
                heappush(self._moments, at_ms)
            self._turns[at_ms].add(quota.id)


def _moments_of(quota: Quota) -> tuple[int, ...]:
    """When it opens and closes by the clock."""
    terms = quota.terms
    return () if terms.closed else (terms.opens_at_ms, terms.closes_at_ms)


def _is_open(quota: Quota, now_ms: int) -> bool:
    """Whether it can be claimed by its terms and the clock, regardless of remaining places."""
    terms = quota.terms
    return not terms.closed and terms.opens_at_ms <= now_ms < (terms.closes_at_ms or NEVER_MS)


def _capped(remaining: int) -> int:
    """Limit to the largest number of places of one reservation."""
    return min(max(remaining, 0), APPLICANTS_MAX)


def _nearest(places: list[_Place], at: int, limit: int) -> list[_Place]:
    """At most `limit` places, those nearest to a minute first; at equal distance by id."""
    middle = bisect_left(places, (at,))
    found = places[middle : middle + limit]
    end = middle
    while end and middle - end < limit:  # places at one minute are ordered by id
        begin = bisect_left(places, (places[end - 1][0],), 0, end)
        found += places[begin : min(end, begin + limit)]
        end = begin
    found.sort(key=lambda place: (abs(place[0] - at), place[1]))
    return found[:limit]


@lru_cache(maxsize=SLOTS_KEPT_MAX)
def minutes(date: str, start: str) -> int:
    """A number that orders slots of one program by time and gives their distance; months are counted as 31 days."""
    year, month, day = (int(part) for part in date.split("-"))
    hour, minute = (int(part) for part in start.split(":"))
    return (((year * 12 + month) * 31 + day) * 24 + hour) * 60 + minute
