"""`reservasi staff` and `reservasi audit` on real servers, without a running service."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis
from typer.testing import CliRunner, Result

from reservasi.bootstrap.commands import open_operations
from reservasi.cli.invocation import run
from reservasi.cli.main import app
from reservasi.ledger import keys
from reservasi.records import StaffRow
from reservasi.settings import load

SURABAYA = Path(__file__).parents[2] / "config" / "programs" / "surabaya.toml"
ONE_DAY = ("--from", "2030-12-03", "--to", "2030-12-03")


class Commands:
    def __init__(self, program: str, file: Path) -> None:
        self.program, self.file = program, file

    def call(self, *words: str) -> Result:
        return CliRunner().invoke(app, words)

    def ok(self, *words: str) -> Any:
        done = self.call(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def fails(self, *words: str) -> str:
        done = self.call(*words)
        assert done.exit_code == 1, done.output
        return str(done.exception)


@pytest.fixture
def commands(valkey_url: str, database: str, data_dir: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setenv("RESERVASI_REDIS_URL", valkey_url)
    monkeypatch.setenv("RESERVASI_POSTGRES_DSN", database)
    monkeypatch.setenv("RESERVASI_DATA_DIR", str(data_dir))
    file = data_dir / "program.toml"
    file.write_text(SURABAYA.read_text().replace('id = "surabaya"', f'id = "{program}"'))
    return Commands(program, file)


def _key(api_key: str) -> StaffRow | None:
    async def work() -> StaffRow | None:
        async with open_operations(load()) as operations:
            return await operations.records.staff_by_key_hash(operations.sealing.api_key_hash(api_key))

    return run(work())


def test_spaces_of_any_kind_in_a_name_are_plain_ones(commands: Commands) -> None:
    assert commands.ok("staff", "add", "\u00a0ani\u00a0 budi\u202f")["name"] == "ani budi"
    assert commands.ok("staff", "revoke", "ani\u00a0budi")["name"] == "ani budi"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("k1\u200b", "it has U+200B (ZERO WIDTH SPACE)"),
        ("k\n1", "it has U+000A (LINE FEED)"),
        ("\u00a0", "it is empty"),
        ("k" * 65, "it has 65"),
    ],
)
def test_a_name_that_cannot_be_stored_says_why(commands: Commands, name: str, named: str) -> None:
    done = commands.call("staff", "add", name)
    assert done.exit_code == 2
    assert f"1 to 64 printable characters, since the name is recorded with each change: {named}" in done.output


def test_a_key_is_limited_listed_renamed_rotated_and_revoked(commands: Commands) -> None:
    commands.ok("program", "import", str(commands.file), *ONE_DAY)
    limits = ("--scope", "read", "--scope", "quotas", "--program", commands.program, "--expires", "90d")
    added = commands.ok("staff", "add", " Ani  Wijaya ", *limits)
    assert (added["name"], added["scopes"], added["programs"]) == ("Ani Wijaya", ["read", "quotas"], [commands.program])
    commands.ok("staff", "add", "Budi")
    listed = commands.ok("staff", "list")
    assert [(row["name"], row["programs"]) for row in listed] == [("Ani Wijaya", [commands.program]), ("Budi", None)]
    assert set(listed[0]) == {"name", "scopes", "programs", "created", "expires", "last_used", "revoked"}
    left = dt.datetime.fromisoformat(listed[0]["expires"]) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=89) < left < dt.timedelta(days=91)
    assert added["api_key"] not in commands.call("staff", "list").output + json.dumps(listed)
    assert "Ani" in commands.fails("staff", "add", "Ani Wijaya")
    assert "Budi" in commands.fails("staff", "rename", "Ani Wijaya", "Budi")
    assert commands.ok("staff", "rename", "Ani Wijaya", "Ani")["name"] == "Ani"

    rotated = commands.ok("staff", "rotate", "Ani")
    former, new = _key(added["api_key"]), _key(rotated["api_key"])
    assert former is not None
    assert new is not None
    assert former.id == new.id
    assert not former.has_expired(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=9))
    assert former.has_expired(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=11))
    at_once = commands.ok("staff", "rotate", "Ani", "--overlap", "0")
    assert _key(rotated["api_key"]) is None
    assert at_once["previous_until"] is None

    revoked = commands.ok("staff", "revoke", "Ani")
    assert revoked["revoked"] is not None
    assert commands.ok("staff", "revoke", "Ani") == revoked
    commands.ok("staff", "add", "Ani")
    assert [row["name"] for row in commands.ok("staff", "list")] == ["Ani", "Budi", "Ani"]


def test_who_changed_a_key_is_in_the_audit(commands: Commands) -> None:
    commands.ok("program", "import", str(commands.file), *ONE_DAY)
    keys_of = ("staff", "add", "Ani", "--scope", "read", "--program", commands.program)
    secrets = [commands.ok(*keys_of)["api_key"], commands.ok("staff", "add", "Budi")["api_key"]]
    commands.ok("staff", "rename", "Ani", "Ani W")
    secrets.append(commands.ok("staff", "rotate", "Ani W")["api_key"])
    for _ in range(2):
        commands.ok("staff", "revoke", "Ani W")
    commands.fails("staff", "revoke", "nobody")
    changes = commands.ok("audit", "--staff-keys")
    assert [(each["change"], each["key"], each["after"]["name"]) for each in changes] == [
        ("revoked", "Ani W", "Ani W"),
        ("rotated", "Ani W", "Ani W"),
        ("renamed", "Ani", "Ani W"),
        ("added", "Budi", "Budi"),
        ("added", "Ani", "Ani"),
    ]
    assert all(each["actor"].startswith("cli:") and each["at"] for each in changes)
    assert changes[0]["after"]["revoked"]
    assert (changes[-1]["after"]["scopes"], changes[-1]["after"]["programs"]) == (["read"], [commands.program])
    assert commands.ok("audit", commands.program, "--staff-keys") == changes, "Budi's is for all programs"
    other = commands.file.with_name("other.toml")
    other.write_text(commands.file.read_text().replace(f'id = "{commands.program}"', f'id = "o-{commands.program}"'))
    commands.ok("program", "import", str(other), *ONE_DAY)
    assert [each["key"] for each in commands.ok("audit", f"o-{commands.program}", "--staff-keys")] == ["Budi"]
    assert commands.ok("audit", "--staff-keys", "--limit", "1") == changes[:1]
    assert commands.ok("audit", "--staff-keys", "--to", "2020-01-01") == []
    output = commands.call("audit", "--staff-keys").output + json.dumps(changes)
    assert "Ani W" in output
    assert not [secret for secret in secrets if secret in output]
    assert commands.call("audit").exit_code == 2
    assert commands.call("audit", "--staff-keys", "--quota", "q").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("add", "x" * 65),
        ("add", "Ani", "--expires", "yesterday"),
        ("add", "Ani", "--expires", "2020-01-01T00:00:00Z"),
        ("add", "Ani", "--expires", "2099-01-01T00:00:00"),
        ("add", "Ani", "--scope", "everything"),
        ("rotate", "Ani", "--overlap", "8d"),
        ("rotate", "Ani", "--overlap", "soon"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(words: tuple[str, ...], commands: Commands) -> None:
    assert commands.call("staff", *words).exit_code == 2
    assert commands.ok("staff", "list") == []


def test_keys_that_are_not_there(commands: Commands) -> None:
    for words in (("revoke", "Ani"), ("rotate", "Ani"), ("rename", "Ani", "Budi")):
        assert "Ani" in commands.fails("staff", *words)
    assert "nowhere" in commands.fails("staff", "add", "Ani", "--program", "nowhere")
    assert commands.ok("staff", "list") == []
    commands.ok("program", "import", str(commands.file), *ONE_DAY)
    assert commands.ok("audit", commands.program) == [], "no worker has recorded anything"


def test_the_journal_names_the_account_the_import_and_the_reason(commands: Commands, valkey_url: str) -> None:
    commands.ok("program", "import", str(commands.file), *ONE_DAY)
    quota = f"{commands.program}.kanim.baru.20301203.0800.online"
    commands.ok("quota", "set", quota, "--capacity", "11", "--reason", "one  more desk")
    commands.ok("quota", "close", quota)
    assert commands.call("quota", "close", quota, "--reason", "of 3578012304900001").exit_code == 2
    with redis.Redis.from_url(valkey_url) as client:
        entries = client.xrange(keys.journal(commands.program))
    events = [event for _, fields in entries for event in msgpack.unpackb(fields[b"events"])]
    authors = [event[-1] for event in events if event[:2] == ["q", quota]]
    assert authors[0] == ["import", ""]
    assert [by[1] for by in authors[1:]] == ["one more desk", ""]
    assert all(by[0].startswith("cli:") for by in authors[1:])


def test_a_key_is_shown_in_the_words_of_the_list(commands: Commands) -> None:
    commands.ok("program", "import", str(commands.file), *ONE_DAY)
    limited = commands.call(
        "staff", "add", "Ani", "--scope", "quotas", "--scope", "read", "--program", commands.program
    )
    anything = commands.call("staff", "add", "Budi")
    renamed = commands.call("staff", "rename", "Ani", "Ani W")
    fields = [
        dict(line.split(maxsplit=1) for line in done.stdout.splitlines()) for done in (limited, anything, renamed)
    ]
    for shown in (fields[0], fields[2]):
        assert (shown["scopes"], shown["programs"]) == ("read quotas", commands.program)
    assert (fields[1]["scopes"], fields[1]["programs"]) == ("read quotas openings reservations", "all")
