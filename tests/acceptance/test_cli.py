"""The command line on real servers: output as text and JSON, and exit codes."""

import asyncio
import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reservasi import __version__, model
from reservasi.bootstrap.commands import open_operations, open_program
from reservasi.bootstrap.worker import open_worker
from reservasi.cli.invocation import run
from reservasi.cli.main import app
from reservasi.cli.output import run_app
from reservasi.ledger import keys
from reservasi.ledger.wire import stored_forms
from reservasi.model import Claim, Confirm, Outcome
from reservasi.programs import Program
from reservasi.programs.files import read_program
from reservasi.records.upgrades import MIGRATIONS
from reservasi.sealing import program_tag
from reservasi.settings import load

ROOT = Path(__file__).parents[2]
SURABAYA = ROOT / "config" / "programs" / "surabaya.toml"
WEEK = ("--from", "2030-12-02", "--to", "2030-12-06")
NEXT_WEEK = ("--from", "2030-12-09", "--to", "2030-12-13")
RECORD_TIMEOUT_S = 60
NAMESAKES = ("n1755", "n4872")  # whose reservation ids would begin alike; no other test has them


@pytest.fixture
def deployment(
    valkey_url: str, database: str, data_dir: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> "Deployment":
    """Stores that exist already, told to the commands by the environment; no service runs."""
    monkeypatch.setenv("RESERVASI_REDIS_URL", valkey_url)
    monkeypatch.setenv("RESERVASI_POSTGRES_DSN", database)
    monkeypatch.setenv("RESERVASI_DATA_DIR", str(data_dir))
    file = data_dir / "program.toml"
    file.write_text(SURABAYA.read_text().replace('id = "surabaya"', f'id = "{program}"'))
    return Deployment(program, file)


@pytest.fixture
def schemaless(deployment: "Deployment", empty_database: str, monkeypatch: pytest.MonkeyPatch) -> "Deployment":
    """A deployment whose database has no tables yet."""
    monkeypatch.setenv("RESERVASI_POSTGRES_DSN", empty_database)
    return deployment


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
        error: str = json.loads(done.stdout)["error"]
        return error

    def imported(self) -> str:
        """One week of the program is imported; the id of one of its quotas."""
        self.ok("program", "import", str(self.file), *WEEK, "--open-now")
        return f"{self.program}.kanim.baru.20301203.0800.online"

    def held(self, quota: str) -> str:
        """A hold."""
        return self._reserved(quota, confirm=False)

    def confirmed(self, quota: str) -> str:
        """A confirmed reservation."""
        return self._reserved(quota, confirm=True)

    def recorded(self) -> None:
        """Let a worker record everything that the ledger accepted, then stop it."""

        async def work() -> None:
            async with asyncio.timeout(RECORD_TIMEOUT_S), open_worker(load()) as running:
                worker = running.operations
                connection = worker.ledgers.connection(self.program)
                seq = (await connection.meta(RECORD_TIMEOUT_S)).position.seq
                await connection.drop()
                while (recorded := await worker.records.position(self.program)) is None or recorded.seq < seq:  # noqa: ASYNC110  # the worker decides
                    await asyncio.sleep(0.02)

        run(work())

    def lose_ledger(self) -> None:
        """Empty the program's ledger, as a server does that comes up without its file."""

        async def work() -> None:
            async with open_operations(load()) as operations:
                async for key in operations.client.scan_iter(match=f"{{{self.program}}}:*", count=1000):
                    await operations.client.delete(key)

        run(work())

    def change_meta(self, **fields: str) -> None:
        """Let the ledger say another position than it has, in both places where it does."""

        async def work() -> None:
            async with open_operations(load()) as operations:
                key = keys.meta(self.program)
                for name, value in fields.items():
                    await operations.client.hset(key, name, value)
                position: Any = await operations.client.hmget(key, ["epoch", "seq", "chain"])
                await operations.client.hset(key, "at", b"-".join(each or b"" for each in position))

        run(work())

    def stored(self) -> list[Program]:
        """The programs of the records."""

        async def work() -> list[Program]:
            async with open_operations(load()) as operations:
                return await operations.records.programs()

        return run(work())

    def finding(self, check: str) -> str:
        """What the doctor says of a check that is not well."""
        done = self.call("doctor", "--json")
        assert done.exit_code == 1
        text: str = next(each["said"] for each in json.loads(done.stdout)["findings"] if each["check"] == check)
        return text

    def _reserved(self, quota: str, *, confirm: bool) -> str:
        async def work() -> str:
            async with open_operations(load()) as operations, open_program(operations, self.program) as group:
                person = operations.sealing.person(self.program, secrets.token_hex(8))
                reservation_id = operations.sealing.reservation_id(self.program, person, "key")
                sealed = operations.sealing.seal(
                    reservation_id, b'{"applicants":[{"name":"Siti","nik":"3578014101900001"}]}'
                )
                held = await group.submit(
                    Claim(reservation_id=reservation_id, quota=quota, fingerprint="f", sealed=sealed, persons=(person,))
                )
                assert held.outcome is Outcome.HELD
                if confirm:
                    await group.submit(Confirm(reservation_id=reservation_id))
                return reservation_id

        return run(work())


def test_the_schema_is_checked_and_upgraded(schemaless: Deployment) -> None:
    before = schemaless.call("db", "check", "--json")
    assert before.exit_code == 1
    newest = max(file.stem[1:5] for file in (MIGRATIONS / "versions").glob("r*.py"))
    assert json.loads(before.stdout) == {"schema": "", "wanted": newest, "up_to_date": False}
    assert schemaless.ok("db", "upgrade")["up_to_date"]
    assert schemaless.ok("db", "check")["up_to_date"]


def test_an_import_creates_quotas_once_and_says_so(deployment: Deployment) -> None:
    expected = {"program": deployment.program, "first": "2030-12-02", "last": "2030-12-06"}
    first = deployment.ok("program", "import", str(deployment.file), *WEEK)
    del first["openings"]  # as many as lie ahead; test_cli_openings.py tries them
    assert first == {
        **expected,
        "created": first["total"],
        "unchanged": 0,
        "kept": 0,
        "past": 0,
        "total": first["total"],
    }
    assert first["total"] > 500
    again = deployment.ok("program", "import", str(deployment.file), *WEEK)
    assert again == {**first, "created": 0, "unchanged": first["total"], "openings": []}


def test_an_import_leaves_alone_what_staff_changed(deployment: Deployment) -> None:
    quota = deployment.imported()
    deployment.ok("quota", "set", quota, "--capacity", "77")
    again = deployment.ok("program", "import", str(deployment.file), *WEEK, "--open-now")
    assert (again["created"], again["kept"]) == (0, 1)
    assert deployment.ok("quota", "show", quota)["capacity"] == 77


def test_a_bad_file_is_refused_whole_with_line_and_field(
    deployment: Deployment, failing: Callable[..., tuple[int, str]]
) -> None:
    text = deployment.file.read_text()
    line = next(number for number, words in enumerate(text.splitlines(), 1) if words.startswith("hold_s"))
    deployment.file.write_text(re.sub(r"^hold_s = 7200", "hold_s = -1", text, flags=re.MULTILINE))
    code, output = failing("program", "import", str(deployment.file), *WEEK)
    assert code == 1
    assert f"line {line}: policies.hold_s" in output
    assert "nothing was imported" in output
    assert failing("quota", "show", deployment.program)[0] == 1  # there is no such program


def test_a_program_that_would_have_too_many_quotas_is_refused_before_anything_changes(
    deployment: Deployment, failing: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.imported()
    before = deployment.ok("quota", "show", deployment.program)
    monkeypatch.setattr(model, "QUOTAS_MAX", len(before) + 100)  # one week fits, two do not
    deployment.file.write_text(deployment.file.read_text().replace("hold_s = 7200", "hold_s = 3600"))
    code, output = failing("program", "import", str(deployment.file), *NEXT_WEEK)
    assert code == 1
    assert f"it has {len(before)} quotas" in output
    assert deployment.ok("quota", "show", deployment.program) == before
    assert [program.policies.hold_s for program in deployment.stored()] == [7200]
    again = deployment.ok("program", "import", str(deployment.file), *WEEK, "--open-now", "--apply")
    assert again["created"] == 0  # what exists counts once


def test_a_program_whose_tag_another_one_has_is_refused_before_anything_is_written(
    deployment: Deployment, failing: Callable[..., tuple[int, str]]
) -> None:
    stored, namesake = NAMESAKES
    assert program_tag(stored) == program_tag(namesake)
    text = deployment.file.read_text()

    def named(program: str) -> None:
        deployment.file.write_text(text.replace(f'id = "{deployment.program}"', f'id = "{program}"'))

    named(stored)
    deployment.ok("program", "import", str(deployment.file), *WEEK)
    named(namesake)
    code, output = failing("program", "import", str(deployment.file), *WEEK)
    assert code == 1
    assert f"those of the program {stored}" in output
    assert [program.id for program in deployment.stored()] == [stored]
    assert failing("quota", "show", namesake)[0] == 1


def test_a_ledger_that_lost_its_data_is_named_and_takes_no_import(
    deployment: Deployment, failing: Callable[..., tuple[int, str]]
) -> None:
    deployment.imported()
    deployment.recorded()
    deployment.lose_ledger()
    check = f"program {deployment.program}"
    assert "fenced: behind, it is at nothing, the records at epoch" in deployment.finding(check)
    deployment.file.write_text(deployment.file.read_text().replace("hold_s = 7200", "hold_s = 3600"))
    code, output = failing("program", "import", str(deployment.file), *WEEK)
    assert code == 1
    assert f"the ledger of {deployment.program} is fenced: behind" in output
    assert [program.policies.hold_s for program in deployment.stored()] == [7200]
    assert "fenced: behind" in failing("quota", "show", deployment.program)[1]


def test_a_ledger_with_another_history_is_named(deployment: Deployment) -> None:
    deployment.imported()
    deployment.recorded()
    deployment.change_meta(run_id=f"{stored_forms.FORM}:another", chain="0" * 40)
    check = f"program {deployment.program}"
    assert "fenced: diverged, it is at epoch" in deployment.finding(check)
    deployment.lose_ledger()
    deployment.change_meta(run_id=f"{stored_forms.FORM}:another", epoch="9", seq="1000000", chain="0" * 40)
    assert "fenced: diverged, it is at epoch 9, seq 1000000" in deployment.finding(check)


def test_a_ledger_that_nobody_compared_is_named(deployment: Deployment) -> None:
    deployment.imported()
    deployment.change_meta(run_id=f"{stored_forms.FORM}:another")
    assert "fenced: not compared with the records yet" in deployment.finding(f"program {deployment.program}")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the program as its users do, faults and all: exit code and what it said."""

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["reservasi", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_app(app)
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out + output.err

    return call


def test_a_quota_is_shown_changed_and_closed(deployment: Deployment) -> None:
    quota = deployment.imported()
    shown = deployment.ok("quota", "show", quota)
    assert (shown["capacity"], shown["remaining"], shown["closed"], shown["version"]) == (10, 10, False, 1)
    assert deployment.ok("quota", "set", quota, "--capacity", "12", "--version", "1")["capacity"] == 12
    assert "version 2" in deployment.fails("quota", "set", quota, "--capacity", "13", "--version", "1")
    assert deployment.ok("quota", "close", quota)["closed"]
    assert not deployment.ok("quota", "set", quota, "--reopen")["closed"]
    opened = deployment.ok("quota", "set", quota, "--opens-at", "2030-12-02T14:00:00+07:00")
    assert opened["opens_at"] == "2030-12-02T07:00:00+00:00"
    assert any(each["id"] == quota for each in deployment.ok("quota", "show", deployment.program))
    assert quota in deployment.call("quota", "show", quota).stdout


def test_a_capacity_below_what_is_taken_is_refused(deployment: Deployment) -> None:
    quota = deployment.imported()
    deployment.confirmed(quota)
    assert "1 places taken" in deployment.fails("quota", "set", quota, "--capacity", "0")
    assert deployment.ok("quota", "show", quota)["capacity"] == 10


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--capacity", "-1"), 2),
        (("--capacity", "1.5"), 2),
        (("--capacity", "100001"), 2),
        (("--opens-at", "tomorrow"), 2),
        (("--opens-at", "2030-12-03T14:00:00"), 2),
        ((), 2),
    ],
)
def test_wrong_usage_is_exit_2_and_changes_nothing(deployment: Deployment, words: tuple[str, ...], code: int) -> None:
    quota = deployment.imported()
    before = deployment.ok("quota", "show", quota)
    assert deployment.call("quota", "set", quota, *words).exit_code == code
    assert deployment.ok("quota", "show", quota) == before


def test_an_unknown_quota_is_said(deployment: Deployment) -> None:
    deployment.imported()
    unknown = f"{deployment.program}.kanim.baru.20301203.0800.nothing"
    assert unknown in deployment.fails("quota", "show", unknown)
    assert unknown in deployment.fails("quota", "set", unknown, "--capacity", "1")


def test_an_unknown_program_is_said(deployment: Deployment) -> None:
    deployment.imported()
    for words in (("nowhere",), ("nowhere.kanim.baru.20301203.0800.online",)):
        assert "no program 'nowhere'" in str(deployment.call("quota", "show", *words).exception)


def test_a_list_that_no_terminal_shows_has_a_line_for_each_row(deployment: Deployment) -> None:
    quota = deployment.imported()
    rows = deployment.ok("quota", "show", deployment.program)
    heading, *lines = deployment.call("quota", "show", deployment.program).stdout.splitlines()
    assert heading.split()[0] == "id"
    assert [line.split()[0] for line in lines] == [row["id"] for row in rows]
    assert quota in lines[[row["id"] for row in rows].index(quota)]


def test_a_list_of_quotas_is_filtered_and_paged_and_says_how_many_there_are(deployment: Deployment) -> None:
    quota = deployment.imported()
    every = deployment.ok("quota", "show", deployment.program)
    deployment.ok("quota", "close", quota)
    filters = (
        "--office",
        "kanim",
        "--service",
        "baru",
        "--channel",
        "online",
        "--from",
        "2030-12-03",
        "--to",
        "2030-12-03",
    )
    quotas = deployment.ok("quota", "show", deployment.program, *filters)
    assert [each["id"] for each in quotas] == [
        each["id"]
        for each in every
        if (each["office"], each["service"], each["channel"], each["date"]) == ("kanim", "baru", "online", "2030-12-03")
    ]
    assert [each["id"] for each in deployment.ok("quota", "show", deployment.program, "--state", "closed")] == [quota]
    assert quota not in str(deployment.ok("quota", "show", deployment.program, "--state", "open"))
    assert deployment.call("quota", "show", deployment.program, "--state", "ajar").exit_code == 2
    backwards = ("--from", "2030-12-07", "--to", "2030-12-03")
    assert deployment.call("quota", "show", deployment.program, *backwards).exit_code == 2
    for words in (("--office", "kanim"), ("--limit", "3"), ("--page", "2")):
        refused = deployment.call("quota", "show", quota, *words)
        assert refused.exit_code == 2
        assert "need a program in place of a quota" in " ".join(refused.stderr.replace("│", " ").split())
    pages = [
        [each["id"] for each in deployment.ok("quota", "show", deployment.program, "--limit", "7", "--page", number)]
        for number in ("1", "2")
    ]
    assert [*pages[0], *pages[1]] == [each["id"] for each in every][:14]
    shown = deployment.call("quota", "show", deployment.program, "--limit", "7", "--page", "2")
    assert len(shown.stdout.splitlines()) == 8
    assert f"8 to 14 of {len(every)} quotas" in shown.stderr
    assert "--page 3" in shown.stderr
    assert (
        f"there are {len(every)} quotas" in deployment.call("quota", "show", deployment.program, "--page", "900").stderr
    )


def test_times_are_shown_in_the_programs_zone_with_the_year(deployment: Deployment) -> None:
    quota = deployment.imported()
    deployment.ok("quota", "set", quota, "--opens-at", "2030-12-02T14:00:00+07:00")
    assert "2030-12-02 14:00 WIB" in deployment.call("quota", "show", quota).stdout
    listed = deployment.call("quota", "show", deployment.program, "--from", "2030-12-03", "--to", "2030-12-03").stdout
    assert "2030-12-02 14:00 WIB" in next(line for line in listed.splitlines() if quota in line)


def test_staff_show_and_cancel_a_reservation(deployment: Deployment) -> None:
    quota = deployment.imported()
    reservation_id = deployment.confirmed(quota)
    shown = deployment.ok("reservation", "show", reservation_id)
    assert (shown["status"], shown["quota"], shown["program"]) == ("confirmed", quota, deployment.program)
    ended = {"id": reservation_id, "status": "cancelled", "quota": quota, "recorded": False}  # no worker runs here
    assert deployment.ok("reservation", "cancel", reservation_id) == ended
    assert deployment.ok("reservation", "cancel", reservation_id) == ended
    assert deployment.ok("reservation", "cancel", deployment.held(quota))["status"] == "released"
    assert deployment.ok("quota", "show", quota)["confirmed"] == 0
    assert "zzzz" in deployment.fails("reservation", "show", "zzzz")
    assert "zzzz" in deployment.fails("reservation", "cancel", "zzzz")


def test_a_staff_key_is_shown_once_and_stored_as_a_hash(deployment: Deployment) -> None:
    key = deployment.ok("staff", "add", "Budi", "--role", "viewer")["api_key"]

    async def stored() -> str | None:
        async with open_operations(load()) as operations:
            member = await operations.records.staff_by_key_hash(operations.sealing.api_key_hash(key))
            return member.role if member else None

    assert run(stored()) == "viewer"
    assert deployment.call("staff", "add", "Budi", "--role", "king").exit_code == 2
    for nobody in ("", "  ", "Bu\ndi"):
        assert deployment.call("staff", "add", nobody).exit_code == 2


def test_the_doctor_names_what_is_not_well(schemaless: Deployment) -> None:
    sick = schemaless.call("doctor", "--json")
    assert sick.exit_code == 1
    assert [each["check"] for each in json.loads(sick.stdout)["findings"] if not each["ok"]] == ["schema"]
    schemaless.ok("db", "upgrade")
    assert schemaless.ok("doctor")["ok"]
    schemaless.imported()
    assert "none was recorded for 2 s; check that a worker serves it" in schemaless.finding(
        f"program {schemaless.program}"
    )
    schemaless.recorded()
    well = schemaless.ok("doctor")
    assert any(each["check"] == f"program {schemaless.program}" for each in well["findings"])


def test_the_api_describes_itself_without_servers() -> None:
    text = CliRunner().invoke(app, ["openapi"]).stdout
    assert CliRunner().invoke(app, ["openapi", "--json"]).stdout == text
    document = json.loads(text)
    assert document["openapi"].startswith("3.1")
    assert "/v1/reservations" in document["paths"]


def test_the_version_is_said() -> None:
    assert json.loads(CliRunner().invoke(app, ["version", "--json"]).stdout)["reservasi"] == __version__


def test_a_wrong_setting_is_exit_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESERVASI_BATCH_ITEMS_MAX", "0")
    done = CliRunner().invoke(app, ["db", "check"])
    assert done.exit_code == 2
    assert "batch_items_max" in done.output


def test_a_database_without_schema_is_exit_1(schemaless: Deployment, failing: Callable[..., tuple[int, str]]) -> None:
    code, output = failing("program", "import", str(schemaless.file), *WEEK)
    assert code == 1
    assert "reservasi db upgrade" in output


def test_a_database_that_is_away_is_exit_1(failing: Callable[..., tuple[int, str]], data_dir: Path) -> None:
    code, output = failing("db", "check", "--data-dir", str(data_dir))
    assert code == 1
    assert "PostgreSQL does not answer" in output


def test_the_shipped_programs_can_be_read() -> None:
    programs = [read_program(file) for file in sorted(SURABAYA.parent.glob("*.toml"))]
    assert [program.id for program in programs] == ["batam", "pontianak", "surabaya"]
