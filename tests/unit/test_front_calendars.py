"""The calendar of openings."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from icalendar import Calendar

from reservasi.front.api.bodies import OpeningBody
from reservasi.front.views.calendars import openings_ics
from reservasi.programs.files import read_program

PROGRAM = read_program(Path(__file__).parents[2] / "config" / "programs" / "surabaya.toml")


def opening(opens_at: str, places: int = 30) -> OpeningBody:
    return OpeningBody(
        id="surabaya-20261127-1400", program="surabaya", opens_at=opens_at, state="not-open", quotas=3, places=places
    )


def events(content: bytes) -> list[Any]:
    return list(Calendar.from_ical(content).walk("VEVENT"))


def test_an_event_tells_when_where_and_how_many() -> None:
    office = PROGRAM.offices[0]
    [event] = events(openings_ics([opening("2026-11-27T07:00:00Z")], PROGRAM, office, "en"))
    assert event["dtstart"].dt == datetime(2026, 11, 27, 7, tzinfo=UTC)
    assert office.name.en in event["summary"]
    assert event["location"] == office.address
    assert "30 places" in event["description"]
    [alarm] = event.walk("VALARM")
    assert alarm["trigger"].dt == timedelta(minutes=-15)
    assert alarm["action"] == "DISPLAY"


def test_a_moved_opening_is_the_same_event() -> None:
    office = PROGRAM.offices[0]
    before, after = (
        events(openings_ics([opening(at)], PROGRAM, office, language))[0]  # type: ignore[arg-type]
        for at, language in (("2026-11-27T07:00:00Z", "id"), ("2026-11-28T07:00:00.500Z", "en"))
    )
    assert before["uid"] == after["uid"]
    assert before["dtstart"].dt != after["dtstart"].dt
    assert before["summary"] != after["summary"]


def test_all_fronts_say_the_same() -> None:
    calendars = [openings_ics([opening("2026-11-27T07:00:00Z")], PROGRAM, None, "id") for _ in range(2)]
    assert calendars[0] == calendars[1]
    assert b"BEGIN:VCALENDAR\r\n" in calendars[0]
    assert max(map(len, calendars[0].split(b"\r\n"))) <= 75


def test_no_opening_is_an_empty_calendar() -> None:
    assert events(openings_ics([], PROGRAM, PROGRAM.offices[0], "id")) == []
