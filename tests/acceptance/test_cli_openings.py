"""`reservasi opening`, and openings announced in program files, on real servers."""

import datetime as dt
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reservasi.bootstrap.commands import open_operations, open_program
from reservasi.cli.demo import Demo
from reservasi.cli.invocation import run
from reservasi.cli.main import app
from reservasi.cli.service_flags import DEMO_OPENING_IN_S
from reservasi.errors import ReservasiError
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.model import Opening, SetOpening, SetQuota
from reservasi.programs.files import read_program
from reservasi.settings import load
from reservasi.waiting_room import draw
from reservasi.waiting_room.creation import new_terms

ROOT = Path(__file__).parents[2]
SURABAYA = ROOT / "config" / "programs" / "surabaya.toml"
WIB = dt.timezone(dt.timedelta(hours=7))


def today() -> dt.date:
    return dt.datetime.now(WIB).date()


def at(days: int, hour: int = 14) -> str:
    """A time so many days from today, in the program's own offset."""
    return dt.datetime.combine(today() + dt.timedelta(days=days), dt.time(hour), WIB).isoformat()


class Deployment:
    def __init__(self, program: str, file: Path) -> None:
        self.program = program
        self.file = file

    def call(self, *words: str) -> Result:
        return CliRunner().invoke(app, words)

    def ok(self, *words: str) -> Any:
        done = self.call(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def fails(self, *words: str, code: int = 1) -> str:
        done = self.call(*words, "--json")
        assert done.exit_code == code, done.output
        if code == 2:
            return done.output
        if isinstance(done.exception, ReservasiError):  # which the command line prints as one line
            return str(done.exception)
        error: str = json.loads(done.stdout)["error"]
        return error

    def quotas(self) -> list[Any]:
        rows: list[Any] = self.ok("quota", "show", self.program)
        return rows

    def openings(self) -> list[Any]:
        rows: list[Any] = self.ok("opening", "list", "--program", self.program)
        return rows

    def create(self, *words: str, opens_at: str = "") -> Any:
        return self.ok("opening", "create", self.program, "--opens-at", opens_at or at(1), *words)

    def refused(self, *words: str, opens_at: str = "", code: int = 1) -> str:
        return self.fails("opening", "create", self.program, "--opens-at", opens_at or at(1), *words, code=code)

    def close_at(self, quotas: list[str], moment: dt.datetime) -> None:
        """Let these quotas close then; the command line cannot."""

        async def work() -> None:
            async with open_operations(load()) as operations, open_program(operations, self.program) as group:
                for quota in quotas:
                    await group.submit(SetQuota(quota=quota, closes_at_ms=int(moment.timestamp() * 1000)))

        run(work())

    def stored(self) -> list[Opening]:
        async def work() -> list[Opening]:
            async with open_operations(load()) as operations:
                return (await OpeningWatch(operations.client, self.program).read()).openings

        return run(work())


@pytest.fixture
def deployment(
    valkey_url: str, database: str, data_dir: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """Stores, and a program with quotas from today on for eight days that are open; no service runs."""
    monkeypatch.setenv("RESERVASI_REDIS_URL", valkey_url)
    monkeypatch.setenv("RESERVASI_POSTGRES_DSN", database)
    monkeypatch.setenv("RESERVASI_DATA_DIR", str(data_dir))
    file = data_dir / "program.toml"
    file.write_text(SURABAYA.read_text().replace('id = "surabaya"', f'id = "{program}"'))
    built = Deployment(program, file)
    built.ok("program", "import", str(file), "--to", (today() + dt.timedelta(days=8)).isoformat(), "--open-now")
    return built


def test_an_opening_takes_the_quotas_that_are_meant(deployment: Deployment) -> None:
    before = {quota["id"]: quota for quota in deployment.quotas()}
    first = (today() + dt.timedelta(days=3)).isoformat()
    opening = deployment.create("--from", first, "--office", "kanim", "--channel", "online")
    opens_at = dt.datetime.fromisoformat(at(1))
    assert opening["id"] == f"{deployment.program}-{opens_at:%Y%m%d-%H%M}"
    assert opening["state"] == "announced"
    assert dt.datetime.fromisoformat(opening["opens_at"]) == opens_at
    assert dt.datetime.fromisoformat(opening["joins_from"]) == opens_at - dt.timedelta(minutes=30)
    assert dt.datetime.fromisoformat(opening["ends_at"]) == opens_at + dt.timedelta(minutes=120)
    assert (opening["waiting_room"], opening["proof_of_work"], opening["adaptive"]) == (True, False, True)
    assert (opening["rate_per_min"], opening["rate_max_per_min"]) == (600, 6000)
    moved = 0
    for quota in deployment.quotas():
        meant = quota["date"] >= first and quota["office"] == "kanim" and quota["channel"] == "online"
        moved += meant
        assert quota["opens_at"] == (opening["opens_at"] if meant else before[quota["id"]]["opens_at"]), quota["id"]
    assert moved == opening["moved"] == opening["quotas"] > 0
    assert deployment.ok("opening", "show", opening["id"]) == {
        name: value for name, value in opening.items() if name not in ("moved", "left_out", "taken_from")
    }
    assert [each["id"] for each in deployment.openings()] == [opening["id"]]


def test_the_seed_is_committed_to_and_sealed(deployment: Deployment) -> None:
    answer = deployment.create()
    (opening,) = deployment.stored()

    async def unseal() -> bytes:
        async with open_operations(load()) as operations:
            return bytes.fromhex(operations.sealing.open(opening.id, opening.terms.sealed_seed).decode())

    seed = run(unseal())
    assert len(seed) == draw.SEED_BYTES
    assert draw.commitment(seed) == opening.terms.commitment == answer["commitment"]
    shown = deployment.call("opening", "show", answer["id"]).output
    assert seed.hex() not in shown + json.dumps(answer)
    assert opening.terms.sealed_seed not in shown + json.dumps(answer)


def test_everything_about_an_opening_can_be_said(deployment: Deployment) -> None:
    name = f"{deployment.program}-special"
    opening = deployment.create(
        *("--id", name, "--joins-from", "now", "--ends-at", at(2), "--fixed", "--proof-of-work"),
        *("--rate-per-min", "30", "--rate-max-per-min", "90", "--office", "kanim"),
        *("--beacon-source", "drand quicknet, round 7"),
    )
    assert opening["id"] == name
    assert opening["state"] == "joining"
    assert dt.datetime.fromisoformat(opening["ends_at"]) == dt.datetime.fromisoformat(at(2))
    assert (opening["adaptive"], opening["proof_of_work"]) == (False, True)
    assert (opening["rate_per_min"], opening["rate_max_per_min"]) == (30, 90)
    assert opening["beacon_source"] == "drand quicknet, round 7"
    plain = deployment.create("--no-waiting-room", "--office", "ulp-wiyung", opens_at=at(2))
    assert (plain["waiting_room"], plain["state"]) == (False, "announced")
    output = deployment.call("opening", "list").output
    assert "joining" in output
    assert "not-open" in output, "as GET /v1/openings says of the same opening"
    assert "announced" not in output + deployment.call("opening", "show", plain["id"]).output
    heading = next(line for line in output.splitlines() if line.startswith("id "))
    assert heading.split()[3:6] == ["joined", "arrived", "admitted"]  # as the queue's document calls them
    opens = f"{at(2)[:10]} 14:00 WIB"  # in the program's time, with the year; machines read ISO 8601
    assert opens in next(line for line in output.splitlines() if plain["id"] in line)
    assert opens in deployment.call("opening", "show", plain["id"]).stdout
    assert dt.datetime.fromisoformat(plain["opens_at"]) == dt.datetime.fromisoformat(at(2))


def test_the_list_begins_today(deployment: Deployment) -> None:
    ahead = deployment.create("--office", "kanim", opens_at=at(2))["id"]
    names = [f"{deployment.program}-{name}" for name in ("over", "morning")]
    begins_ms = [int(dt.datetime.fromisoformat(at(days, 0)).timestamp() * 1000) for days in (-2, 0)]

    async def work() -> None:
        async with open_operations(load()) as operations, open_program(operations, deployment.program) as group:
            for name, begin_ms in zip(names, begins_ms, strict=True):
                terms = new_terms(operations.sealing, name, begin_ms, None, ends_at_ms=begin_ms + 1000)
                await group.submit(SetOpening(opening=name, terms=terms))

    run(work())
    over, morning = names

    def shown(*words: str) -> list[str]:
        openings = deployment.ok("opening", "list", "--program", deployment.program, *words)
        return [each["id"] for each in openings]

    day = f"{today() - dt.timedelta(days=2)}"
    assert shown() == [morning, ahead]
    assert shown("--all") == shown("--from", day) == [over, morning, ahead]
    assert shown("--from", day, "--to", day) == [over]
    assert shown("--to", str(today())) == [morning]
    assert deployment.ok("opening", "show", over)["state"] == "ended"
    deployment.fails("opening", "list", "--all", "--from", day, code=2)
    deployment.fails("opening", "list", "--from", str(today()), "--to", day, code=2)


def test_what_cannot_be_created_is_refused_and_changes_nothing(deployment: Deployment) -> None:
    opening = deployment.create("--office", "kanim")
    before, openings = deployment.quotas(), deployment.openings()
    other = f"{deployment.program}-other"
    assert "lies in the past" in deployment.refused(opens_at=at(-1))
    assert "lies in the past" in deployment.refused(opens_at="now")
    assert "no quota of" in deployment.refused("--from", "2099-01-01", opens_at=at(2))
    assert "has no office kamin. Did you mean kanim?" in deployment.refused("--office", "kamin", opens_at=at(2), code=2)
    assert "close before it opens" in deployment.refused(opens_at=at(300))
    assert "an opening" in deployment.refused("--id", opening["id"], opens_at=at(2))
    assert f"{opening['id']} opens at" in deployment.refused("--id", other)
    assert "people would join from" in deployment.refused("--joins-from", at(3), opens_at=at(2))
    assert "it would end at" in deployment.refused("--ends-at", at(1), opens_at=at(2))
    assert "beginning with" in deployment.refused("--id", "elsewhere", opens_at=at(2))
    assert "must not be below" in deployment.refused("--rate-max-per-min", "5", opens_at=at(2))
    assert "has no offset" in deployment.refused(opens_at="2030-01-01T14:00:00", code=2)
    assert "is not a time" in deployment.refused(opens_at="soon", code=2)
    assert "no program" in deployment.fails("opening", "create", "nowhere", "--opens-at", at(1))
    assert deployment.quotas() == before
    assert deployment.openings() == openings


def test_quotas_that_close_before_it_opens_are_left_out(deployment: Deployment) -> None:
    opening = deployment.create(opens_at=at(7))
    assert opening["left_out"] > 0
    for quota in deployment.quotas():
        assert (quota["opens_at"] == opening["opens_at"]) == (quota["closes_at"] > opening["opens_at"])


def test_an_interrupted_command_is_given_again(deployment: Deployment) -> None:
    """Its quotas were moved already: the opening follows."""
    opens_at = at(1)
    quota = deployment.quotas()[-1]["id"]
    deployment.ok("quota", "set", quota, "--opens-at", opens_at)
    opening = deployment.create(opens_at=opens_at)
    ours = [each for each in deployment.quotas() if each["opens_at"] == opening["opens_at"]]
    assert opening["moved"] == len(ours) - 1
    assert opening["quotas"] == sum(each["channel"] != "walk-in" for each in ours) < len(ours)


def test_quotas_are_taken_from_an_opening_for_which_nobody_waits_yet(deployment: Deployment) -> None:
    announced = deployment.create("--office", "kanim")
    other = deployment.create("--office", "kanim", "--channel", "online", "--joins-from", "now", opens_at=at(2))
    assert announced["taken_from"] == []
    assert other["taken_from"] == [announced["id"]]
    assert deployment.ok("opening", "show", announced["id"])["quotas"] < announced["quotas"]
    before = deployment.quotas()
    assert f"belong to {other['id']}" in deployment.refused("--office", "kanim", opens_at=at(3))
    assert deployment.quotas() == before


def test_an_id_names_one_opening_of_all_programs(deployment: Deployment) -> None:
    """A program's id may begin with another's: an opening of either could have the same id."""
    longer = f"{deployment.program}-x"
    file = deployment.file.with_name("longer.toml")
    text = deployment.file.read_text()
    file.write_text(text.replace(f'id = "{deployment.program}"', f'id = "{longer}"', 1))
    deployment.ok("program", "import", str(file), "--to", (today() + dt.timedelta(days=7)).isoformat(), "--open-now")
    name = f"{longer}-1"
    opening = deployment.create("--id", name)
    assert "another program" in deployment.fails("opening", "create", longer, "--opens-at", at(1), "--id", name)
    assert deployment.ok("opening", "show", name) == {
        key: value for key, value in opening.items() if key not in ("moved", "left_out", "taken_from")
    }
    assert deployment.ok("opening", "pause", name)["program"] == deployment.program
    other = deployment.ok("opening", "create", longer, "--opens-at", at(1), "--id", f"{longer}-2")
    assert deployment.ok("opening", "show", other["id"])["program"] == longer
    assert "another program" in deployment.refused("--id", other["id"], opens_at=at(3))


def test_staff_lead_a_waiting_room(deployment: Deployment) -> None:
    name = deployment.create()["id"]
    assert deployment.ok("opening", "pause", name)["paused"]
    assert deployment.ok("opening", "pause", name)["paused"]
    assert not deployment.ok("opening", "resume", name)["paused"]
    fixed = deployment.ok("opening", "rate", name, "45")
    assert (fixed["rate_per_min"], fixed["adaptive"]) == (45, False)
    adaptive = deployment.ok("opening", "rate", name, "0")
    assert (adaptive["rate_per_min"], adaptive["adaptive"]) == (600, True)
    assert deployment.ok("opening", "beacon", name, "lottery:4711")["beacon"] == "lottery:4711"
    assert deployment.ok("opening", "beacon", name, "\u00a0lottery:4711\u200b ")["beacon"] == "lottery:4711"
    assert "is fixed" in deployment.fails("opening", "beacon", name, "lottery:4712")
    deployment.fails("opening", "rate", name, "-5", code=2)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("a b", "U+0020 (SPACE)"),
        ("a\u00a0b", "U+0020 (SPACE)"),
        ("\u00e9", "U+00E9 (LATIN SMALL LETTER E WITH ACUTE)"),
        ("a\nb", "U+000A (LINE FEED)"),
        (" ", "it is empty"),
        ("x" * 257, "it has 257"),
    ],
)
def test_a_beacon_that_is_no_single_word_is_refused_and_can_still_be_entered(
    deployment: Deployment, value: str, named: str
) -> None:
    name = deployment.create()["id"]
    refused = deployment.fails("opening", "beacon", name, value, code=2)
    assert f"1 to 256 ASCII characters, no spaces: {named}" in refused
    assert deployment.ok("opening", "beacon", name, "x" * 256)["beacon"] == "x" * 256


@pytest.mark.parametrize("words", [("show",), ("pause",), ("resume",), ("beacon", "x"), ("rate", "5")])
def test_an_unknown_opening_is_said_so(deployment: Deployment, words: tuple[str, ...]) -> None:
    command, *rest = words
    for name in (f"{deployment.program}-nothing", "nowhere-20261204-1400"):
        assert f"there is no opening {name}" in deployment.fails("opening", command, name, *rest)


def test_an_import_creates_the_openings_that_a_file_announces(deployment: Deployment) -> None:
    room = "waiting_room = { joins_before_min = 45, rate_per_min = 60, adaptive = false }"
    text, count = re.subn(r"^waiting_room = .*$", room, deployment.file.read_text(), flags=re.MULTILINE)
    assert count == 1
    deployment.file.write_text(text)
    # Quotas of the third and fourth week from now open on the Fridays of the second and third.
    days = (
        "--from",
        (today() + dt.timedelta(days=15)).isoformat(),
        "--to",
        (today() + dt.timedelta(days=28)).isoformat(),
    )
    done = deployment.ok("program", "import", str(deployment.file), *days)
    openings = deployment.openings()
    assert done["openings"] == [each["id"] for each in openings]
    moments = {quota["opens_at"] for quota in deployment.quotas() if quota["opens_at"]}
    assert [each["opens_at"] for each in openings] == sorted(moments)
    assert 2 <= len(openings) <= 3
    for each in openings:
        opens_at = dt.datetime.fromisoformat(each["opens_at"]).astimezone(WIB)
        assert each["id"] == f"{deployment.program}-{opens_at:%Y%m%d}-1400"
        assert dt.datetime.fromisoformat(each["joins_from"]) == opens_at - dt.timedelta(minutes=45)
        assert (each["rate_per_min"], each["adaptive"], each["quotas"] > 0) == (60, False, True)
    stored = deployment.stored()
    again = deployment.ok("program", "import", str(deployment.file), *days)
    assert (again["openings"], again["created"]) == ([], 0)
    assert deployment.stored() == stored


def test_the_demo_has_an_opening_to_wait_for(deployment: Deployment) -> None:
    program = read_program(deployment.file)
    assert program.demo

    def load_demo() -> None:
        async def work() -> None:
            async with open_operations(load()) as operations:
                assert await Demo(programs=(program,)).load(operations, quiet=True) == []

        run(work())

    load_demo()
    (opening,) = deployment.openings()
    assert opening["state"] == "joining"
    opens_at = dt.datetime.fromisoformat(opening["opens_at"])
    ahead_ms = (opens_at - dt.datetime.fromisoformat(opening["joins_from"])) / dt.timedelta(milliseconds=1)
    assert DEMO_OPENING_IN_S * 1000 - 1000 < ahead_ms <= DEMO_OPENING_IN_S * 1000
    assert opens_at.microsecond == 0
    assert dt.datetime.fromisoformat(opening["ends_at"]) - opens_at == dt.timedelta(minutes=60)
    quotas = deployment.quotas()
    last = max(quota["date"] for quota in quotas)
    assert {quota["date"] for quota in quotas if quota["opens_at"]} == {last}
    assert opening["quotas"] == sum(quota["date"] == last and quota["channel"] != "walk-in" for quota in quotas)
    load_demo()
    assert deployment.openings() == [opening]


def test_an_opening_is_moved_with_its_quotas(deployment: Deployment) -> None:
    first = (today() + dt.timedelta(days=5)).isoformat()
    name = deployment.create("--office", "kanim", "--from", first, "--joins-from", "now")["id"]
    other = deployment.create("--office", "ulp-wiyung", opens_at=at(3))["id"]
    moved = deployment.ok("opening", "move", name, "--opens-at", at(2), "--reason", "listrik padam")
    for field, expected in (("opens_at", at(2)), ("moved_from", at(1))):
        assert dt.datetime.fromisoformat(moved[field]) == dt.datetime.fromisoformat(expected)
    assert (moved["reason"], moved["version"], moved["quotas"] > 0) == ("listrik padam", 2, True)
    shown = deployment.call("opening", "show", name).stdout
    assert re.search(rf"moved_from +{at(1)[:10]} 14:00 WIB\n", shown)
    meant = [quota for quota in deployment.quotas() if quota["office"] == "kanim" and quota["date"] >= first]
    assert {quota["opens_at"] for quota in meant} == {moved["opens_at"]}
    again = deployment.ok("opening", "move", name, "--opens-at", at(2), "--reason", "listrik padam")
    assert again == moved
    later = deployment.ok("opening", "move", name, "--ends-at", at(3))
    assert dt.datetime.fromisoformat(later["ends_at"]) == dt.datetime.fromisoformat(at(3))
    assert f"opens with {name}" in deployment.fails("quota", "set", meant[0]["id"], "--opens-at", at(4))
    assert "in the past" in deployment.fails("opening", "move", name, "--opens-at", at(-1))
    assert "closes before that" in deployment.fails("opening", "move", name, "--opens-at", at(300))
    assert "is now at version 3" in deployment.fails("opening", "move", name, "--opens-at", at(4), "--version", "1")
    assert "--opens-at or --ends-at" in deployment.fails("opening", "move", name, code=2)
    assert "printed" in deployment.fails("opening", "move", name, "--ends-at", at(4), "--reason", "a\x07b", code=2)
    assert deployment.ok("opening", "show", name) == later
    assert deployment.ok("opening", "show", other)["version"] == 1


def test_what_was_closed_is_no_place_that_remains(deployment: Deployment) -> None:
    name = deployment.create("--office", "kanim")["id"]
    (before,) = (each for each in deployment.openings() if each["id"] == name)
    closed = next(each for each in deployment.quotas() if each["opens_at"] == before["opens_at"])
    deployment.ok("quota", "close", closed["id"])
    (after,) = (each for each in deployment.openings() if each["id"] == name)
    assert after["remaining"] == before["remaining"] - closed["remaining"] < before["remaining"]


def test_an_opening_is_called_off_for_good(deployment: Deployment) -> None:
    name = deployment.create("--office", "kanim")["id"]
    assert "--reason" in deployment.fails("opening", "cancel", name, code=2)
    assert "give a --reason" in deployment.fails("opening", "cancel", name, "--reason", " ", code=2)
    off = deployment.ok("opening", "cancel", name, "--reason", "banjir", "--reason-en", "a flood")
    assert (off["state"], off["cancelled"], off["reason"], off["reason_en"]) == ("cancelled", True, "banjir", "a flood")
    assert all(quota["closed"] for quota in deployment.quotas() if quota["opens_at"] == off["opens_at"])
    assert deployment.ok("opening", "cancel", name, "--reason", "banjir", "--reason-en", "a flood") == off
    refused = [("move", name, "--opens-at", at(3)), ("pause", name), ("rate", name, "5"), ("beacon", name, "x")]
    for words in refused:
        assert f"{name} is cancelled permanently" in deployment.fails("opening", *words)
    assert "selected quotas are closed: first reopen them" in deployment.refused("--office", "kanim")
    reopened = next(quota["id"] for quota in deployment.quotas() if quota["opens_at"] == off["opens_at"])
    deployment.ok("quota", "set", reopened, "--reopen", "--opens-at", at(1))
    again = deployment.create("--office", "kanim")
    assert again["id"] == f"{name}-2"
    assert (again["state"], again["quotas"]) == ("announced", 1)


def test_an_opening_ends_when_the_last_of_its_quotas_closes(deployment: Deployment) -> None:
    opens_at = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=4)
    words = ("--office", "kanim", "--channel", "online", "--joins-from", "now")
    name = deployment.create(*words, opens_at=opens_at.isoformat())["id"]
    quotas = [quota for quota in deployment.quotas() if quota["opens_at"] == opens_at.isoformat()]
    moved = deployment.ok("opening", "move", name, "--ends-at", at(300))
    assert moved["ends_at"] == max(quota["closes_at"] for quota in quotas)
    closing = opens_at + dt.timedelta(seconds=1)
    deployment.close_at([quota["id"] for quota in quotas], closing)
    assert deployment.ok("opening", "show", name)["ends_at"] == closing.isoformat()
    time.sleep(max(0.0, (closing - dt.datetime.now(dt.UTC)).total_seconds()) + 0.1)
    assert deployment.ok("opening", "show", name)["state"] == "ended"
    assert [each["state"] for each in deployment.openings() if each["id"] == name] == ["ended"]
    for change in (("cancel", name, "--reason", "banjir"), ("move", name, "--ends-at", at(3)), ("pause", name)):
        assert f"{name} has ended" in deployment.fails("opening", *change)


def test_an_opening_whose_quotas_are_closed_is_closed_until_one_is_reopened(deployment: Deployment) -> None:
    later = (today() + dt.timedelta(days=4)).isoformat()
    first = min(quota["date"] for quota in deployment.quotas() if quota["office"] == "kanim" and quota["date"] > later)
    name = deployment.create("--office", "kanim", "--from", first, "--to", first, "--joins-from", "now")["id"]
    assert deployment.ok("opening", "show", name)["state"] == "joining"
    deployment.ok("quota", "close", deployment.program, "--date", first, "--office", "kanim")
    assert deployment.ok("opening", "show", name)["state"] == "closed"
    assert [each["state"] for each in deployment.openings() if each["id"] == name] == ["closed"]
    closed = next(quota["id"] for quota in deployment.quotas() if quota["closed"])
    deployment.ok("quota", "set", closed, "--reopen")
    assert deployment.ok("opening", "show", name)["state"] == "joining"
