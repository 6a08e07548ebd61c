"""The openings of an office as a calendar (RFC 5545), which a phone can subscribe to."""

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta

from icalendar import Alarm, Calendar, Event

from reservasi.front.bodies import OpeningBody
from reservasi.front.languages import Language, Text
from reservasi.programs import Office, Program

ALARM_BEFORE = timedelta(minutes=15)
LASTS = timedelta(minutes=15)  # an opening is a moment, and a calendar shows nothing of no length
REFRESH = timedelta(hours=1)  # how often a calendar that is subscribed to should look again

_NAME = Text("Pembukaan {}", "Openings of {}")
_SUMMARY = Text("Kuota dibuka: {}", "Places open: {}")
_ALARM = Text("Kuota dibuka 15 menit lagi", "Places open in 15 minutes")
_DESCRIPTION = Text("{} tempat. Nomor pembukaan: {}", "{} places. Opening: {}")


def openings_ics(openings: Iterable[OpeningBody], program: Program, office: Office | None, language: Language) -> bytes:
    """One event an opening, with an alarm 15 minutes before; times in UTC, so that no time zone table is needed.

    An event's UID stays the same whatever else changes, so a moved opening moves in the calendar. All fronts make the
    same bytes on the same day.
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
    event.add("summary", _SUMMARY.to(language).format(name))
    event.add("description", _DESCRIPTION.to(language).format(opening.places, opening.id))
    if office:
        event.add("location", office.address)
    event.add("transp", "TRANSPARENT")
    alarm = Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("description", _ALARM.to(language))
    alarm.add("trigger", -ALARM_BEFORE)
    event.add_component(alarm)
    return event
