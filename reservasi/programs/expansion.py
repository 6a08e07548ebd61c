"""Expands a program into slots and quotas for a range of dates."""

import datetime as dt
from collections.abc import Iterator, Sequence

import msgspec

from reservasi import model
from reservasi.errors import ConfigurationError
from reservasi.programs.openings import DAY, WorkingDays, at_ms, opens_at_ms
from reservasi.programs.program import DayHours, Office, Program, Share, Weekday

EXPAND_DAYS_MAX = 366


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A time window of one day and the places that a share offers in it."""

    share: Share
    start: str  # "HH:MM"
    end: str
    places: int


def expand(program: Program, first: dt.date, last: dt.date, *, open_now: bool = False) -> list[model.SetQuota]:
    """The quotas of all dates from `first` to `last`, both included, ordered by date, office and time.

    Depends only on its arguments: the same program and range give the same ids and terms, so that importing twice
    changes nothing. A window without a place gets no quota. `open_now` opens all quotas from the start, regardless of
    the opening rule.

    Raises:
        ConfigurationError: the range is reversed or longer than `EXPAND_DAYS_MAX`, or holds more quotas than a
            program may have.
    """
    days = (last - first).days + 1
    if not 1 <= days <= EXPAND_DAYS_MAX:
        raise ConfigurationError(
            f"{first} to {last} cannot be expanded: give 1 to {EXPAND_DAYS_MAX} days, the first before the last"
        )
    return expand_dates(program, [first + number * DAY for number in range(days)], open_now=open_now)


def expand_dates(program: Program, dates: Sequence[dt.date], *, open_now: bool = False) -> list[model.SetQuota]:
    """The quotas of these dates, as `expand` has them.

    Raises:
        ConfigurationError: they hold more quotas than a program may have.
    """
    working_days = WorkingDays(program.holidays)
    commands: list[model.SetQuota] = []
    for day in dates:
        commands.extend(_day_quotas(program, day, working_days, open_now=open_now))
        if len(commands) > model.QUOTAS_MAX:
            raise ConfigurationError(
                f"{program.id}: {dates[0]} to {dates[-1]} holds more than {model.QUOTAS_MAX} quotas by {day}: "
                "import fewer days"
            )
    return commands


def windows(hours: DayHours, share: Share, slot_minutes: int) -> list[tuple[int, int]]:
    """The windows of one day as (start, end) in minutes since midnight; a rest too short for a window is left out."""
    return [
        (start, start + slot_minutes)
        for begin, end in segments(hours, share)
        for start in range(begin, end - slot_minutes + 1, slot_minutes)
    ]


def segments(hours: DayHours, share: Share) -> list[tuple[int, int]]:
    """The parts of a day in which a share is offered: within the hours and its own limits, without the break."""
    begin = max(minutes(hours.open), minutes(share.start or hours.open))
    end = min(minutes(hours.close), minutes(share.end or hours.close))
    if hours.break_start is None or hours.break_end is None:
        return [(begin, end)] if begin < end else []
    halves = [(begin, min(end, minutes(hours.break_start))), (max(begin, minutes(hours.break_end)), end)]
    return [(start, stop) for start, stop in halves if start < stop]


def spread(places: int, parts: int) -> list[int]:
    """`places` divided over `parts` windows; where it does not divide evenly, the first windows get one more."""
    least, rest = divmod(places, parts)
    return [least + (part < rest) for part in range(parts)]


def minutes(time: str) -> int:
    """ "HH:MM" as minutes since midnight."""
    hour, minute = time.split(":")
    return int(hour) * 60 + int(minute)


def clock(since_midnight: int) -> str:
    """Minutes since midnight as "HH:MM"."""
    return f"{since_midnight // 60:02d}:{since_midnight % 60:02d}"


def share_windows(office: Office, share: Share, weekday: Weekday) -> list[Window]:
    """The windows of a share at the office on that weekday; windows without a place are left out."""
    hours = office.hours.on(weekday)
    if hours is None:
        return []
    slots = windows(hours, share, share.slot_minutes or office.slot_minutes)
    if not slots:
        return []
    each = spread(share.per_day, len(slots)) if share.per_day is not None else [share.per_slot or 0] * len(slots)
    return [
        Window(share=share, start=clock(start), end=clock(end), places=places)
        for (start, end), places in zip(slots, each, strict=True)
        if places
    ]


def _day_quotas(
    program: Program, day: dt.date, working_days: WorkingDays, *, open_now: bool
) -> Iterator[model.SetQuota]:
    weekday = working_days.hours_of(day)
    opening_ms = 0 if open_now else opens_at_ms(program.opening, day, working_days, program.zone)
    if weekday is None or opening_ms is None:
        return
    for office in program.offices:
        offered = [window for share in office.quotas for window in share_windows(office, share, weekday)]
        for window in sorted(offered, key=lambda window: (window.start, window.end)):
            yield model.SetQuota(
                quota=program.quota_id(office.id, window.share.service, day, window.start, window.share.channel),
                terms=_terms(program, office.id, day, window, opening_ms=opening_ms),
                actor=model.IMPORT_ACTOR,
            )


def _terms(program: Program, office_id: str, day: dt.date, window: Window, *, opening_ms: int) -> model.QuotaTerms:
    policies = program.policies
    start_ms = at_ms(day, window.start, program.zone)
    return model.QuotaTerms(
        capacity=window.places,
        opens_at_ms=opening_ms,
        closes_at_ms=start_ms - policies.closes_before_min * 60_000,
        cancel_until_ms=_cancel_until_ms(program, day, start_ms),
        hold_ms=policies.hold_s * 1000,
        return_min_ms=policies.return_delay_min_s * 1000,
        return_max_ms=policies.return_delay_max_s * 1000,
        closed=False,
        office=office_id,
        service=window.share.service,
        channel=window.share.channel,
        date=day.isoformat(),
        start=window.start,
        end=window.end,
    )


def _cancel_until_ms(program: Program, day: dt.date, start_ms: int) -> int:
    """The last moment for a cancellation by the program's rule, at the latest the beginning of the slot."""
    policy = program.policies.cancel_until
    if policy is None:
        return start_ms
    return min(at_ms(day - policy.days_before * DAY, policy.time, program.zone), start_ms)
