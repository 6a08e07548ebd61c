"""The start of commands: help shows each command's own text, and no command imports what it does not use."""

import json
import subprocess
import sys

import pytest

from reservasi.cli import main, quotas
from reservasi.cli.on_demand import Listed, command_of

STORES = ("sqlalchemy", "alembic", "asyncpg", "redis")
FRONT = ("aiohttp", "gunicorn", "icalendar", "joserfc", "jinja2", "apispec")
OWN = {"openapi": {"apispec"}, "verify": {"joserfc"}}  # by command: what it is for


def imported_by(*commands: list[str]) -> set[str]:
    """The top-level packages that are imported when these commands have ended, one after the other."""
    program = (
        "import sys\n"
        "from reservasi.cli.main import main\n"
        f"for arguments in {commands!r}:\n"
        "    sys.argv = ['reservasi', *arguments]\n"
        "    try:\n        main()\n    except SystemExit:\n        pass\n"
        "print('imported', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    last = ran.stdout.splitlines()[-1].split()
    assert last[0] == "imported"
    return set(last[1:])


def subcommands(listed: Listed) -> list[str]:
    """The names of a group's commands; none where it is a command itself."""
    return list(getattr(command_of(listed), "commands", {}))


@pytest.mark.parametrize("listed", [*main.COMMANDS, *quotas.COMMANDS], ids=lambda listed: listed.name)
def test_help_lists_what_a_command_says_of_itself(listed: Listed) -> None:
    own = command_of(listed).help
    assert listed.help == " ".join(own.split("\n\n")[0].split("\n")[0].split())


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["openapi"], ["keys", "--help"], ["verify", "--help"]])
def test_a_command_without_a_store_imports_neither_stores_nor_front(arguments: list[str]) -> None:
    unused = {*STORES, *FRONT} - OWN.get(arguments[0], set())
    assert not imported_by(arguments) & unused


def test_version_reads_no_settings() -> None:
    assert not imported_by(["version"]) & {"pydantic", "pydantic_settings", "structlog", "asyncio"}


@pytest.mark.parametrize("listed", main.COMMANDS, ids=lambda listed: listed.name)
def test_help_imports_no_store_no_front_and_no_settings(listed: Listed) -> None:
    """Each command of a group, one after the other in one process: what one imports would be seen as another's."""
    helps = [[listed.name, "--help"], *([listed.name, name, "--help"] for name in subcommands(listed))]
    unused = {*STORES, *FRONT, "pydantic_settings", "structlog", "holidays", "prometheus_client"}
    assert not imported_by(*helps) & (unused - OWN.get(listed.name, set()))


@pytest.mark.parametrize("arguments", [["staff", "list"], ["audit", "surabaya"], ["db", "check"]])
def test_a_command_of_the_records_alone_imports_no_ledger(arguments: list[str]) -> None:
    assert "redis" not in imported_by([*arguments, "--postgres-dsn", "postgresql://nobody@127.0.0.1:1/none"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quota", "show", "--bogus"], "No such option: --bogus"),
        (["quota", "frob"], "No such command 'frob'."),
        (["program", "import"], "Missing argument 'file'."),
        (["audit", "surabaya", "--limit", "many"], "Invalid value for '--limit': Input should be a valid integer"),
    ],
)
def test_a_wrong_use_is_json_where_json_is_asked_for(arguments: list[str], message: str) -> None:
    line = [sys.executable, "-m", "reservasi.cli", *arguments, "--json"]
    ran = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (2, "")
    assert json.loads(ran.stdout)["error"].startswith(message)
