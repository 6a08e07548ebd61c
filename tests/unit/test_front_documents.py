"""The calendar file of an appointment."""

from pathlib import Path
from typing import Any

import pytest
from icalendar import Calendar

from loadtest.stage.program import open_terms
from reservasi.front.views.documents import ticket_ics
from reservasi.model import Quota, QuotaCounts
from reservasi.programs.files import read_program

PROGRAM = read_program(Path(__file__).parents[2] / "config" / "programs" / "surabaya.toml")


@pytest.mark.parametrize(
    ("start", "end", "ends_at"),
    [
        ("08:00", "08:30", "2030-12-01 01:30"),
        ("23:30", "23:59", "2030-12-01 16:59"),
        ("23:30", "24:00", "2030-12-01 17:00"),
    ],
)
def test_an_appointment_ends_when_its_window_does(start: str, end: str, ends_at: str) -> None:
    quota = Quota(id="q", terms=open_terms(start=start, end=end), counts=QuotaCounts())
    (event,) = Calendar.from_ical(ticket_ics("id", "CODE", quota, PROGRAM, "en")).walk("VEVENT")
    ends: Any = event["dtend"]
    assert ends.dt.strftime("%Y-%m-%d %H:%M") == ends_at
