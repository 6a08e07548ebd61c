"""The pages for operators name nothing that does not exist, and what they list is what the code has."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from reservasi.cli.reloading import NEEDS_RESTART
from reservasi.embedded.places import DATABASE, ROLE
from reservasi.programs.program import OpeningRule, WaitingRoom
from reservasi.records.roles import RUNTIME_ROLES
from reservasi.settings import Settings
from tests.page_names import complaints, fences, spans
from tests.pages import ROOT

OPERATIONS = ROOT / "docs" / "operations"
PAGES = [*sorted(OPERATIONS.glob("*.md")), ROOT / "loadtest" / "README.md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_names_nothing_that_does_not_exist(path: Path) -> None:
    assert complaints(path.read_text()) == []


@pytest.mark.parametrize(
    "planted",
    [
        "```sh\nreservasi no-such-command\n```",
        "```sh\nreservasi quota no-such-command\n```",
        "```sh\nreservasi reconcile --no-such-option\n```",
        "```sh\nreservasi quota set --capacity 5\n```",
        "```sh\nreservasi keys rotate --in soon\n```",
        "```sh\nX=1 .venv/bin/reservasi doctor --no-such-option | head\n```",
        "```sh\ncd /x && make no-such-target\n```",
        '```sh\nmake waiting ARGS="--no-such-option 3"\n```',
        '```sh\nmake loadtest NOTHING="3"\n```',
        "```sh\npython -m loadtest.nothing\n```",
        "```sh\n.venv/bin/locust -f loadtest/nothing.py\n```",
        "`reservasi quota vanish`",
        "`quota vanish`",
        "`reservasi rebuild --no-such-option`",
        "`--no-such-option`",
        "`make nothing`",
        "`RESERVASI_NOTHING=1`",
        "`batch_items_max = 0`",
        "`aof_ack = sometimes`",
        "`reservasi_nothing_total`",
        "```yaml\nexpr: reservasi_nothing > 0\n```",
        "`PUT /v1/nothing`",
        "`PUT /v1/openings`",
        "```sh\ncurl -s https://a.example/v1/staff/nothing\n```",
        "```sh\ncurl -s localhost:9090/healthz; echo\n```",
        "503 `sold-out`",
        "409 `nothing`",
        "`no_such_event`",
        "`no-such-kind`",
        "`config/nothing.conf`",
        "```sh\ncp config/systemd/nothing.service /etc\n```",
    ],
)
def test_what_does_not_exist_is_found(planted: str) -> None:
    assert complaints(f"Text before.\n\n{planted}\n") != []


def test_what_needs_a_restart_is_listed_as_the_code_has_it() -> None:
    page = (OPERATIONS / "configuration.md").read_text()
    listed = page.split("<!-- needs-restart")[1].split("-->\n")[1].split("\n\n")[0]
    assert spans(listed) == list(NEEDS_RESTART)


def test_the_files_shown_can_be_read() -> None:
    settings, program = map(tomllib.loads, fences((OPERATIONS / "configuration.md").read_text(), "toml"))
    Settings(**settings)
    opening = msgspec.convert(program["opening"], OpeningRule)
    assert opening.waiting_room == WaitingRoom()  # "these are the defaults"


def test_the_limits_of_nginx_are_named_as_its_file_has_them() -> None:
    nginx = (ROOT / "config/nginx/reservasi.conf").read_text()
    page = (OPERATIONS / "configuration.md").read_text()
    [rate], [burst] = re.findall(r"rate=(\d+)r/s;", nginx), re.findall(r"\bburst=(\d+)", nginx)
    [connections] = re.findall(r"limit_conn \w+ (\d+);", nginx)
    assert f"at nginx: {rate} a second and a burst of {int(burst):,} |" in page
    assert f"requests in progress of one address, at nginx: {int(connections):,} |" in page


def test_the_roles_of_the_database_are_those_that_are_granted_rights() -> None:
    (statements,) = fences((OPERATIONS / "deployment.md").read_text(), "sql")
    assert re.findall(r"CREATE ROLE (\w+) LOGIN", statements) == [ROLE, *RUNTIME_ROLES.values()]
    assert f"CREATE DATABASE {DATABASE} OWNER {ROLE};" in statements
