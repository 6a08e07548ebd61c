"""The openings of an office as a calendar (RFC 5545), to which a phone can subscribe."""

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta

from icalendar import Alarm, Calendar, Event

from reservasi.front.api.bodies import OpeningBody, OpeningListState
from reservasi.front.api.languages import Language, Text
from reservasi.programs import Office, Program

ALARM_BEFORE = timedelta(minutes=15)
LASTS = timedelta(minutes=15)  # an opening is a moment, and calendars do not show events without a length
REFRESH = timedelta(hours=1)  # how often subscribed calendars should be read again

_NAME = Text("Pembukaan {}", "Openings of {}")
_SUMMARY = Text("Kuota dibuka: {}", "Places open: {}")
_CANCELLED = Text("DIBATALKAN: kuota di {}", "CANCELLED: places in {}")
_CLOSED = Text("DITUTUP: kuota di {}", "CLOSED: places in {}")
_ALL_CLOSED = Text("Tidak ada tempat: semua kuota ditutup.", "No places: all quotas are closed.")
_REASON = Text("Alasan: {}", "Reason: {}")
_ALARM = Text("Kuota dibuka 15 menit lagi", "Places open in 15 minutes")
_PLACES = Text("{} tempat. ", "{} places. ")
_ONE_PLACE = Text("{} tempat. ", "{} place. ")
_NUMBER = Text("Nomor pembukaan: {}", "Opening: {}")
# Of an opening whose places cannot be booked, without an alarm. One that is closed may be reopened.
_SUMMARY_AND_STATUS: dict[OpeningListState, tuple[Text, str]] = {
    "cancelled": (_CANCELLED, "CANCELLED"),
    "closed": (_CLOSED, "TENTATIVE"),
}


def openings_ics(openings: Iterable[OpeningBody], program: Program, office: Office | None, language: Language) -> bytes:
    """One event per opening, with an alarm 15 minutes before; times in UTC, so that no time zone table is needed.

    An event's UID never changes, and its SEQUENCE grows, so that a moved opening moves in the calendar. All fronts
    produce the same bytes on the same day.
    """
    place = office or program
    name = Text(place.name.id, place.name.en).to(language)
    calendar = Calendar()
    calendar.add("prodid", "-//reservasi//reservasi//ID")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add("name", _NAME.to(language).format(name))
    calendar.add("x-wr-calname", _NAME.to(language).format(name))
    calendar.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    today = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    for opening in openings:
        calendar.add_component(_event(opening, name, office, today, language))
    encoded: bytes = calendar.to_ical()
    return encoded


def _event(opening: OpeningBody, name: str, office: Office | None, stamp: datetime, language: Language) -> Event:
    opens_at = datetime.fromisoformat(opening.opens_at)
    event = Event()
    event.add("uid", f"{opening.id}{f'.{office.id}' if office else ''}@reservasi")
    event.add("dtstamp", stamp)
    event.add("dtstart", opens_at)
    event.add("dtend", opens_at + LASTS)
    summary, status = _SUMMARY_AND_STATUS.get(opening.state, (_SUMMARY, "CONFIRMED"))
    event.add("summary", summary.to(language).format(name))
    event.add("description", _description(opening, language))
    event.add("status", status)
    event.add("sequence", opening.revision or 0)
    if opening.revised_at:
        event.add("last-modified", datetime.fromisoformat(opening.revised_at).replace(microsecond=0))
    if office:
        event.add("location", office.address)
    event.add("transp", "TRANSPARENT")
    if opening.state in _SUMMARY_AND_STATUS:
        return event
    alarm = Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("description", _ALARM.to(language))
    alarm.add("trigger", -ALARM_BEFORE)
    event.add_component(alarm)
    return event


def _description(opening: OpeningBody, language: Language) -> str:
    text = _NUMBER.to(language).format(opening.id)
    if opening.state == "closed":
        text = f"{_ALL_CLOSED.to(language)} {text}"
    elif opening.quotas or opening.state != "cancelled":  # a cancelled opening may have lost its quotas to another one
        text = (_ONE_PLACE if opening.places == 1 else _PLACES).to(language).format(opening.places) + text
    if not opening.reason:
        return text
    reason = Text(opening.reason, opening.reason_en or opening.reason)
    return f"{_REASON.to(language).format(reason.to(language))}\n{text}"
