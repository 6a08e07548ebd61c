"""Checks that the types cannot express: whether the parts of a program fit together.

Each readable part is checked, even when another part of the file is broken. References are checked against the ids as
written in the file, so that one wrong service is reported once.
"""

import zoneinfo
from collections.abc import Iterable, Iterator

import holidays as public_holidays
import msgspec

from reservasi import model
from reservasi.programs.expansion import clock, minutes, segments, share_windows
from reservasi.programs.openings import least_lead_days
from reservasi.programs.program import (
    AnnouncedRule,
    DatesOpening,
    DayHours,
    Holidays,
    MonthlyOpening,
    NowOpening,
    Office,
    OpeningRule,
    Policies,
    Share,
    Weekday,
)
from reservasi.programs.structure import Fault, shown


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a file that could be read; a broken part is None or absent."""

    timezone: str | None
    policies: Policies | None
    opening: OpeningRule | None
    holidays: Holidays | None
    offices: dict[int, Office]  # by position in the file
    office_ids: list[str | None]  # of all offices, including broken ones
    service_ids: list[str | None] | None  # None: the file has no such list
    channel_ids: list[str | None] | None


def check(draft: Draft) -> Iterator[Fault]:
    """All contradictions within the readable parts and between them."""
    if draft.timezone is not None:
        yield from _timezone_faults(draft.timezone)
    if draft.holidays is not None:
        yield from _holiday_faults(draft.holidays)
    if draft.opening is not None:
        yield from _opening_faults(draft.opening)
    if draft.policies is not None:
        yield from _policy_faults(draft.policies)
    for kind, ids in (
        ("services", draft.service_ids),
        ("channels", draft.channel_ids),
        ("offices", draft.office_ids),
    ):
        yield from _repeated(ids or [], kind, ".id")
    for number, office in draft.offices.items():
        yield from _office_faults(office, f"offices[{number}]", draft)
    yield from _lead_faults(draft)
    week = sum(len(share_windows(o, s, d)) for o in draft.offices.values() for s in o.quotas for d in Weekday)
    if week > model.QUOTAS_MAX:
        yield "offices", f"one week alone holds {week} quotas; a program may have {model.QUOTAS_MAX}"


def _repeated(items: Iterable[object], path: str, field: str = "") -> Iterator[Fault]:
    first_seen: dict[object, int] = {}
    for number, item in enumerate(items):
        if item is None:
            continue
        first = first_seen.setdefault(item, number)
        if first != number:
            yield f"{path}[{number}]{field}", f"{shown(item)} is already {path}[{first}]{field}"


def _timezone_faults(timezone: str) -> Iterator[Fault]:
    try:
        zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        yield "timezone", f"{shown(timezone)} is not a time zone; use a name such as Asia/Jakarta"


def _holiday_faults(holidays: Holidays) -> Iterator[Fault]:
    countries = public_holidays.list_supported_countries()
    if holidays.country not in countries:
        yield "holidays.country", f"there is no public calendar for {shown(holidays.country)}"
    else:
        supported = sorted(public_holidays.country_holidays(holidays.country).supported_categories)
        for number, category in enumerate(holidays.categories):
            if category not in supported:
                yield f"holidays.categories[{number}]", f"{shown(category)} is unknown; one of {', '.join(supported)}"
    yield from _repeated(holidays.closed_dates, "holidays.closed_dates")
    yield from _repeated((extra.date for extra in holidays.extra_dates), "holidays.extra_dates", ".date")
    for number, extra in enumerate(holidays.extra_dates):
        if extra.date in holidays.closed_dates:
            yield f"holidays.extra_dates[{number}].date", f"{extra.date} is also one of closed_dates"


def _policy_faults(policies: Policies) -> Iterator[Fault]:
    if policies.return_delay_min_s > policies.return_delay_max_s:
        yield (
            "policies.return_delay_max_s",
            f"{policies.return_delay_max_s} is below return_delay_min_s ({policies.return_delay_min_s})",
        )


def _opening_faults(opening: OpeningRule) -> Iterator[Fault]:
    room = opening.waiting_room if isinstance(opening, AnnouncedRule) else None
    if room is not None and room.rate_per_min > room.rate_max_per_min:
        yield (
            "opening.waiting_room.rate_max_per_min",
            f"{room.rate_max_per_min} is below rate_per_min ({room.rate_per_min})",
        )
    if isinstance(opening, MonthlyOpening):
        yield from _repeated(opening.days, "opening.days")
    if not isinstance(opening, DatesOpening):
        return
    for number, one in enumerate(opening.openings):
        path = f"opening.openings[{number}]"
        if one.last < one.first:
            yield f"{path}.last", f"{one.last} lies before first ({one.first})"
        for earlier, other in enumerate(opening.openings[:number]):
            if one.first <= other.last and other.first <= one.last:
                yield f"{path}.first", f"covers dates that opening.openings[{earlier}] covers already"
                break


def _lead_faults(draft: Draft) -> Iterator[Fault]:
    """Quotas must open before they close, even for the latest opening and the earliest slot."""
    if draft.opening is None or draft.policies is None or isinstance(draft.opening, NowOpening):
        return
    days = [hours for office in draft.offices.values() for _, hours in _open_days(office)]
    lead_days = least_lead_days(draft.opening)
    if not days or lead_days is None:
        return
    times = (
        [o.time for o in draft.opening.openings] if isinstance(draft.opening, DatesOpening) else [draft.opening.time]
    )
    lead_min = lead_days * 1440 - max(map(minutes, times)) + min(minutes(hours.open) for hours in days)
    if lead_min <= 0:
        yield "opening", "opens some quotas after their slot has begun; choose an earlier opening"
    elif lead_min <= draft.policies.closes_before_min:
        yield (
            "policies.closes_before_min",
            f"{draft.policies.closes_before_min} closes some quotas before they open; less than {lead_min} is allowed",
        )


def _office_faults(office: Office, path: str, draft: Draft) -> Iterator[Fault]:
    days = list(_open_days(office))
    if not days:
        yield f"{path}.hours", "no weekday is open"
    hours_faults = [fault for weekday, hours in days for fault in _hours_faults(hours, f"{path}.hours.{weekday}")]
    yield from hours_faults
    if (office.latitude is None) != (office.longitude is None):
        yield f"{path}.{'longitude' if office.longitude is None else 'latitude'}", "is missing; give both or neither"
    yield from _repeated(office.services, f"{path}.services")
    for number, service in enumerate(office.services):
        if draft.service_ids is not None and service not in draft.service_ids:
            yield f"{path}.services[{number}]", f"{shown(service)} is not a service of the program"
        elif all(share.service != service for share in office.quotas):
            yield f"{path}.services[{number}]", f"{shown(service)} has no quota at this office"
    first_seen: dict[tuple[str, str], int] = {}
    for number, share in enumerate(office.quotas):
        share_path = f"{path}.quotas[{number}]"
        first = first_seen.setdefault((share.service, share.channel), number)
        if first != number:
            yield share_path, f"repeats service and channel of {path}.quotas[{first}]"
        yield from _share_faults(share, share_path, office, draft.channel_ids)
        if not hours_faults:
            yield from _fit_faults(share, share_path, office)


def _open_days(office: Office) -> Iterator[tuple[Weekday, DayHours]]:
    for weekday in Weekday:
        hours = office.hours.on(weekday)
        if hours is not None:
            yield weekday, hours


def _hours_faults(hours: DayHours, path: str) -> Iterator[Fault]:
    if hours.close <= hours.open:
        yield f"{path}.close", f"{shown(hours.close)} must be later than open ({hours.open})"
        return
    if hours.break_start is None and hours.break_end is None:
        return
    if hours.break_start is None or hours.break_end is None:
        missing = "break_start" if hours.break_start is None else "break_end"
        yield f"{path}.{missing}", "is missing; give both ends of the break or neither"
    elif hours.break_end <= hours.break_start:
        yield f"{path}.break_end", f"{shown(hours.break_end)} must be later than break_start ({hours.break_start})"
    elif hours.break_start <= hours.open or hours.break_end > hours.close:
        yield f"{path}.break_start", f"the break must lie within {hours.open} to {hours.close}"


def _share_faults(share: Share, path: str, office: Office, channel_ids: list[str | None] | None) -> Iterator[Fault]:
    if share.service not in office.services:
        yield f"{path}.service", f"{shown(share.service)} is not a service of this office"
    if channel_ids is not None and share.channel not in channel_ids:
        yield f"{path}.channel", f"{shown(share.channel)} is not a channel of the program"
    if (share.per_day is None) == (share.per_slot is None):
        given = "is missing" if share.per_day is None else "and per_slot are both given"
        yield f"{path}.per_day", f"{given}; give exactly one of per_day and per_slot"


def _fit_faults(share: Share, path: str, office: Office) -> Iterator[Fault]:
    """Whether the share's windows fit into the office's hours. The hours were checked before."""
    days = list(_open_days(office))
    if not days:
        return
    opens, closes = min(hours.open for _, hours in days), max(hours.close for _, hours in days)
    if share.start is not None and not opens <= share.start < closes:
        yield f"{path}.start", f"{shown(share.start)} lies outside the office's hours ({opens} to {closes})"
    elif share.end is not None and not (share.start or opens) < share.end <= closes:
        yield f"{path}.end", f"{shown(share.end)} must lie after {share.start or opens} and not after {closes}"
    else:
        yield from _slot_faults(share, path, office, days)


def _slot_faults(share: Share, path: str, office: Office, days: list[tuple[Weekday, DayHours]]) -> Iterator[Fault]:
    slot_minutes = share.slot_minutes or office.slot_minutes
    stretches = [(weekday, stretch) for weekday, hours in days for stretch in segments(hours, share)]
    if not stretches:
        yield path, "no day has a window for it: it lies within the break or outside the hours of every day"
    for weekday, (begin, end) in stretches:
        if (end - begin) % slot_minutes:
            field = f"{path}.slot_minutes" if share.slot_minutes else f"{path.rpartition('.')[0]}.slot_minutes"
            stretch = f"{clock(begin)} to {clock(end)} on {weekday}"
            yield field, f"{slot_minutes} does not divide the {end - begin} minutes from {stretch}"
            return
