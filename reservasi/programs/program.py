"""The types of a program: offices, services, channels, rules, and opening times.

The same types are read from TOML files, stored as JSON (`msgspec.json`) and shown to the public. Times of day are
"HH:MM", local to the program's time zone; the end of a window may be "24:00".
"""

import datetime as dt
from enum import StrEnum
from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from reservasi import model

HOLD_MIN_S = 10  # nobody can pay faster: detects hours or minutes written in place of seconds
HOLD_MAX_S = 14 * 86_400
RETURN_DELAY_MAX_S = 7 * 86_400
SLOT_MINUTES_MIN = 5
DAYS_AHEAD_MAX = 366
WAITING_MIN_MAX = 7 * 1440  # minutes; longest join window and longest waiting room
RATE_PER_MIN_MAX = 1_000_000
OFFICES_MAX = 200  # in one program

ID_PATTERN = "[a-z0-9-]{2,32}"
Id = Annotated[str, Meta(pattern=rf"^{ID_PATTERN}\Z", description="2 to 32 of a-z, 0-9 and -")]
TimeOfDay = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z", description='a time such as "08:00"')]
EndOfWindow = Annotated[
    str,
    Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z", description='a time such as "15:00", at most "24:00"'),
]  # "24:00" is midnight at the end of the day
FOR_PEOPLE = {"for_people": True}  # marks texts of a program file that are tidied when it is read
Words = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*\Z",
        description="1 to 200 characters, none of them a control character",
        extra=FOR_PEOPLE,
    ),
]  # a name or an address
Places = Annotated[int, Meta(ge=0, le=model.CAPACITY_MAX)]
DaysAhead = Annotated[int, Meta(ge=0, le=DAYS_AHEAD_MAX)]
SlotMinutes = Annotated[int, Meta(ge=SLOT_MINUTES_MIN, le=1440)]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts of a program: immutable, and unknown fields are refused."""


class Text(Rule, frozen=True, kw_only=True):
    """A text shown to the public, in both languages of the service."""

    id: Words  # Indonesian
    en: Words  # English


class Weekday(StrEnum):
    """A day of the week as program files write it."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"

    @property
    def number(self) -> int:
        """Monday is 0, as in `datetime.date.weekday`."""
        return list(Weekday).index(self)

    @classmethod
    def of(cls, day: dt.date) -> "Weekday":
        """The weekday of a date."""
        return list(cls)[day.weekday()]


class OfficeKind(StrEnum):
    """What kind of unit an office is."""

    KANIM = "kanim"  # kantor imigrasi: the immigration office itself
    ULP = "ulp"  # unit layanan paspor: a passport service unit outside the office
    UKK = "ukk"  # unit kerja kantor: a working unit in another regency
    MPP = "mpp"  # mal pelayanan publik: a counter in a public service mall


class CancelUntil(Rule, frozen=True, kw_only=True):
    """The applicant's last moment for a cancellation, counted back from the slot's date."""

    days_before: DaysAhead
    time: TimeOfDay


class Policies(Rule, frozen=True, kw_only=True):
    """The program's rules about reservations."""

    hold_s: Annotated[int, Meta(ge=HOLD_MIN_S, le=HOLD_MAX_S)]  # how long claimed places wait for the payment
    # A returned place becomes available after a random delay between these two, so that nobody can wait for the moment.
    return_delay_min_s: Annotated[int, Meta(ge=0, le=RETURN_DELAY_MAX_S)]
    return_delay_max_s: Annotated[int, Meta(ge=0, le=RETURN_DELAY_MAX_S)]
    applicants_max: Annotated[int, Meta(ge=1, le=model.APPLICANTS_MAX)]  # applicants in one reservation
    # claims end so many minutes before the slot
    closes_before_min: Annotated[int, Meta(ge=0, le=DAYS_AHEAD_MAX * 1440)] = 0
    cancel_until: CancelUntil | None = None  # None: until the window begins


class WaitingRoom(Rule, frozen=True, kw_only=True):
    """How people wait at an opening: numbers are drawn and then admitted at a rate."""

    # the join window begins so many minutes before the opening
    joins_before_min: Annotated[int, Meta(ge=1, le=WAITING_MIN_MAX)] = 30
    # minutes after the opening; then anyone may claim without a ticket
    lasts_min: Annotated[int, Meta(ge=1, le=WAITING_MIN_MAX)] = 120
    rate_per_min: Annotated[int, Meta(ge=1, le=RATE_PER_MIN_MAX)] = 600
    adaptive: bool = True  # the rate follows the service's load, up to `rate_max_per_min`
    rate_max_per_min: Annotated[int, Meta(ge=1, le=RATE_PER_MIN_MAX)] = 6000
    proof_of_work: bool = False  # joining requires a proof of work of some seconds in the browser


class AnnouncedRule(Rule, frozen=True, kw_only=True):
    """An opening at a moment that is known in advance, so that it may have a waiting room."""

    waiting_room: WaitingRoom | None = None


class WeeklyOpening(AnnouncedRule, frozen=True, kw_only=True, tag_field="rule", tag="weekly"):
    """Opens on this weekday for a whole later week (Monday to Sunday)."""

    weekday: Weekday
    time: TimeOfDay
    weeks_ahead: Annotated[int, Meta(ge=1, le=52)] = 1  # 1: for the next week


class MonthlyOpening(AnnouncedRule, frozen=True, kw_only=True, tag_field="rule", tag="monthly"):
    """Opens on these days of each month; an opening covers the dates up to the first date of the next opening."""

    days: Annotated[tuple[Annotated[int, Meta(ge=1, le=31)], ...], Meta(min_length=1, max_length=31)]  # 31: last day
    time: TimeOfDay
    lead_days: DaysAhead = 1  # the first covered date lies so many days after the opening


class MonthEndOpening(AnnouncedRule, frozen=True, kw_only=True, tag_field="rule", tag="month-end"):
    """Opens on one of the last working days of a month for the whole next month."""

    time: TimeOfDay
    working_day: Annotated[int, Meta(ge=1, le=10)] = 1  # counted from the month's end: 1 is the last one


class DatedOpening(Rule, frozen=True, kw_only=True):
    """One announced opening and the dates that it covers, both included."""

    date: dt.date
    time: TimeOfDay
    first: dt.date
    last: dt.date


class DatesOpening(AnnouncedRule, frozen=True, kw_only=True, tag_field="rule", tag="dates"):
    """Opens on announced dates; a date that no opening covers has no slots."""

    openings: Annotated[tuple[DatedOpening, ...], Meta(min_length=1, max_length=400)]


class DaysBeforeOpening(AnnouncedRule, frozen=True, kw_only=True, tag_field="rule", tag="days-before"):
    """Opens so many days before each date."""

    days: DaysAhead
    time: TimeOfDay


class NowOpening(Rule, frozen=True, kw_only=True, tag_field="rule", tag="now"):
    """Open from the creation of the quota."""


OpeningRule: TypeAlias = (
    WeeklyOpening | MonthlyOpening | MonthEndOpening | DatesOpening | DaysBeforeOpening | NowOpening
)


class ExtraDate(Rule, frozen=True, kw_only=True):
    """A date on which the offices work although it is a weekend or a holiday."""

    date: dt.date
    hours_of: Weekday  # the weekday whose hours apply


class Holidays(Rule, frozen=True, kw_only=True):
    """Days on which all offices are closed, and exceptions."""

    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z", description="two capital letters")]  # ISO 3166, `holidays`
    categories: Annotated[tuple[Words, ...], Meta(max_length=10)] = ("public", "government")  # government: joint leave
    closed_dates: Annotated[tuple[dt.date, ...], Meta(max_length=400)] = ()
    extra_dates: Annotated[tuple[ExtraDate, ...], Meta(max_length=400)] = ()


class Service(Rule, frozen=True, kw_only=True):
    """A service that offices provide, such as a new passport."""

    id: Id
    name: Text


class Channel(Rule, frozen=True, kw_only=True):
    """A way to obtain a place, with its own quota."""

    id: Id
    name: Text
    public: bool  # False: only staff may claim it, such as for walk-in visitors


class DayHours(Rule, frozen=True, kw_only=True):
    """Opening hours of the counter on one weekday."""

    open: TimeOfDay
    close: EndOfWindow
    break_start: TimeOfDay | None = None  # give both or neither
    break_end: EndOfWindow | None = None


class WeekHours(Rule, frozen=True, kw_only=True):
    """Opening hours of the counter; an absent weekday is closed."""

    mon: DayHours | None = None
    tue: DayHours | None = None
    wed: DayHours | None = None
    thu: DayHours | None = None
    fri: DayHours | None = None
    sat: DayHours | None = None
    sun: DayHours | None = None

    def on(self, weekday: Weekday) -> DayHours | None:
        hours: DayHours | None = getattr(self, weekday.value)
        return hours


class Share(Rule, frozen=True, kw_only=True):
    """The places that an office offers of one service through one channel; set exactly one of `per_day` and
    `per_slot`.
    """

    service: Id
    channel: Id
    per_day: Places | None = None  # spread over the day's windows; the first windows get one more
    per_slot: Places | None = None  # in every window
    start: TimeOfDay | None = None  # narrower than the office's hours, such as mornings only
    end: EndOfWindow | None = None
    slot_minutes: SlotMinutes | None = None  # overrides the office's value


class Office(Rule, frozen=True, kw_only=True):
    """An office with its hours and shares."""

    id: Id
    name: Text
    address: Words
    kind: OfficeKind
    hours: WeekHours
    slot_minutes: SlotMinutes  # length of a window in minutes
    services: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=50)]  # not every office offers every service
    quotas: Annotated[tuple[Share, ...], Meta(min_length=1, max_length=500)]
    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None


class Program(Rule, frozen=True, kw_only=True):
    """One domain of rules and of "one live reservation per person"."""

    id: Id
    name: Text
    timezone: Words  # IANA name, such as Asia/Jakarta
    policies: Policies
    opening: OpeningRule
    holidays: Holidays
    services: Annotated[tuple[Service, ...], Meta(min_length=1, max_length=50)]
    channels: Annotated[tuple[Channel, ...], Meta(min_length=1, max_length=20)]
    offices: Annotated[tuple[Office, ...], Meta(min_length=1, max_length=OFFICES_MAX)]
    demo: bool = False  # shown as a demonstration: its bookings are not real

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of all times of day in the program."""
        return ZoneInfo(self.timezone)

    @property
    def public_channels(self) -> frozenset[str]:
        """The channels that the public may claim."""
        return frozenset(channel.id for channel in self.channels if channel.public)

    def office(self, office_id: str) -> Office | None:
        return next((office for office in self.offices if office.id == office_id), None)

    def service(self, service_id: str) -> Service | None:
        return next((service for service in self.services if service.id == service_id), None)

    def quota_id(self, office: str, service: str, day: dt.date, start: str, channel: str) -> str:
        """The id of a quota, such as `surabaya.kanim.baru.20261201.0800.online`; `start` is "HH:MM"."""
        return ".".join((self.id, office, service, day.strftime("%Y%m%d"), start.replace(":", ""), channel))


def program_of(quota_id: str) -> str:
    """The program of a quota: the part before the first dot."""
    return quota_id.partition(".")[0]
