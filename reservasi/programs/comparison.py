"""The plan of an import: what a program's file wants, beside the quotas that the ledger has. Pure.

Three values of each term are compared: the file's, the ledger's, and the one that an import set last
(`Quota.imported`). Where the ledger's is neither of the others, somebody changed it by hand, and it stays. A quota
whose window the file does not have lies outside: the import closes it, also since windows of one line (office,
service, channel) must not overlap, and cancels nobody in it.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from reservasi.model import NOT_KNOWN, STAFF_TERMS, Opening, Quota, QuotaTerms, SetQuota
from reservasi.programs.expansion import expand_dates, minutes
from reservasi.programs.openings import WorkingDays, window_end_ms
from reservasi.programs.program import Program

TERMS = QuotaTerms.__struct_fields__


class Why(StrEnum):
    """Why a quota lies outside the file."""

    OFFICE = "office"  # the file has no such office
    NOT_OFFERED = "not-offered"  # the office offers no such service through this channel
    DATE = "date"  # nothing is offered on that date: a holiday, a closed date, a weekday without hours, no opening
    WINDOW = "window"  # other hours or slot lengths


class TermChange(msgspec.Struct, frozen=True):
    """A term in the ledger, and what the file says."""

    term: str
    ledger: int | bool | str
    file: int | bool | str


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A quota whose terms follow the file."""

    quota: Quota
    terms: QuotaTerms  # as they will be
    changes: tuple[TermChange, ...]
    capacity_wanted: int  # by the file; `terms.capacity` is more where more places are taken

    @property
    def moves_window(self) -> bool:
        """Whether people who are booked here have another time than they were told."""
        return self.terms.end != self.quota.terms.end

    def command(self, actor: str, reason: str) -> SetQuota:
        """What changes it, provided that nobody did meanwhile."""
        version = self.quota.counts.version
        return SetQuota(quota=self.quota.id, terms=self.terms, version=version, actor=actor, reason=reason)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A quota of which somebody changed terms by hand."""

    quota: Quota
    terms: tuple[TermChange, ...]  # those that are left as they are


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """A quota that the file does not have."""

    quota: Quota
    why: Why
    is_open: bool  # people can claim it, now or once it opens
    by_hand: bool  # an import had closed it, and somebody opened it again: it stays open

    @property
    def closes(self) -> bool:
        """Whether the import closes it."""
        return self.is_open and not self.by_hand

    @property
    def people(self) -> int:
        """Places that are held or booked here."""
        return self.quota.counts.held + self.quota.counts.confirmed


class AffectedOpening(msgspec.Struct, frozen=True, kw_only=True):
    """An opening that is not over and that the file would have otherwise. No import changes one."""

    opening: Opening
    quotas: int  # that open with it
    elsewhere: int  # of these, how many the file opens at another moment: they stay with the opening
    moments_ms: tuple[int, ...]  # the file's moments for those; 0: at once
    outside: int  # how many lie outside the file


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an import would do."""

    new: tuple[SetQuota, ...]
    changed: tuple[Changed, ...]
    kept: tuple[Kept, ...]
    outside: tuple[Outside, ...]
    openings: tuple[AffectedOpening, ...]
    unchanged: int
    over: int  # in the ledger only, and their window has passed: left alone
    past: int  # in the file only, and their window has passed: not created, since they would retire at once
    total: int  # quotas of the file, those included
    moved: tuple[Quota, ...] = ()  # where people are booked and the file's time zone makes the window another moment

    @property
    def closing(self) -> list[Outside]:
        """What the import closes."""
        return [each for each in self.outside if each.closes]

    @property
    def only_adds(self) -> bool:
        """Whether nothing that exists is changed or closed."""
        return not self.changed and not self.closing and not self.moved

    @property
    def says_more(self) -> bool:
        """Whether there is anything but new, unchanged and past quotas."""
        return bool(self.changed or self.kept or self.outside or self.openings or self.moved)


def compare(
    program: Program, wanted: Sequence[SetQuota], existing: Iterable[Quota], openings: Iterable[Opening], now_ms: int
) -> Plan:
    """The plan that brings the ledger's quotas to what the file wants; `existing` are those of the same dates."""
    return _Comparison(program, wanted, openings, now_ms).plan(sorted(existing, key=lambda quota: quota.id))


def moved_by_zone(former: Program | None, program: Program, quotas: Iterable[Quota], now_ms: int) -> tuple[Quota, ...]:
    """The quotas with people whose window, not over yet, begins at another moment in the program's new time zone."""
    if former is None or former.timezone == program.timezone:
        return ()

    def moments(quota: Quota) -> list[int]:
        terms = quota.terms
        return [window_end_ms(terms.date, terms.start, terms.end, each.zone) for each in (former, program)]

    taken = [quota for quota in quotas if quota.counts.held or quota.counts.confirmed]
    return tuple(quota for quota in taken if max(both := moments(quota)) > now_ms and both[0] != both[1])


def by_hand(quota: Quota, term: str) -> bool:
    """Whether somebody changed the term after an import had set it; also where an earlier version did not remember."""
    if not quota.imported:
        return quota.counts.version > 1
    imported = quota.imported[STAFF_TERMS.index(term)]
    return imported in (NOT_KNOWN,) or imported != int(getattr(quota.terms, term))


def in_the_way(program: Program, quota: Quota, others: Iterable[Quota]) -> Quota | None:
    """What keeps a closed quota from being opened again: an open one of its line whose window overlaps.

    Where no import closed the quota, only windows that the program's file has count.
    """
    overlapping = [other for other in others if is_overlapping(quota, other)]
    if not overlapping or _closed_by_import(quota):
        return next(iter(overlapping), None)
    expanded = expand_dates(program, [dt.date.fromisoformat(quota.terms.date)], open_now=True)
    windows = {(_line(each.terms), _window(each.terms)) for each in expanded if each.terms is not None}
    return next((other for other in overlapping if (_line(other.terms), _window(other.terms)) in windows), None)


def is_overlapping(quota: Quota, other: Quota) -> bool:
    """Whether another quota of the same line and date is not closed and has a window in common with this one."""
    if other.id == quota.id or other.terms.closed or _line(other.terms) != _line(quota.terms):
        return False
    return _overlap(_window(quota.terms), _window(other.terms))


def _closed_by_import(quota: Quota) -> bool:
    return bool(quota.imported) and quota.imported[STAFF_TERMS.index("closed")] == 1


def _line(terms: QuotaTerms) -> tuple[str, str, str, str]:
    return terms.office, terms.service, terms.channel, terms.date


def _window(terms: QuotaTerms) -> tuple[int, int]:
    return minutes(terms.start), minutes(terms.end)


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


class _Comparison:
    """One pass over the quotas of a range."""

    def __init__(self, program: Program, wanted: Sequence[SetQuota], openings: Iterable[Opening], now_ms: int) -> None:
        self._program = program
        self._now_ms = now_ms
        self._wanted: dict[str, QuotaTerms] = {each.quota: each.terms for each in wanted if each.terms is not None}
        self._commands = wanted
        self._windows: Mapping[tuple[str, str, str, str], list[tuple[int, int]]] = self._windows_by_line()
        self._openings = [each for each in openings if not each.ended(now_ms)]
        self._working_days = WorkingDays(program.holidays)

    def plan(self, existing: list[Quota]) -> Plan:
        """Sort every quota into one place; a quota may be changed in one term and kept in another."""
        over = [quota for quota in existing if self._is_over(quota.terms)]
        alive = [quota for quota in existing if not self._is_over(quota.terms)]
        inside = [quota for quota in alive if quota.id in self._wanted]
        changed = [each for quota in inside if (each := self._changed(quota)) is not None]
        kept = [left for quota in existing if quota.id in self._wanted and (left := self._kept(quota)) is not None]
        outside = [self._outside(quota) for quota in alive if quota.id not in self._wanted]
        known = {quota.id for quota in existing}
        touched = {each.quota.id for each in changed} | {left.quota.id for left in kept}
        missing = [each for each in self._commands if each.quota not in known]
        new = tuple(each for each in missing if each.terms is not None and not self._is_over(each.terms))
        return Plan(
            new=new,
            changed=tuple(changed),
            kept=tuple(kept),
            outside=tuple(outside),
            openings=tuple(self._affected(alive)),
            unchanged=sum(quota.id in self._wanted and quota.id not in touched for quota in existing),
            over=sum(quota.id not in self._wanted for quota in over),
            past=len(missing) - len(new),
            total=len(self._commands),
        )

    def _windows_by_line(self) -> Mapping[tuple[str, str, str, str], list[tuple[int, int]]]:
        found: defaultdict[tuple[str, str, str, str], list[tuple[int, int]]] = defaultdict(list)
        for terms in self._wanted.values():
            found[_line(terms)].append(_window(terms))
        return found

    def _is_over(self, terms: QuotaTerms) -> bool:
        return window_end_ms(terms.date, terms.start, terms.end, self._program.zone) <= self._now_ms

    def _differences(self, quota: Quota) -> Iterator[TermChange]:
        """Where ledger and file differ in what matters: a moment that has passed is as good as another one."""
        wanted = self._wanted[quota.id]
        for term in TERMS:
            here, there = getattr(quota.terms, term), getattr(wanted, term)
            if here == there or (term == "opens_at_ms" and max(here, there) <= self._now_ms):
                continue
            yield TermChange(term, here, there)

    def _is_left(self, quota: Quota, change: TermChange) -> bool:
        """Whether the import leaves the term: somebody changed it by hand, or the quota belongs to an opening."""
        return change.term in STAFF_TERMS and (self._is_openings(quota, change) or by_hand(quota, change.term))

    def _is_openings(self, quota: Quota, change: TermChange) -> bool:
        return change.term == "opens_at_ms" and any(each.terms.covers(quota.terms) for each in self._openings)

    def _changed(self, quota: Quota) -> Changed | None:
        changes = [each for each in self._differences(quota) if not self._is_left(quota, each)]
        values = {each.term: each.file for each in changes}
        capacity_wanted = int(values.get("capacity", quota.terms.capacity))
        if "capacity" in values:  # never below what is taken
            values["capacity"] = max(capacity_wanted, min(quota.counts.taken, quota.terms.capacity))
        terms = msgspec.structs.replace(quota.terms, **values)
        if terms == quota.terms:
            return None
        made = tuple(each for each in changes if getattr(terms, each.term) != each.ledger)
        return Changed(quota=quota, terms=terms, changes=made, capacity_wanted=capacity_wanted)

    def _kept(self, quota: Quota) -> Kept | None:
        terms = [
            each
            for each in self._differences(quota)
            if self._is_left(quota, each) and not self._is_openings(quota, each)
        ]
        return Kept(quota=quota, terms=tuple(terms)) if terms else None

    def _outside(self, quota: Quota) -> Outside:
        terms = quota.terms
        is_open = not terms.closed and not 0 < terms.closes_at_ms <= self._now_ms
        overlaps = any(_overlap(_window(terms), window) for window in self._windows.get(_line(terms), ()))
        return Outside(
            quota=quota,
            why=self._why(terms),
            is_open=is_open,
            by_hand=is_open and _closed_by_import(quota) and not overlaps,
        )

    def _why(self, terms: QuotaTerms) -> Why:
        office = self._program.office(terms.office)
        if office is None:
            return Why.OFFICE
        if all((share.service, share.channel) != (terms.service, terms.channel) for share in office.quotas):
            return Why.NOT_OFFERED
        weekday = self._working_days.hours_of(dt.date.fromisoformat(terms.date))
        if weekday is None or office.hours.on(weekday) is None or _line(terms) not in self._windows:
            return Why.DATE
        return Why.WINDOW

    def _affected(self, alive: Sequence[Quota]) -> Iterator[AffectedOpening]:
        for opening in sorted(self._openings, key=lambda each: each.terms.opens_at_ms):
            quotas = [quota for quota in alive if opening.terms.covers(quota.terms)]
            outside = sum(quota.id not in self._wanted for quota in quotas)
            moments = [
                int(change.file)
                for quota in quotas
                if quota.id in self._wanted
                for change in self._differences(quota)
                if change.term == "opens_at_ms"
            ]
            if outside or moments:
                yield AffectedOpening(
                    opening=opening,
                    quotas=len(quotas),
                    elsewhere=len(moments),
                    moments_ms=tuple(sorted(set(moments))),
                    outside=outside,
                )
