"""One of a kind is named in the singular."""

import pytest

from loadtest.faults.contents import found_as
from loadtest.faults.running import unrecorded_holds
from reservasi.cli.verify import _report
from reservasi.waiting_room.verification import PublicDraw, Recomputed, Verdict


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "the draw agrees"),
        (1, "the draw agrees, and the number of 1 ticket with it"),
        (2, "the draw agrees, and the numbers of 2 tickets with it"),
    ],
)
def test_the_tickets_of_a_draw(count: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = [Recomputed(ticket_id=f"t{n}", number=n, joined_before_opening=True) for n in range(count)]
    public = PublicDraw(joined=9, commitment="0" * 64)
    _report("p-1", public, Verdict(findings=[], numbers=numbers), as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_the_notes_of_faults() -> None:
    assert found_as({"timers": 10, "quotas": 1, "unreadable": 1}) == "1 quota, 10 timers, 1 unreadable"
    assert unrecorded_holds(1) == "1 hold that nobody had recorded is gone"
    assert unrecorded_holds(0) == "0 holds that nobody had recorded are gone"
