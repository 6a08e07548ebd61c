"""Settings that are read again: which may change, what `up` passes on, and what is refused."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from reservasi.cli.reloading import HANDED_VARIABLE, NEEDS_RESTART, begin, hand_out, handed_path, read_again
from reservasi.errors import ConfigurationError
from reservasi.settings import CONFIG_FILE, Settings, load


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty directory to read the file from, and nothing to configure logging with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reservasi.logs.configure", lambda *_: None)


def write_file(text: str) -> None:
    CONFIG_FILE.parent.mkdir(exist_ok=True)
    CONFIG_FILE.write_text(text)


def test_what_is_handed_out_is_read_as_it_was_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = load(
        data_dir=Path("here"),
        redis_url='unix:///a "place"/é.sock',
        trusted_proxies="10.0.0.0/8, fd00::/8",
        rate_person_per_s=0.125,
        processes=3,
    )
    (tmp_path / "here").mkdir()
    hand_out(chosen)
    assert handed_path(chosen).stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv(HANDED_VARIABLE, str(handed_path(chosen)))
    monkeypatch.setenv("RESERVASI_PROCESSES", "many")
    write_file("this is no TOML")
    settings, read = begin(processes=None)
    absolute = {"data_dir": tmp_path / "here", "secrets_file": tmp_path / "here" / "secrets.json"}
    assert settings.model_dump() == {**chosen.model_dump(), **absolute}
    hand_out(settings.model_copy(update={"processes": 5}))
    assert read_again(settings, read).processes == 5


def test_something_else_is_not_taken_for_what_was_handed_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    handed = tmp_path / "settings.json"
    monkeypatch.setenv(HANDED_VARIABLE, str(handed))
    for content in (None, "", "{", '{"processes": 65}', "[]"):
        if content is not None:
            handed.write_text(content)
        with pytest.raises(ConfigurationError, match=str(handed)):
            begin()


def test_a_place_that_cannot_be_written_is_a_clear_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        hand_out(load(data_dir=tmp_path / "nowhere"))


def test_what_changed_holds_and_what_needs_a_restart_stays() -> None:
    running = load(port=8081)
    write_file('log_level = "error"\nport = 8082\nadmin_port = 9999\nprocesses = 7\n')
    with capture_logs() as lines:
        settings = read_again(running, lambda: load(port=8081))
    assert (settings.log_level, settings.processes) == ("error", 7)
    assert (settings.port, settings.admin_port) == (8081, running.admin_port)
    events = {line["event"]: line for line in lines}
    assert events["settings_need_restart"]["settings"] == ["admin_port"]
    assert "not checked now: run `reservasi doctor`" in events["settings_need_restart"]["advice"]
    assert set(events["settings_read_again"]["changed"]) == {"log_level", "processes"}


def test_what_fails_the_check_is_refused_and_nothing_is_said_to_have_changed() -> None:
    running = load(data_dir=Path("here"))
    write_file('processes = 7\nsecrets_file = "elsewhere.json"\n')
    checked: list[Settings] = []

    def check(settings: Settings) -> None:
        checked.append(settings)
        raise ConfigurationError("another deployment's key ring")

    with capture_logs() as lines, pytest.raises(ConfigurationError, match="another deployment's"):
        read_again(running, lambda: load(data_dir=Path("here")), check)
    assert lines == []
    assert (checked[0].processes, checked[0].secrets_path) == (7, running.secrets_path)


def test_a_file_that_may_not_be_read_is_refused() -> None:
    def read() -> Settings:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ConfigurationError, match="Permission denied"):
        read_again(load(), read)


def test_what_needs_a_restart_is_a_setting() -> None:
    assert set(NEEDS_RESTART) < Settings.model_fields.keys()
