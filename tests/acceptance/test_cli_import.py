"""An import compares: changes in the file, existing reservations, and changes by staff."""

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest

from reservasi.bootstrap.commands import open_operations
from reservasi.cli import demo as demo_module
from reservasi.cli.demo import Demo
from reservasi.cli.invocation import run
from reservasi.model import State
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.settings import load
from tests.acceptance.imported import (
    DATES,
    DAY,
    NEXT_DAY,
    ROOM,
    SECRET_NAME,
    SECRET_NIK,
    THIRD_DAY,
    TODAY,
    Deployment,
)


def test_the_same_file_again_changes_nothing(deployment: Deployment) -> None:
    again = deployment.imports()
    assert again == {
        "program": deployment.program,
        "first": str(DAY),
        "last": str(NEXT_DAY),
        "created": 0,
        "unchanged": 16,
        "kept": 0,
        "past": 0,
        "openings": [],
        "total": 16,
    }


def test_windows_that_are_over_are_not_created_and_are_counted(deployment: Deployment) -> None:
    yesterday, before = TODAY - dt.timedelta(days=1), TODAY - dt.timedelta(days=2)
    deployment.write(days=(before, yesterday, DAY, NEXT_DAY))
    words = ("--from", str(before), "--to", str(yesterday))
    done = deployment.imports(*words)
    assert (done["created"], done["unchanged"], done["past"], done["total"]) == (0, 0, 16, 16)
    assert {each["date"] for each in deployment.json("quota", "show", deployment.program)} == {str(DAY), str(NEXT_DAY)}
    assert deployment.imports(*words) == done
    text = deployment.call("program", "import", str(deployment.file), *words)
    assert text.exit_code == 0
    assert "16 windows of the file have already ended: no quotas are created for them" in text.output


def test_another_slot_length_neither_doubles_places_nor_overlaps(deployment: Deployment) -> None:
    deployment.write(slot_minutes=30)
    plan = deployment.stopped()["plan"]
    assert (plan["new"], len(plan["changed"]), plan["outside"]) == (16, 16, [])
    assert {change["term"] for change in plan["changed"][0]["changes"]} == {"capacity", "end"}
    done = deployment.imports(*DATES, "--apply")
    assert (done["applied"], done["created"], done["changed"], done["closed"]) == (True, 16, 16, 0)
    windows = deployment.open_windows()
    assert (len(windows), sum(capacity for _, _, capacity in windows)) == (8, 40)
    deployment.is_settled()
    deployment.write(slot_minutes=60)
    back = deployment.imports(*DATES, "--apply")
    assert (back["changed"], back["closed"]) == (16, 16)
    assert deployment.open_windows() == [(f"{hour:02}:00", f"{hour + 1:02}:00", 10) for hour in range(8, 12)]


def test_a_closed_date_is_closed_nobody_is_cancelled_and_those_booked_are_listed(deployment: Deployment) -> None:
    booked = deployment.reserve(deployment.quota("0900"), places=2)
    held = deployment.reserve(deployment.quota("1000", "ulp"), confirm=False)
    deployment.write(closed=(DAY,), days=(NEXT_DAY,))
    plan = deployment.stopped()
    expected = [
        {"quota": deployment.quota("0900"), "reservation": booked, "places": 2, "status": "confirmed"},
        {"quota": deployment.quota("1000", "ulp"), "reservation": held, "places": 1, "status": "held"},
    ]
    assert plan["booked"] == expected
    assert {(row["why"], row["state"]) for row in plan["plan"]["outside"]} == {("date", "open")}
    done = deployment.imports(*DATES, "--apply")
    assert (done["closed"], done["booked"]) == (8, expected)
    assert deployment.open_windows() == deployment.open_windows("ulp") == []
    assert len(deployment.open_windows(day=NEXT_DAY)) == 4
    assert (deployment.state(booked), deployment.state(held)) == (State.CONFIRMED, State.HELD)
    deployment.is_settled()
    deployment.write()
    assert deployment.imports(*DATES, "--apply")["changed"] == 8, "what an import closed, an import opens again"
    assert len(deployment.open_windows()) == 4


def test_a_corrected_time_zone_lists_those_whose_visit_moves(deployment: Deployment) -> None:
    booked = deployment.reserve(deployment.quota("0900"))
    deployment.reserve(deployment.quota("0900", day=NEXT_DAY), confirm=False)
    deployment.write(timezone="Asia/Makassar")
    plan = deployment.stopped()
    assert [row["reservation"] for row in plan["booked"]][:1] == [booked]
    assert len(plan["plan"]["changed"]) == 16
    assert plan["plan"]["moved_by_time_zone"] == [deployment.quota("0900"), deployment.quota("0900", day=NEXT_DAY)]
    # Also where the import compares other dates: the time zone is the program's.
    elsewhere = ("--from", str(THIRD_DAY), "--to", str(THIRD_DAY))
    assert len(deployment.imports(*elsewhere, code=3)["booked"]) == 2
    assert "time zone gives 2 held or booked places to another moment" in deployment.call(
        "program", "import", str(deployment.file), *DATES
    ).output.replace("\n", " ")
    assert [row["reservation"] for row in deployment.imports(*DATES, "--apply")["booked"]][:1] == [booked]
    deployment.is_settled()
    deployment.write(timezone="Asia/Ujung_Pandang")  # another name of the same time
    assert deployment.imports()["created"] == 0


def test_the_words_for_people_name_reservations_and_no_person(deployment: Deployment) -> None:
    booked = deployment.reserve(deployment.quota("0900"))
    deployment.write(offices=("ulp",))
    again = ("program", "import", str(deployment.file), *DATES)
    for words, code in ((DATES, 3), ((*DATES, "--apply"), 0)):
        done = deployment.call("program", "import", str(deployment.file), *words)
        assert done.exit_code == code
        assert booked in done.output
        assert "kanim" in done.output
        assert SECRET_NAME not in done.output
        assert SECRET_NIK not in done.output
        assert ("--apply" in done.output) is (code == 3)
        assert "not in the file, closed" in done.output
        assert "the file has no such office" in done.output
        assert "none cancelled" in done.output
    assert "not in the file, already closed: 8 quotas" in deployment.call(*again).output


def test_an_office_that_is_taken_out_stops_selling(deployment: Deployment) -> None:
    deployment.reserve(deployment.quota("0800", "ulp"))
    deployment.write(offices=("kanim",))
    assert {row["why"] for row in deployment.stopped()["plan"]["outside"]} == {"office"}
    assert deployment.stored_offices() == ["kanim", "ulp"]
    assert deployment.imports(*DATES, "--apply")["closed"] == 8
    assert (deployment.open_windows("ulp"), len(deployment.open_windows("kanim"))) == ([], 4)
    assert deployment.stored_offices() == ["kanim"]
    deployment.is_settled()


def test_other_hours_close_the_windows_that_are_gone(deployment: Deployment) -> None:
    deployment.write(hours=("09:00", "13:00"))
    deployment.stopped()
    done = deployment.imports(*DATES, "--apply")
    assert (done["created"], done["closed"], done["changed"]) == (4, 4, 0)
    assert [window[0] for window in deployment.open_windows()] == ["09:00", "10:00", "11:00", "12:00"]


def test_fewer_places_never_fall_below_what_is_taken(deployment: Deployment) -> None:
    for _ in range(2):
        deployment.reserve(deployment.quota("0800"), places=3)
    deployment.write(per_day=16)
    deployment.stopped()
    done = deployment.imports(*DATES, "--apply")
    row = next(each for each in done["plan"]["changed"] if each["quota"] == deployment.quota("0800"))
    assert row["changes"] == [{"term": "capacity", "from": 10, "to": 6}]
    assert (row["capacity_in_file"], row["booked"]) == (4, 6)
    assert [capacity for _, _, capacity in deployment.open_windows()] == [6, 4, 4, 4]
    deployment.is_settled()


def test_other_policies_reach_quotas_that_exist(deployment: Deployment) -> None:
    deployment.write(hold_s=600)
    assert {change["term"] for row in deployment.stopped()["plan"]["changed"] for change in row["changes"]} == {
        "hold_ms"
    }
    assert deployment.imports(*DATES, "--apply")["changed"] == 16
    deployment.is_settled()


def test_what_staff_changed_is_kept_and_named(deployment: Deployment) -> None:
    raised, closed = deployment.quota("0800"), deployment.quota("0900")
    deployment.json("quota", "set", raised, "--capacity", "77")
    deployment.json("quota", "close", closed)
    again = deployment.imports()
    assert (again["kept"], again["applied"], again["changed"]) == (2, True, 0)
    deployment.write(per_day=20, hold_s=600)
    done = deployment.imports(*DATES, "--apply")
    assert [(each["quota"], each["terms"]) for each in done["plan"]["kept"]] == [
        (raised, [{"term": "capacity", "is": 77, "file": 5}]),
        (closed, [{"term": "closed", "is": True, "file": False}]),
    ]
    assert done["changed"] == 16, "the terms that nobody touched follow the file"
    assert (deployment.show(raised)["capacity"], deployment.show(closed)["closed"]) == (77, True)
    assert deployment.show(closed)["capacity"] == 5
    deployment.is_settled()
    text = deployment.call("program", "import", str(deployment.file), *DATES).output
    assert raised in text
    assert f"{closed}  closed yes (file: no)" in text


def test_what_an_import_closed_and_staff_opened_again_stays_open(deployment: Deployment) -> None:
    deployment.write(offices=("kanim",))
    deployment.imports(*DATES, "--apply")
    reopened = deployment.quota("0800", "ulp")
    deployment.json("quota", "set", reopened, "--reopen")
    again = deployment.imports()
    states = {row["quota"]: row["state"] for row in again["plan"]["outside"]}
    assert states[reopened] == "reopened-by-hand"
    assert not deployment.show(reopened)["closed"]


def test_a_quota_is_not_opened_again_over_another_window(deployment: Deployment) -> None:
    deployment.write(slot_minutes=30)
    deployment.imports(*DATES, "--apply")
    deployment.write(slot_minutes=60)
    deployment.imports(*DATES, "--apply")
    half_past = deployment.quota("0830")
    assert deployment.show(half_past)["closed"]
    refused = deployment.json("quota", "set", half_past, "--reopen", code=1)
    assert deployment.quota("0800") in refused["error"]
    assert deployment.show(half_past)["closed"]
    deployment.json("quota", "close", deployment.quota("0800"))
    assert not deployment.json("quota", "set", half_past, "--reopen")["closed"]


def test_a_text_with_a_no_break_space_is_stored_tidied_also_over_an_older_one(deployment: Deployment) -> None:
    messy = "Jl.\u00a0Contoh 1\u200b "
    deployment.file.write_text(deployment.file.read_text().replace("Jl. Contoh 1", messy))

    async def store_untidied() -> None:
        async with open_operations(load()) as operations:
            program = await operations.program(deployment.program)
            offices = tuple(msgspec.structs.replace(each, address=messy) for each in program.offices)
            await operations.records.save_program(msgspec.structs.replace(program, offices=offices))

    async def addresses() -> list[str]:
        async with open_operations(load()) as operations:
            return [each.address for each in (await operations.program(deployment.program)).offices]

    run(store_untidied())
    for _ in range(2):
        again = deployment.imports()
        assert (again["created"], again["unchanged"]) == (0, 16)
        assert run(addresses()) == ["Jl. Contoh 1"] * 2


def test_later_dates_that_have_quotas_are_compared_unless_a_last_date_is_named(deployment: Deployment) -> None:
    far = TODAY + dt.timedelta(days=60)
    deployment.write(days=(DAY, NEXT_DAY, far))
    assert deployment.imports("--from", str(far), "--to", str(far))["created"] == 8
    deployment.write(closed=(far,))
    assert deployment.imports("--from", str(DAY), "--to", str(NEXT_DAY))["unchanged"] == 16
    assert len(deployment.open_windows(day=far)) == 4
    assert len(deployment.imports("--from", str(DAY), code=3)["plan"]["outside"]) == 8
    assert deployment.imports("--from", str(DAY), "--apply")["closed"] == 8
    assert deployment.open_windows(day=far) == []


def test_a_demo_whose_file_changed_starts_and_closes_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_module, "PROGRAMS_DIR", deployment.file.parent)
    before = deployment.open_windows()

    async def load_demo() -> None:
        async with open_operations(load()) as operations:
            demo = Demo(programs=(read_program(deployment.file),))
            async with asyncio.timeout(60):
                assert await demo.load(operations, quiet=True) == []

    run(load_demo())  # the same file
    assert "is left unchanged" not in capsys.readouterr().err
    deployment.write(slot_minutes=30)
    run(load_demo())
    output = " ".join(capsys.readouterr().err.split())
    assert f"the program {deployment.program} is left unchanged" in output
    assert f"{deployment.program}.toml" in output
    assert "--apply" in output
    assert deployment.open_windows() == before


@pytest.fixture
def announced(deployment: Deployment) -> Deployment:
    """Dates that open three days before, each with a waiting room."""
    deployment.write(rule=ROOM.format(time="09:00"), days=(DAY, NEXT_DAY, THIRD_DAY))
    done = deployment.imports("--from", str(THIRD_DAY), "--to", str(THIRD_DAY))
    assert (done["created"], len(done["openings"])) == (8, 1)
    return deployment


def test_another_moment_in_the_file_moves_no_opening_and_names_it(announced: Deployment) -> None:
    before = announced.show(announced.quota(day=THIRD_DAY))["opens_at"]
    announced.write(rule=ROOM.format(time="10:00"), days=(DAY, NEXT_DAY, THIRD_DAY))
    done = announced.imports("--from", str(THIRD_DAY), "--to", str(THIRD_DAY))
    (named,) = done["plan"]["openings"]
    assert (named["opens_at"], named["quotas"], named["elsewhere_in_file"]) == (before, 8, 8)
    assert dt.datetime.fromisoformat(named["file_opens_at"][0]) - dt.datetime.fromisoformat(before) == dt.timedelta(
        hours=1
    )
    assert announced.show(announced.quota(day=THIRD_DAY))["opens_at"] == before
    assert len(announced.json("opening", "list", "--program", announced.program)) == 1
    text = announced.call("program", "import", str(announced.file), "--from", str(THIRD_DAY), "--to", str(THIRD_DAY))
    line = next(line for line in text.output.splitlines() if line.startswith(named["opening"]))
    assert ("09:00 WIB" in line, "10:00 WIB" in line, "+00:00" in line) == (True, True, False)


def test_a_moment_that_staff_gave_to_a_quota_gets_no_waiting_room(deployment: Deployment) -> None:
    moved, later = deployment.quota("0800"), f"{DAY - dt.timedelta(days=2)}T08:00:00+07:00"
    deployment.json("quota", "set", moved, "--opens-at", later)
    deployment.write(rule=ROOM.format(time="09:00"))
    done = deployment.imports(*DATES, "--apply")
    assert [each["quota"] for each in done["plan"]["kept"]] == [moved]
    moments = {each["opens_at"] for each in deployment.json("opening", "list", "--program", deployment.program)}
    assert len(done["openings"]) == len(moments) == 2
    assert deployment.show(moved)["opens_at"] not in moments


def test_an_opening_whose_day_is_closed_is_named_and_stays(announced: Deployment) -> None:
    announced.write(rule=ROOM.format(time="09:00"), closed=(THIRD_DAY,))
    words = ("--from", str(THIRD_DAY), "--to", str(THIRD_DAY))
    plan = announced.imports(*words, code=3)
    assert [(each["outside"], each["joined"]) for each in plan["plan"]["openings"]] == [(8, 0)]
    assert announced.imports(*words, "--apply")["closed"] == 8
    assert len(announced.json("opening", "list", "--program", announced.program)) == 1


WEEK = DAY + dt.timedelta(days=7 - DAY.weekday())  # a Monday
WEEKLY = 'rule = "weekly"\nweekday = "fri"\ntime = "14:00"\nwaiting_room = { joins_before_min = 30 }'


@pytest.fixture
def called_off(deployment: Deployment) -> Deployment:
    """The Monday of a week whose opening was called off."""
    deployment.write(rule=WEEKLY, days=(WEEK, WEEK + dt.timedelta(days=1)))
    (opening,) = deployment.imports("--from", str(WEEK), "--to", str(WEEK))["openings"]
    deployment.json("opening", "cancel", opening, "--reason", "banjir")
    return deployment


def openings(deployment: Deployment) -> list[tuple[str, bool]]:
    rows = deployment.json("opening", "list", "--program", deployment.program)
    return [(each["id"], each["cancelled"]) for each in rows]


@pytest.mark.parametrize("more", ["a later date", "one more office"])
def test_quotas_that_are_added_after_an_opening_was_called_off_get_a_new_one(called_off: Deployment, more: str) -> None:
    ((cancelled, _),) = openings(called_off)
    before = called_off.json("opening", "show", cancelled)
    closed = [each for each in called_off.json("quota", "show", called_off.program) if each["date"] == str(WEEK)]
    assert all(each["closed"] for each in closed)
    days = (WEEK, WEEK + dt.timedelta(days=1))
    is_later = more == "a later date"
    last = days[1] if is_later else WEEK
    called_off.write(rule=WEEKLY, days=days, offices=("kanim", "ulp") if is_later else ("kanim", "ulp", "mpp"))
    words = ("--from", str(WEEK), "--to", str(last))
    done = called_off.imports(*words)
    assert (done["openings"], done["kept"]) == ([f"{cancelled}-2"], 8), "what staff closed is kept and named"
    assert openings(called_off) == [(cancelled, True), (f"{cancelled}-2", False)]
    created = called_off.json("opening", "show", f"{cancelled}-2")
    assert (created["opens_at"], created["waiting_room"], created["offices"]) == (before["opens_at"], True, [])
    assert called_off.json("opening", "show", cancelled) == before, "it stays as it is"
    after = called_off.json("quota", "show", called_off.program)
    assert [each for each in after if each["closed"]] == closed
    again = called_off.imports(*words)
    assert (again["openings"], again["created"], again["applied"]) == ([], 0, True)
    assert called_off.json("quota", "show", called_off.program) == after


def test_an_opening_that_was_called_off_gets_no_successor_without_new_quotas(called_off: Deployment) -> None:
    ((cancelled, _),) = openings(called_off)
    words = ("--from", str(WEEK), "--to", str(WEEK))
    done = called_off.imports(*words)
    assert (done["openings"], done["created"], done["kept"]) == ([], 0, 8)
    assert openings(called_off) == [(cancelled, True)]
    text = called_off.call("program", "import", str(called_off.file), *words).output
    assert "changed by staff, kept as staff set them: 8 quotas" in text


def test_a_quota_that_staff_open_again_after_its_opening_was_called_off_gets_a_waiting_room(
    called_off: Deployment,
) -> None:
    ((cancelled, _),) = openings(called_off)
    called_off.json("quota", "set", called_off.quota(day=WEEK), "--reopen")
    done = called_off.imports("--from", str(WEEK), "--to", str(WEEK))
    assert (done["openings"], done["created"], done["kept"]) == ([f"{cancelled}-2"], 0, 7)


def test_a_second_opening_beside_one_that_staff_moved_is_named(deployment: Deployment) -> None:
    days = (WEEK, WEEK + dt.timedelta(days=1))
    deployment.write(rule=WEEKLY, days=days)
    (moved,) = deployment.imports("--from", str(WEEK), "--to", str(WEEK))["openings"]
    friday = WEEK - dt.timedelta(days=3)
    deployment.json("opening", "move", moved, "--opens-at", f"{friday}T15:00:00+07:00")
    plain = deployment.imports("--from", str(WEEK), "--to", str(WEEK))
    assert [each["split_off"] for each in plain["plan"]["openings"]] == [0]
    words = ("program", "import", str(deployment.file), "--from", str(days[1]), "--to", str(days[1]))
    text = " ".join(deployment.call(*words).output.split())
    assert (
        f"8 new quotas will open as the file says ({friday} 14:00 WIB), not with {moved} ({friday} 15:00 WIB): dates of "
        "one opening are now split between two"
    ) in text
    assert openings(deployment) == [(f"{moved}-2", False), (moved, False)]


def test_new_quotas_in_closed_time_get_an_opening_too_since_they_may_be_reopened(deployment: Deployment) -> None:
    deployment.write(rule=WEEKLY, days=(WEEK,))
    words = ("--from", str(WEEK), "--to", str(WEEK), "--apply")
    (moved,) = deployment.imports(*words)["openings"]
    friday = WEEK - dt.timedelta(days=3)
    deployment.json("opening", "move", moved, "--opens-at", f"{friday}T15:00:00+07:00")
    deployment.json("quota", "close", deployment.program, "--date", str(WEEK))
    deployment.write(rule=WEEKLY, days=(WEEK,), slot_minutes=30)
    done = deployment.imports(*words)
    assert [each["split_off"] for each in done["plan"]["openings"]] == [8]
    assert done["openings"] == [f"{moved}-2"]
    new = deployment.quota("0830", day=WEEK)
    assert deployment.show(new)["closed"]
    deployment.json("quota", "set", new, "--reopen")
    opening = deployment.json("opening", "show", f"{moved}-2")
    assert (opening["waiting_room"], opening["opens_at"]) == (True, deployment.show(new)["opens_at"])


def test_a_day_that_staff_closed_stays_closed_though_an_import_had_closed_some_of_it(deployment: Deployment) -> None:
    deployment.write(hours=("08:00", "10:00"))
    deployment.imports(*DATES, "--apply")
    words = ("quota", "close", deployment.program, "--office", "kanim", "--date", str(DAY))
    done = deployment.json(*words)
    assert (done["closed"], [each["changed"] for each in done["quotas"]]) == (2, [True, True, False, False])
    assert deployment.json(*words)["closed"] == 0
    deployment.json("quota", "close", deployment.quota("1100", office="ulp"))
    for slot_minutes in (60, 30):
        deployment.write(slot_minutes=slot_minutes)
        deployment.imports(*DATES, "--apply")
        assert deployment.open_windows() == []
        assert [end for _, end, _ in deployment.open_windows("ulp")][-1] == "11:00", "the closed window stays closed"
        assert deployment.open_windows(day=NEXT_DAY) != []
    deployment.is_settled()


def test_a_channel_is_opened_to_the_public_or_closed_to_it_only_when_told(deployment: Deployment) -> None:
    booked = deployment.reserve(deployment.quota("0900"), places=2)
    for public in (False, True):
        deployment.write(public=public)
        plan = deployment.stopped()
        row = {"channel": "online", "public": public, "quotas": 16, "held": 0, "booked": 2}
        assert plan["plan"]["channels"] == [row]
        would = "be open to the public" if public else "only be for staff"
        assert f"16 quotas of the channel online would {would} (2 places are held or booked)" in plan["error"]
        done = deployment.imports(*DATES, "--apply")
        assert (done["applied"], done["plan"]["channels"]) == (True, [row])
        deployment.is_settled()
    assert deployment.state(booked) is State.CONFIRMED


def test_people_whose_deadline_comes_earlier_are_listed(deployment: Deployment) -> None:
    booked, held = deployment.reserve(deployment.quota("0900")), deployment.reserve(deployment.quota(), confirm=False)
    deployment.write(policies="closes_before_min = 60")
    plan = deployment.stopped()
    assert {each["reservation"] for each in plan["booked"]} == {booked, held}
    deployment.imports(*DATES, "--apply")
    deployment.write(policies="closes_before_min = 30")
    assert deployment.stopped()["booked"] == [], "they have more time"


def test_of_two_imports_at_once_one_is_refused(deployment: Deployment, database: str) -> None:
    deployment.write(slot_minutes=30)

    async def work() -> Any:
        records = await Records.open(database, 1)
        async with records.importing(deployment.program) as turn:
            assert await turn.take()
            refused = await asyncio.to_thread(deployment.call, "program", "import", str(deployment.file), "--apply")
        await records.close()
        return refused

    before = deployment.open_windows()
    refused = asyncio.run(work())
    assert (refused.exit_code, "another import of it is running" in str(refused.exception)) == (1, True)
    assert deployment.open_windows() == before
    assert deployment.imports(*DATES, "--apply")["applied"]


def test_an_opening_whose_waiting_room_differs_from_the_file_is_named_and_stays(deployment: Deployment) -> None:
    words = ("--from", str(WEEK), "--to", str(WEEK))
    deployment.write(rule=WEEKLY, days=(WEEK,))
    (opening,) = deployment.imports(*words)["openings"]
    before = deployment.json("opening", "show", opening)
    assert "plan" not in deployment.imports(*words), "nothing differs"
    room = "{ joins_before_min = 5, lasts_min = 10, rate_per_min = 1, proof_of_work = true }"
    deployment.write(rule=WEEKLY.replace("{ joins_before_min = 30 }", room), days=(WEEK,))
    (named,) = deployment.imports(*words)["plan"]["openings"]
    assert {each["term"]: (each["is"], each["file"]) for each in named["waiting_room"]} == {
        "joins_before_min": (30, 5),
        "rate_per_min": (600, 1),
        "proof_of_work": (False, True),
        "lasts_min": (120, 10),
    }
    text = " ".join(deployment.call("program", "import", str(deployment.file), *words).output.split())
    assert "rate_per_min 600 (file: 1)" in text
    deployment.write(rule=WEEKLY.partition("\nwaiting_room")[0], days=(WEEK,))
    (named,) = deployment.imports(*words)["plan"]["openings"]
    assert named["waiting_room"] == [{"term": "waiting_room", "is": True, "file": False}]
    assert deployment.json("opening", "show", opening) == before
