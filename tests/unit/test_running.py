"""How commands find the running `up`: only a running one, and never a guess between several."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import typer

from reservasi.cli import running
from reservasi.cli.invocation import configured, configured_service
from reservasi.settings import Settings

WHERE = ("DATA_DIR", "REDIS_URL", "POSTGRES_DSN", "SECRETS_FILE")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for these files that no other service has, and nothing else that says which one is meant."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    for name in WHERE:
        monkeypatch.delenv(f"RESERVASI_{name}", raising=False)
    return tmp_path / "reservasi"


def handed(tmp_path: Path, name: str, **values: str) -> Path:
    data_dir = tmp_path / name
    data_dir.mkdir()
    (data_dir / "settings.json").write_text(json.dumps(values))
    return data_dir


def test_commands_take_the_stores_of_the_service_that_runs(tmp_path: Path) -> None:
    data_dir = handed(tmp_path, "data", redis_url="redis://ledger.example", postgres_dsn="", secrets_file="/keys.json")
    with running.announced(data_dir, "http://127.0.0.1:8080"):
        settings = configured()
        assert (settings.data_dir, settings.redis_url) == (data_dir, "redis://ledger.example")
        assert (settings.postgres_dsn, settings.secrets_file) == ("", Path("/keys.json"))
        assert configured_service().data_dir == Settings().data_dir  # a service never takes another's data
    assert configured().data_dir == Settings().data_dir
    assert running.services() == []


@pytest.mark.parametrize("name", WHERE)
def test_what_was_said_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"RESERVASI_{name}", "/elsewhere" if "DIR" in name or "FILE" in name else "redis://elsewhere")
    with running.announced(handed(tmp_path, "data", redis_url="redis://ledger.example"), "http://127.0.0.1:8080"):
        settings = configured()
        assert settings.redis_url != "redis://ledger.example"
        assert settings.data_dir != tmp_path / "data"
        assert configured(data_dir=Path("/third")).data_dir == Path("/third")


def test_between_several_nobody_guesses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = handed(tmp_path, "first"), handed(tmp_path, "second")
    another = (
        "import sys, pathlib\nfrom reservasi.cli import running\n"
        f"with running.announced(pathlib.Path({str(second)!r}), 'http://127.0.0.1:8090'):\n"
        "    print('runs', flush=True)\n    sys.stdin.read()\n"
    )
    with (
        running.announced(first, "http://127.0.0.1:8080"),
        subprocess.Popen([sys.executable, "-c", another], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(typer.Exit) as refused:
            configured()
        assert refused.value.exit_code == 2
        output = capsys.readouterr().err
        assert f"--data-dir {first}" in output
        assert f"--data-dir {second}" in output
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        assert [each.data_dir for each in running.services()] == [str(first)]


@pytest.mark.parametrize("started_in", ["session", "job"])
def test_a_service_is_found_in_a_session_and_in_a_job_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started_in: str
) -> None:
    session = tmp_path / "session"
    session.mkdir()
    sessions = {"session": str(session), "job": str(tmp_path / "none")}
    monkeypatch.setenv("XDG_RUNTIME_DIR", sessions[started_in])
    with running.announced(tmp_path, "http://127.0.0.1:8080"):
        for asked_in in sessions.values():
            monkeypatch.setenv("XDG_RUNTIME_DIR", asked_in)
            assert [each.data_dir for each in running.services()] == [str(tmp_path)]
    assert running.services() == []


def test_one_that_was_killed_or_that_others_wrote_does_not_count(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_places", lambda: [place])
    with running.announced(tmp_path, "http://127.0.0.1:8080"):
        mine = place / f"{os.getpid()}.json"
        written = json.loads(mine.read_text())
        mine.write_text(json.dumps({**written, "started": "1"}))  # the number belongs to another process now
        assert running.services() == []
        assert not mine.exists()
        (place / "1.json").write_text("no JSON")
        assert running.services() == []
        mine.write_text(json.dumps(written))
        assert len(running.services()) == 1
        place.chmod(0o777)
        assert running.services() == []


def test_a_place_that_cannot_be_written_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_places", lambda: [Path("/proc/nowhere")])
    with running.announced(tmp_path, "http://127.0.0.1:8080"):
        assert running.services() == []
