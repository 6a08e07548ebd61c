"""One of a kind is named in the singular."""

from pathlib import Path

import pytest

from loadtest.faults.contents import found_as
from loadtest.faults.running import unrecorded_holds
from reservasi.cli.booked import Booked
from reservasi.cli.day_closing import who_is_there
from reservasi.cli.output import counted
from reservasi.cli.verify import _report
from reservasi.front.api.bodies import OpeningBody
from reservasi.front.pages.shown import shown_opening
from reservasi.front.views.calendars import openings_ics
from reservasi.programs.files import read_program
from reservasi.waiting_room.verification import PublicDraw, Recomputed, Verdict

PROGRAM = read_program(Path(__file__).parents[2] / "config" / "programs" / "surabaya.toml")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "the draw agrees"),
        (1, "the draw agrees, and the number of 1 ticket with it"),
        (2, "the draw agrees, and the numbers of 2 tickets with it"),
    ],
)
def test_the_tickets_of_a_draw(count: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = [Recomputed(ticket_id=f"t{n}", number=n, joined_before_opening=True) for n in range(count)]
    public = PublicDraw(joined=9, commitment="0" * 64)
    _report("p-1", public, Verdict(findings=[], numbers=numbers), as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == text


def test_what_is_counted() -> None:
    assert [counted(count, "dead letter") for count in (0, 1, 2)] == [
        "0 dead letters",
        "1 dead letter",
        "2 dead letters",
    ]


def test_the_places_that_a_closing_affects() -> None:
    one = Booked(quota="p.o.s.20261201.0800.online", reservation="r", places=1, status="held")
    assert who_is_there([one]).startswith("1 place is held or confirmed in 1 reservation;")
    assert who_is_there([one, one]).startswith("2 places are held or confirmed in 2 reservations;")


@pytest.mark.parametrize(("places", "text"), [(1, "1 place"), (2, "2 places")])
def test_the_places_of_an_opening(places: int, text: str) -> None:
    body = OpeningBody(
        id="p-1", program="surabaya", opens_at="2026-11-27T07:00:00Z", state="open", quotas=1, places=places
    )
    assert shown_opening(body, PROGRAM, "en").size == text
    assert f"{text}. ".encode() in openings_ics([body], PROGRAM, None, "en")


def test_the_notes_of_faults() -> None:
    assert found_as({"timers": 10, "quotas": 1, "unreadable": 1}) == "1 quota, 10 timers, 1 unreadable"
    assert unrecorded_holds(1) == "1 hold that nobody had recorded is gone"
    assert unrecorded_holds(0) == "0 holds that nobody had recorded are gone"
