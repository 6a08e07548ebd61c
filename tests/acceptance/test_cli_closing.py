"""Closing a quota, or all quotas of a day in one call, and the listed reservations."""

import pytest

from reservasi.model import State
from tests.acceptance.imported import DATES, DAY, NEXT_DAY, SECRET_NAME, Deployment


def test_a_day_of_an_office_is_closed_in_one_call(deployment: Deployment) -> None:
    booked = deployment.reserve(deployment.quota("0900"), places=2)
    words = ("quota", "close", deployment.program, "--office", "kanim", "--date", str(DAY), "--reason", "banjir")
    done = deployment.json(*words)
    assert (done["program"], done["date"], done["closed"], len(done["quotas"])) == (deployment.program, str(DAY), 4, 4)
    assert [each["booked"] for each in done["quotas"]] == [0, 2, 0, 0]
    assert done["booked"] == [
        {"quota": deployment.quota("0900"), "reservation": booked, "places": 2, "status": "confirmed"}
    ]
    assert deployment.open_windows() == []
    assert len(deployment.open_windows("ulp")) == len(deployment.open_windows(day=NEXT_DAY)) == 4
    assert deployment.state(booked) is State.CONFIRMED
    again = deployment.json(*words)
    assert (again["closed"], again["booked"]) == (0, done["booked"])
    assert {each["changed"] for each in again["quotas"]} == {False}
    assert deployment.imports()["kept"] == 4, "closed by hand: it stays"
    text = deployment.call(*words)
    assert (text.exit_code, booked in text.output, SECRET_NAME in text.output) == (0, True, False)
    assert f"0 quotas of {DAY} are now closed, 4 were before; 2 places are held or confirmed in 1" in text.output
    assert "reservasi reservation cancel ID" in text.output


def test_a_closed_day_stays_closed_when_an_import_changes_its_windows(deployment: Deployment) -> None:
    deployment.json("quota", "close", deployment.program, "--office", "kanim", "--date", str(DAY))
    for slot_minutes in (30, 40, 60):
        deployment.write(slot_minutes=slot_minutes)
        done = deployment.imports(*DATES, "--apply")
        assert deployment.open_windows() == []
        assert deployment.open_windows(day=NEXT_DAY) != []
        assert {deployment.show(each)["closed"] for each in done["plan"]["new_closed"]} <= {True}
        deployment.is_settled()
    deployment.write(slot_minutes=20)
    text = deployment.call("program", "import", str(deployment.file), *DATES, "--apply").output
    assert "of these created closed, since staff closed their time: 4" in text


def test_closing_one_quota_says_who_is_booked_there(deployment: Deployment) -> None:
    quota, other = deployment.quota("0900"), deployment.quota("1000")
    booked = deployment.reserve(quota, places=2)
    text = deployment.call("quota", "close", quota).output
    assert f"{quota} is now closed; 2 places are held or confirmed in 1 reservation; none is cancelled" in text
    assert booked in text
    again = deployment.json("quota", "close", quota)
    assert again["booked"] == [{"quota": quota, "reservation": booked, "places": 2, "status": "confirmed"}]
    assert f"{quota} was already closed" in deployment.call("quota", "close", quota).output
    assert f"{other} is now closed; there are no reservations" in deployment.call("quota", "close", other).output


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--office", "kamin", "has no office kamin. Did you mean kanim? It has: kanim, ulp"),
        ("--service", "lama", "has no service lama. It has: baru"),
        ("--channel", "onlin", "has no channel onlin. Did you mean online? It has: online"),
    ],
)
def test_a_name_that_the_program_does_not_have_is_named_with_those_that_it_has(
    deployment: Deployment, flag: str, value: str, message: str
) -> None:
    for words in (("quota", "show", deployment.program), ("quota", "close", deployment.program, "--date", str(DAY))):
        assert deployment.json(*words, flag, value, code=2)["error"] == f"{flag}: {deployment.program} {message}"
        done = deployment.call(*words, flag, value)
        assert (done.exit_code, message in done.output) == (2, True)
    assert len(deployment.open_windows()) == 4


def test_an_office_that_left_the_file_can_be_asked_for(deployment: Deployment) -> None:
    deployment.write(offices=("kanim",))
    deployment.imports(*DATES, "--apply")
    assert len(deployment.json("quota", "show", deployment.program, "--office", "ulp")) == 8


def test_a_holiday_announced_late_closes_all_offices(deployment: Deployment) -> None:
    """The only program need not be named."""
    done = deployment.json("quota", "close", "--date", str(DAY))
    assert (done["closed"], {each["office"] for each in done["quotas"]}) == (8, {"kanim", "ulp"})
    assert deployment.json("quota", "close", "--program", deployment.program, "--date", str(DAY))["closed"] == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--date", "2030-01-01"), 1),
        (("--date", str(DAY), "--office", "nowhere"), 2),
        (("--date", "tomorrow"), 2),
        (("--office", "kanim"), 2),
        ((), 2),
    ],
)
def test_a_day_that_is_not_there_closes_nothing(deployment: Deployment, words: tuple[str, ...], code: int) -> None:
    assert deployment.call("quota", "close", deployment.program, *words).exit_code == code
    assert len(deployment.open_windows()) == 4
