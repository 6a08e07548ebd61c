"""How commands start: help lists what the commands say of themselves, and none imports what it does not use."""

import subprocess
import sys

import pytest

from reservasi.cli import main, quotas
from reservasi.cli.on_demand import Listed, command_of

STORES = ("sqlalchemy", "alembic", "asyncpg", "redis")
UPGRADES = ("sqlalchemy", "alembic")
FRONT = ("aiohttp", "gunicorn", "icalendar", "joserfc", "jinja2", "apispec")
OWN = {"openapi": {"apispec"}, "verify": {"joserfc"}}  # by command: what it is for


def imported_by(arguments: list[str]) -> set[str]:
    """The top-level packages that a command has imported when it ends."""
    program = (
        "import sys\n"
        "from reservasi.cli.main import main\n"
        f"sys.argv = {['reservasi', *arguments]!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('imported', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    last = ran.stdout.splitlines()[-1].split()
    assert last[0] == "imported"
    return set(last[1:])


@pytest.mark.parametrize("listed", [*main.COMMANDS, *quotas.COMMANDS], ids=lambda listed: listed.name)
def test_help_lists_what_a_command_says_of_itself(listed: Listed) -> None:
    own = command_of(listed).help
    assert listed.help == " ".join(own.split("\n\n")[0].split("\n")[0].split())


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["openapi"], ["keys", "--help"], ["verify", "--help"]])
def test_a_command_without_a_store_imports_neither_stores_nor_front(arguments: list[str]) -> None:
    unused = {*STORES, *FRONT} - OWN.get(arguments[0], set())
    assert not imported_by(arguments) & unused


def test_version_reads_no_settings() -> None:
    assert not imported_by(["version"]) & {"pydantic_settings", "structlog", "asyncio"}


@pytest.mark.parametrize("group", ["quota", "opening", "reservation", "staff", "reconcile", "audit"])
def test_a_command_with_stores_imports_no_front_and_no_migrations(group: str) -> None:
    assert not imported_by([group, "--help"]) & {*UPGRADES, *FRONT}


def test_a_check_of_the_schema_imports_no_migrations() -> None:
    assert not imported_by(["db", "check", "--help"]) & set(UPGRADES)


@pytest.mark.parametrize("arguments", [["keys", "list", "--help"], ["verify", "draw", "--help"]])
def test_a_command_that_logs_nothing_sets_up_no_logs(arguments: list[str]) -> None:
    assert "structlog" not in imported_by(arguments)


def test_quotas_are_shown_without_the_table_of_holidays() -> None:
    assert "holidays" not in imported_by(["quota", "show", "--help"])
