"""Applies a program's rules to one date: when offices work and when quotas open."""

import calendar
import datetime as dt
from zoneinfo import ZoneInfo

import holidays as public_holidays

from reservasi.programs.program import (
    DatesOpening,
    DaysBeforeOpening,
    Holidays,
    MonthEndOpening,
    MonthlyOpening,
    NowOpening,
    OpeningRule,
    Weekday,
    WeeklyOpening,
)

DAY = dt.timedelta(days=1)
MIDNIGHT_ENDS = "24:00"


class WorkingDays:
    """Decides which dates are working days, from the public calendar and the program's exceptions.

    Exceptions override the calendar. Holidays of the lunar calendar are estimates until the government announces them
    (in September for the next year): `closed_dates` and `extra_dates` correct them.
    """

    def __init__(self, holidays: Holidays) -> None:
        self._calendar = public_holidays.country_holidays(holidays.country, categories=holidays.categories)
        self._closed = frozenset(holidays.closed_dates)
        self._extra = {extra.date: extra.hours_of for extra in holidays.extra_dates}

    def hours_of(self, day: dt.date) -> Weekday | None:
        """The weekday whose hours apply on that date; None when all offices are closed."""
        if day in self._extra:
            return self._extra[day]
        if day in self._closed or day in self._calendar:
            return None
        return Weekday.of(day)

    def is_working_day(self, day: dt.date) -> bool:
        """Whether the date is a Monday to Friday on which offices work. An opened Saturday is not a working day."""
        return day.weekday() < Weekday.SAT.number and self.hours_of(day) is not None


def at_ms(day: dt.date, time: str, zone: ZoneInfo) -> int:
    """A local date and "HH:MM" in milliseconds since the epoch; "24:00" is midnight of the next day."""
    return int(instant(day, time, zone).timestamp()) * 1000


def instant(day: dt.date, time: str, zone: ZoneInfo) -> dt.datetime:
    """A local date and "HH:MM" as a datetime with its zone; "24:00" is midnight of the next day."""
    if time == MIDNIGHT_ENDS:  # Python and asyncpg cannot parse "24:00"
        day, time = day + DAY, "00:00"
    return dt.datetime.combine(day, dt.time.fromisoformat(time), zone)


def window_end_ms(date: str, start: str, end: str, zone: dt.tzinfo) -> int:
    """The end of a window of that local date; "24:00", or an end that is not after the start, is on the next day.

    Raises:
        ValueError: `date`, `start` or `end` cannot be parsed.
    """
    hour, minute = map(int, end.split(":"))
    after_midnight = dt.timedelta(days=end <= start, hours=hour, minutes=minute)
    midnight = dt.datetime.combine(dt.date.fromisoformat(date), dt.time(), tzinfo=zone)
    return int((midnight + after_midnight).timestamp() * 1000)


def opens_at_ms(rule: OpeningRule, day: dt.date, working_days: WorkingDays, zone: ZoneInfo) -> int | None:
    """The moment at which the quotas of the date `day` open, in milliseconds since the epoch.

    0: open from the start. None: no opening covers that date.
    """
    if isinstance(rule, NowOpening):
        return 0
    if isinstance(rule, DatesOpening):
        covering = next((opening for opening in rule.openings if opening.first <= day <= opening.last), None)
        return None if covering is None else at_ms(covering.date, covering.time, zone)
    return at_ms(_opening_date(rule, day, working_days), rule.time, zone)


def _opening_date(
    rule: WeeklyOpening | MonthlyOpening | MonthEndOpening | DaysBeforeOpening, day: dt.date, working_days: WorkingDays
) -> dt.date:
    if isinstance(rule, WeeklyOpening):
        monday = day - day.weekday() * DAY
        return monday + (rule.weekday.number - 7 * rule.weeks_ahead) * DAY
    if isinstance(rule, DaysBeforeOpening):
        return day - rule.days * DAY
    if isinstance(rule, MonthEndOpening):
        return _last_working_day(day.replace(day=1) - DAY, rule.working_day, working_days)
    latest = day - rule.lead_days * DAY
    month_before = latest.replace(day=1) - DAY
    dates = [_in_month(month, number) for month in (month_before, latest) for number in rule.days]
    return max(date for date in dates if date <= latest)


def _in_month(month: dt.date, number: int) -> dt.date:
    """That day of the month, or the last day of a shorter month."""
    return month.replace(day=min(number, calendar.monthrange(month.year, month.month)[1]))


def _last_working_day(month_end: dt.date, number: int, working_days: WorkingDays) -> dt.date:
    """The `number`-th working day counted from the end of a month; its first day if there are not so many."""
    dates = [month_end - back * DAY for back in range(month_end.day)]
    worked = [date for date in dates if working_days.is_working_day(date)]
    return worked[number - 1] if len(worked) >= number else dates[-1]


def least_lead_days(rule: OpeningRule) -> int | None:
    """The least number of days between an opening and a date that it covers; None when quotas are always open."""
    if isinstance(rule, NowOpening):
        return None
    if isinstance(rule, WeeklyOpening):
        return 7 * rule.weeks_ahead - rule.weekday.number
    if isinstance(rule, MonthlyOpening):
        return rule.lead_days
    if isinstance(rule, MonthEndOpening):
        return 1
    if isinstance(rule, DaysBeforeOpening):
        return rule.days
    return min((opening.first - opening.date).days for opening in rule.openings)
