"""Settings: flags over environment over file over defaults, each with its limits."""

import os
from pathlib import Path

import pytest

from reservasi import settings as settings_module
from reservasi.cli.configuration import read_settings
from reservasi.errors import ConfigurationError
from reservasi.settings import Settings, default_data_dir, load


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but the test's own."""
    for name in list(os.environ):
        if name.startswith("RESERVASI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _write_file(text: str) -> None:
    Path("config").mkdir()
    settings_module.CONFIG_FILE.write_text(text)


def test_defaults_need_nothing() -> None:
    settings = load()
    assert (settings.port, settings.admin_port, settings.processes) == (8080, 9090, 0)
    assert settings.data_dir == default_data_dir()
    assert settings.secrets_path == settings.data_dir / "secrets.json"


def test_flags_over_environment_over_file(monkeypatch: pytest.MonkeyPatch) -> None:
    _write_file("port = 1001\nadmin_port = 1001\nprocesses = 3\n")
    monkeypatch.setenv("RESERVASI_PORT", "1002")
    monkeypatch.setenv("RESERVASI_ADMIN_PORT", "1002")
    settings = load(port=1003, admin_port=None)
    assert (settings.port, settings.admin_port, settings.processes) == (1003, 1002, 3)


@pytest.mark.parametrize(
    "flags",
    [
        {"port": 70_000},
        {"port": -1},
        {"port": "http"},
        {"processes": -1},
        {"batch_items_max": 0},
        {"batch_items_max": 1001},
        {"queue_items_max": 0},
        {"command_timeout_ms": 49},
        {"tombstone_ms": 999},
        {"log_level": "loud"},
        {"programs": "surabaya;batam"},
        {"programs": ["Surabaya"]},
        {"unheard_of": 1},
    ],
)
def test_a_value_out_of_its_limits_is_named(flags: dict[str, object]) -> None:
    (name,) = flags
    with pytest.raises(ConfigurationError, match=name):
        load(**flags)


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(port=70_000, processes=-1, log_format="xml")
    assert all(name in str(caught.value) for name in ("port", "processes", "log_format"))


def test_times_that_cannot_be_kept_together_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="view_stale_ms must be below command_timeout_ms"):
        load(view_stale_ms=2000, command_timeout_ms=2000)
    assert load(view_stale_ms=1999, command_timeout_ms=2000).view_stale_ms == 1999


def test_the_environment_is_held_to_the_same_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESERVASI_PROCESSES", "many")
    with pytest.raises(ConfigurationError, match="processes"):
        load()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("RESERVASI_PROT", "RESERVASI_PORT"),
        ("reservasi_catalog_refresh_ms", "RESERVASI_CATALOGUE_REFRESH_MS"),
        ("RESERVASI_POSTGRES_URL", "RESERVASI_POSTGRES_DSN"),
    ],
)
def test_a_misspelt_variable_is_told_with_the_one_that_was_meant(
    variable: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "1")
    assert read_settings({"data_dir": Path("elsewhere")}).data_dir == Path("elsewhere")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"the environment variable {variable} is no setting and is ignored; did you mean {meant}?\n"


def test_variables_that_are_settings_or_something_else_are_not_told() -> None:
    ours = {f"RESERVASI_{name.upper()}" for name in Settings.model_fields}
    # Of tests, shims and `up`; and of other programs.
    others = {"RESERVASI_HANDED_SETTINGS", "RESERVASI_SIMULATION_SEEDS", "RESERVASI_FSYNC_MS", "RESERVASI_TEST_QUOTA"}
    assert settings_module.misspelt(ours | {name.lower() for name in ours} | others | {"PORTS", "PATH", ""}) == {}


@pytest.mark.parametrize("text", ["port = \n", "port = 8080\nport = 8081\n", "no_such_setting = 1\n", "port = 'x'\n"])
def test_a_bad_file_is_refused(text: str) -> None:
    _write_file(text)
    with pytest.raises(ConfigurationError):
        load()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("prot = 8080", "there is no setting prot, did you mean port?"),
        ("zzzzzzzz = 1", "there is no setting zzzzzzzz;"),
        ("[front]\nport = 1", "there is no setting front;"),
    ],
)
def test_a_setting_that_does_not_exist_is_named_with_file_and_list(line: str, message: str) -> None:
    _write_file(f"{line}\n")
    with pytest.raises(ConfigurationError) as caught:
        load()
    heading, *lines = str(caught.value).splitlines()
    assert heading == "the settings cannot be used:"
    assert [each.strip().startswith(f"config/reservasi.toml: {message}") for each in lines] == [True]
    assert lines[0].endswith("docs/reference/settings.md lists all settings")
    assert (Path(settings_module.__file__).parents[1] / settings_module.LIST_OF_SETTINGS).exists()


def test_every_setting_is_described_and_bounded() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if field.annotation is int:
            bounds = {type(bound).__name__ for bound in field.metadata}
            assert bounds >= {"Ge"}, f"{name} has no least value"


def test_units_stand_last() -> None:
    units = (
        "_ms",
        "_s",
        "_max",
        "_port",
        "port",
        "processes",
        "backlog",
        "_burst",
        "_v4",
        "_v6",
        "_ack",
        "_h",
        "_days",
    )
    for name, field in Settings.model_fields.items():
        if field.annotation is int:
            assert name.endswith(units), name


def test_the_data_directory_of_an_ordinary_user_is_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "reservasi"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / ".local/share/reservasi"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/reservasi")


def test_fronts_take_the_cores_that_they_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, fronts in ((1, 1), (3, 3), (200, 64)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert load().front_processes == fronts
    assert load(processes=2).front_processes == 2


def test_settings_do_not_change() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("programs", "served"),
    [
        ("", {"surabaya", "batam-1", "batam-2"}),
        ("surabaya", {"surabaya"}),
        (" batam-* , ", {"batam-1", "batam-2"}),
        ("surabaya,batam-[!1]", {"surabaya", "batam-2"}),
        ("medan", set()),
    ],
)
def test_a_worker_serves_programs_by_id_or_pattern(
    programs: str, served: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESERVASI_PROGRAMS", programs)
    settings = load()
    assert {each for each in ("surabaya", "batam-1", "batam-2") if settings.serves(each)} == served
    assert settings.model_dump(mode="json")["programs"] == ",".join(settings.programs)


def test_a_file_names_programs_as_a_list() -> None:
    _write_file('programs = ["surabaya", "batam-*"]\n')
    assert load().programs == ("surabaya", "batam-*")


@pytest.mark.parametrize("written", ["utf-8", "utf-8-sig"])
def test_a_file_saved_on_windows_is_read(written: str) -> None:
    Path("config").mkdir()
    settings_module.CONFIG_FILE.write_bytes("port = 1001\r\n# komentar\r\nprocesses = 3\r\n".encode(written))
    assert (load().port, load().processes) == (1001, 3)


@pytest.mark.parametrize("written", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_a_file_in_another_encoding_says_so(written: str, mark: str) -> None:
    Path("config").mkdir()
    settings_module.CONFIG_FILE.write_bytes(f"{mark}port = 1001\r\n".encode(written))
    with pytest.raises(ConfigurationError, match=r"config/reservasi.toml is saved as UTF-16 .*save it as UTF-8"):
        load()


def test_a_file_that_is_no_text_says_where() -> None:
    Path("config").mkdir()
    settings_module.CONFIG_FILE.write_bytes(b"port = 1001\n# caf\xe9\n")
    with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
        load()
