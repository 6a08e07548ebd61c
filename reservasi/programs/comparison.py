"""The plan of an import: compares a program file with the quotas in the ledger. Pure.

Three values of each term are compared: the file's, the ledger's, and the value that the last import set
(`Quota.imported`). If the ledger's value equals neither of the others, somebody changed it by hand, and the import
leaves it. A quota whose window is not in the file is `Outside`: the import closes it and cancels no reservation in it.
It must be closed because windows of one line (office, service, channel) must not overlap.

Time that staff closed stays closed: a new quota in it is created closed, so that other slot lengths or a further
service do not open a day again that staff had closed.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from reservasi.model import NOT_KNOWN, STAFF_TERMS, Opening, Quota, QuotaTerms, SetQuota
from reservasi.programs.expansion import expand_dates, minutes
from reservasi.programs.openings import WorkingDays, window_end_ms
from reservasi.programs.program import AnnouncedRule, Program

MINUTE_MS = 60_000
TERMS = QuotaTerms.__struct_fields__


class Why(StrEnum):
    """Why a quota is not in the file."""

    OFFICE = "office"  # the file does not have the office
    NOT_OFFERED = "not-offered"  # the office does not offer the service through this channel
    DATE = "date"  # nothing is offered on the date: a holiday, a closed date, a weekday without hours, or no opening
    WINDOW = "window"  # the hours or slot lengths differ


class TermChange(msgspec.Struct, frozen=True):
    """A term's value in the ledger and in the file."""

    term: str
    ledger: int | bool | str
    file: int | bool | str


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A quota whose terms the import changes."""

    quota: Quota
    terms: QuotaTerms  # after the change
    changes: tuple[TermChange, ...]
    capacity_wanted: int  # the file's capacity; `terms.capacity` is larger where more places are taken

    @property
    def moves_window(self) -> bool:
        """Whether people with a booking here get another time than the one they were given."""
        return self.terms.end != self.quota.terms.end

    @property
    def shortens(self) -> bool:
        """Whether people with a booking here have less time to confirm or to cancel it than before."""
        before, after = self.quota.terms, self.terms
        deadlines = ((before.closes_at_ms, after.closes_at_ms), (before.cancel_until_ms, after.cancel_until_ms))
        return any(new > 0 and (not old or new < old) for old, new in deadlines)

    def command(self, actor: str, reason: str) -> SetQuota:
        """The command that changes the quota, unless somebody changed it in the meantime."""
        version = self.quota.counts.version
        return SetQuota(quota=self.quota.id, terms=self.terms, version=version, actor=actor, reason=reason)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A quota with terms that somebody changed by hand."""

    quota: Quota
    terms: tuple[TermChange, ...]  # the terms that the import leaves


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """A quota that is not in the file."""

    quota: Quota
    why: Why
    is_open: bool  # people can claim it now or after it opens
    by_hand: bool  # an import closed it and somebody opened it again: it stays open

    @property
    def closes(self) -> bool:
        """Whether the import closes it."""
        return self.is_open and not self.by_hand

    @property
    def people(self) -> int:
        """Places that are held or confirmed here."""
        return self.quota.counts.held + self.quota.counts.confirmed


class AffectedOpening(msgspec.Struct, frozen=True, kw_only=True):
    """An opening that has not ended and that differs from the file. An import never changes an opening."""

    opening: Opening
    quotas: int  # that open with it
    elsewhere: int  # quotas of these that the file opens at another moment: they stay with the opening
    moments_ms: tuple[int, ...]  # the file's moments for those; 0: open from the start
    outside: int  # quotas of these that are not in the file
    split_off: int  # new quotas that the file opens at one of its moments for the others, or at the one before a move
    split_off_ms: tuple[int, ...]  # the moments of those
    room: tuple[TermChange, ...] = ()  # terms of its waiting room, which are as they were when it was created


class ChangedChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that becomes public, or that only staff may claim from now on, with its quotas whose window goes on."""

    channel: str
    public: bool  # in the file
    quotas: int  # that are not closed
    held: int
    booked: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an import would do."""

    new: tuple[SetQuota, ...]
    changed: tuple[Changed, ...]
    kept: tuple[Kept, ...]
    outside: tuple[Outside, ...]
    openings: tuple[AffectedOpening, ...]
    unchanged: int
    over: int  # quotas only in the ledger whose window has passed: left unchanged
    past: int  # quotas only in the file whose window has passed: not created, since they would retire at once
    total: int  # quotas of the file, including the past ones
    moved: tuple[Quota, ...] = ()  # quotas with bookings whose window the file's time zone moves
    channels: tuple[ChangedChannel, ...] = ()

    @property
    def new_closed(self) -> list[SetQuota]:
        """The new quotas that are created closed, since staff closed their time."""
        return [each for each in self.new if each.terms is not None and each.terms.closed]

    @property
    def closing(self) -> list[Outside]:
        """The quotas that the import closes."""
        return [each for each in self.outside if each.closes]

    @property
    def only_adds(self) -> bool:
        """Whether nothing that exists is changed or closed."""
        return not (self.changed or self.closing or self.moved or self.channels)

    @property
    def says_more(self) -> bool:
        """Whether there is anything other than new, unchanged and past quotas."""
        more = (self.changed, self.kept, self.outside, self.openings, self.moved, self.channels, self.new_closed)
        return any(more)


def compare(
    program: Program, wanted: Sequence[SetQuota], existing: Iterable[Quota], openings: Iterable[Opening], now_ms: int
) -> Plan:
    """The plan that brings the ledger's quotas to the file's terms; `existing` are the ledger's quotas of the same
    dates.
    """
    return _Comparison(program, wanted, openings, now_ms).plan(sorted(existing, key=lambda quota: quota.id))


def moved_by_zone(former: Program | None, program: Program, quotas: Iterable[Quota], now_ms: int) -> tuple[Quota, ...]:
    """The quotas with bookings whose window has not ended and begins at another moment in the program's new time
    zone.
    """
    if former is None or former.timezone == program.timezone:
        return ()

    def moments(quota: Quota) -> list[int]:
        terms = quota.terms
        return [window_end_ms(terms.date, terms.start, terms.end, each.zone) for each in (former, program)]

    taken = [quota for quota in quotas if quota.counts.held or quota.counts.confirmed]
    return tuple(quota for quota in taken if max(both := moments(quota)) > now_ms and both[0] != both[1])


def changed_channels(
    former: Program | None, program: Program, quotas: Iterable[Quota], now_ms: int
) -> tuple[ChangedChannel, ...]:
    """The channels whose places the public may claim from now on, or no longer, if there are any."""
    before = {channel.id: channel.public for channel in former.channels} if former else {}
    changed = [each for each in program.channels if before.get(each.id, each.public) != each.public]
    by_channel: defaultdict[str, list[Quota]] = defaultdict(list)
    for quota in quotas if changed else ():
        terms = quota.terms
        if not terms.closed and window_end_ms(terms.date, terms.start, terms.end, program.zone) > now_ms:
            by_channel[terms.channel].append(quota)
    return tuple(
        ChangedChannel(
            channel=each.id,
            public=each.public,
            quotas=len(of_it),
            held=sum(quota.counts.held for quota in of_it),
            booked=sum(quota.counts.confirmed for quota in of_it),
        )
        for each in changed
        if (of_it := by_channel[each.id])
    )


def by_hand(quota: Quota, term: str) -> bool:
    """Whether somebody changed the term after an import had set it.

    Also true where an earlier version did not store what the import had set, and where an import created the quota
    closed, since staff had closed its time.
    """
    if not quota.imported:
        return quota.counts.version > 1 or (term == "closed" and quota.terms.closed)
    imported = quota.imported[STAFF_TERMS.index(term)]
    return imported in (NOT_KNOWN,) or imported != int(getattr(quota.terms, term))


def in_the_way(program: Program, quota: Quota, others: Iterable[Quota]) -> Quota | None:
    """The open quota of the same line whose window overlaps, so that the closed quota cannot be opened again.

    If neither an import closed the quota nor the program's file has its window, only windows of the file count.
    """
    overlapping = [other for other in others if is_overlapping(quota, other)]
    if not overlapping or _closed_by_import(quota):
        return next(iter(overlapping), None)
    expanded = expand_dates(program, [dt.date.fromisoformat(quota.terms.date)], open_now=True)
    windows = {(_line(each.terms), _window(each.terms)) for each in expanded if each.terms is not None}
    if (_line(quota.terms), _window(quota.terms)) in windows:
        return overlapping[0]
    return next((other for other in overlapping if (_line(other.terms), _window(other.terms)) in windows), None)


def is_overlapping(quota: Quota, other: Quota) -> bool:
    """Whether another quota of the same line and date is not closed and overlaps this one."""
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


class _ClosedTimes:
    """The times that staff closed: windows of a line, and days of an office on which they closed every quota."""

    def __init__(self, quotas: Iterable[Quota]) -> None:
        self._windows: defaultdict[tuple[str, str, str, str], list[tuple[int, int]]] = defaultdict(list)
        self._days: set[tuple[str, str]] = set()
        other_days: set[tuple[str, str]] = set()
        for quota in quotas:
            terms = quota.terms
            if terms.closed and by_hand(quota, "closed"):
                self._windows[_line(terms)].append(_window(terms))
                self._days.add((terms.office, terms.date))
            else:
                other_days.add((terms.office, terms.date))
        self._days -= other_days

    def contain(self, terms: QuotaTerms) -> bool:
        """Whether a window overlaps one of them."""
        windows = self._windows.get(_line(terms), ())
        return (terms.office, terms.date) in self._days or any(_overlap(_window(terms), each) for each in windows)


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
        self._closed_times = _ClosedTimes(())

    def plan(self, existing: list[Quota]) -> Plan:
        """Put every quota into the plan; a quota may be changed in one term and kept in another."""
        over = [quota for quota in existing if self._is_over(quota.terms)]
        alive = [quota for quota in existing if not self._is_over(quota.terms)]
        self._closed_times = _ClosedTimes(alive)
        inside = [quota for quota in alive if quota.id in self._wanted]
        changed = [each for quota in inside if (each := self._changed(quota)) is not None]
        kept = [left for quota in existing if quota.id in self._wanted and (left := self._kept(quota)) is not None]
        outside = [self._outside(quota) for quota in alive if quota.id not in self._wanted]
        existing_ids = {quota.id for quota in existing}
        touched = {each.quota.id for each in changed} | {left.quota.id for left in kept}
        missing = [each for each in self._commands if each.quota not in existing_ids]
        new = tuple(self._new(each) for each in missing if each.terms is not None and not self._is_over(each.terms))
        return Plan(
            new=new,
            changed=tuple(changed),
            kept=tuple(kept),
            outside=tuple(outside),
            openings=tuple(self._affected(alive, new)),
            unchanged=sum(quota.id in self._wanted and quota.id not in touched for quota in existing),
            over=sum(quota.id not in self._wanted for quota in over),
            past=len(missing) - len(new),
            total=len(self._commands),
        )

    def _new(self, command: SetQuota) -> SetQuota:
        terms = command.terms
        if terms is None or not self._closed_times.contain(terms):
            return command
        return msgspec.structs.replace(command, terms=msgspec.structs.replace(terms, closed=True))

    def _windows_by_line(self) -> Mapping[tuple[str, str, str, str], list[tuple[int, int]]]:
        windows: defaultdict[tuple[str, str, str, str], list[tuple[int, int]]] = defaultdict(list)
        for terms in self._wanted.values():
            windows[_line(terms)].append(_window(terms))
        return windows

    def _is_over(self, terms: QuotaTerms) -> bool:
        return window_end_ms(terms.date, terms.start, terms.end, self._program.zone) <= self._now_ms

    def _differences(self, quota: Quota) -> Iterator[TermChange]:
        """The terms in which ledger and file differ; two moments that have both passed count as equal."""
        wanted = self._wanted[quota.id]
        for term in TERMS:
            here, there = getattr(quota.terms, term), getattr(wanted, term)
            if here == there or (term == "opens_at_ms" and max(here, there) <= self._now_ms):
                continue
            yield TermChange(term, here, there)

    def _is_left(self, quota: Quota, change: TermChange) -> bool:
        """Whether the import leaves the term: it was changed by hand, as other quotas of its time were, or the quota
        belongs to an opening.
        """
        if change.term not in STAFF_TERMS:
            return False
        is_closed_time = change.term == "closed" and quota.terms.closed and self._closed_times.contain(quota.terms)
        return is_closed_time or self._is_openings(quota, change) or by_hand(quota, change.term)

    def _is_openings(self, quota: Quota, change: TermChange) -> bool:
        return change.term == "opens_at_ms" and any(each.covers(quota.terms) for each in self._openings)

    def _changed(self, quota: Quota) -> Changed | None:
        changes = [each for each in self._differences(quota) if not self._is_left(quota, each)]
        values = {each.term: each.file for each in changes}
        capacity_wanted = int(values.get("capacity", quota.terms.capacity))
        if "capacity" in values:  # never below the places taken
            values["capacity"] = max(capacity_wanted, min(quota.counts.taken, quota.terms.capacity))
        terms = msgspec.structs.replace(quota.terms, **values)
        if terms == quota.terms:
            return None
        effective = tuple(each for each in changes if getattr(terms, each.term) != each.ledger)
        return Changed(quota=quota, terms=terms, changes=effective, capacity_wanted=capacity_wanted)

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

    def _affected(self, alive: Sequence[Quota], new: Iterable[SetQuota]) -> Iterator[AffectedOpening]:
        added = [each.terms for each in new if each.terms is not None]
        for opening in sorted(self._openings, key=lambda each: each.terms.opens_at_ms):
            quotas = [quota for quota in alive if opening.covers(quota.terms)]
            outside = sum(quota.id not in self._wanted for quota in quotas)
            moments = [
                int(change.file)
                for quota in quotas
                if quota.id in self._wanted
                for change in self._differences(quota)
                if change.term == "opens_at_ms"
            ]
            split_off = [] if opening.cancelled else self._split_off(opening, moments, added)
            is_announced = any(self._opens_with(opening, quota) for quota in quotas)
            room = tuple(self._room_differences(opening, quotas)) if is_announced else ()
            if outside or moments or split_off or room:
                yield AffectedOpening(
                    opening=opening,
                    quotas=len(quotas),
                    elsewhere=len(moments),
                    moments_ms=tuple(sorted(set(moments))),
                    outside=outside,
                    split_off=len(split_off),
                    split_off_ms=tuple(sorted(set(split_off))),
                    room=room,
                )

    def _opens_with(self, opening: Opening, quota: Quota) -> bool:
        """Whether the file opens the quota with this opening, which is still to come."""
        wanted, opens_at_ms = self._wanted.get(quota.id), opening.terms.opens_at_ms
        return wanted is not None and wanted.opens_at_ms == opens_at_ms > self._now_ms and not opening.cancelled

    def _room_differences(self, opening: Opening, quotas: Iterable[Quota]) -> Iterator[TermChange]:
        """The terms in which the opening's waiting room and the file's differ; staff may have moved its end."""
        rule, terms = self._program.opening, opening.terms
        room = rule.waiting_room if isinstance(rule, AnnouncedRule) else None
        if room is None or not terms.waiting_room:
            if (room is not None) != terms.waiting_room:
                yield TermChange("waiting_room", terms.waiting_room, room is not None)
            return
        here = {
            "joins_before_min": (terms.opens_at_ms - terms.joins_from_ms) // MINUTE_MS,
            "rate_per_min": terms.rate_per_min,
            "rate_max_per_min": terms.rate_max_per_min,
            "adaptive": terms.adaptive,
            "proof_of_work": terms.proof_of_work,
        }
        there = {name: getattr(room, name) for name in here}
        there["rate_max_per_min"] = max(room.rate_max_per_min, room.rate_per_min)
        lasting_ms = terms.ends_at_ms - terms.opens_at_ms
        closings = {quota.terms.closes_at_ms for quota in quotas}
        if opening.revision == 0 and not (lasting_ms < room.lasts_min * MINUTE_MS and terms.ends_at_ms in closings):
            here["lasts_min"], there["lasts_min"] = lasting_ms // MINUTE_MS, room.lasts_min
        yield from (TermChange(name, here[name], there[name]) for name in here if here[name] != there[name])

    def _split_off(self, opening: Opening, moments: Iterable[int], added: Iterable[QuotaTerms]) -> list[int]:
        """The moments of new quotas that would open with this opening if it were at the file's moment."""
        former = {*moments, opening.moved_from_ms} - {0, opening.terms.opens_at_ms}
        offices = opening.terms.offices
        return [
            terms.opens_at_ms
            for terms in added
            if terms.opens_at_ms in former and (not offices or terms.office in offices)
        ]
