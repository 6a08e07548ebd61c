"""Which ports `up` uses, and which it refuses."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reservasi.cli import ports
from reservasi.cli.whole_service import _Processes
from reservasi.errors import ConfigurationError, EmbeddedServerError
from reservasi.settings import Settings, load
from reservasi.supervisor import Supervisor

USUAL = Settings.model_fields["worker_admin_port"].default


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


def test_two_services_on_one_machine_need_not_choose_three_ports(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESERVASI_WORKER_ADMIN_PORT", raising=False)
    monkeypatch.setattr(Settings.model_fields["worker_admin_port"], "default", taken)
    Settings.model_rebuild(force=True)
    try:
        settings = load(data_dir=tmp_path)
        assert settings.worker_admin_port == taken
        other = ports.instead_of_taken(settings)
        assert other is not None
        assert other not in (taken, settings.port, settings.admin_port)
        assert ports.instead_of_taken(load(data_dir=tmp_path, worker_admin_port=other)) is None
    finally:
        monkeypatch.undo()
        Settings.model_rebuild(force=True)


def test_a_port_of_the_service_itself_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESERVASI_WORKER_ADMIN_PORT", raising=False)
    for flags in ({"port": USUAL}, {"admin_port": USUAL}):
        assert ports.instead_of_taken(load(data_dir=tmp_path, **flags)) not in (None, USUAL)


def test_what_was_chosen_is_refused_where_it_is_taken(tmp_path: Path, taken: int) -> None:
    settings = load(data_dir=tmp_path, port=0, admin_port=0, worker_admin_port=taken)
    assert ports.instead_of_taken(settings) is None
    with pytest.raises(EmbeddedServerError, match=f"worker_admin_port: 127.0.0.1:{taken} cannot be used"):
        ports.refuse_taken(settings)
    same = load(data_dir=tmp_path, port=taken, admin_port=taken)
    with pytest.raises(EmbeddedServerError, match="must differ"):
        ports.refuse_taken(same)


def handed_port(data_dir: Path) -> int:
    port: int = json.loads((data_dir / "settings.json").read_text())["worker_admin_port"]
    return port


def test_a_port_that_was_lost_since_it_was_chosen_is_exchanged_before_the_worker_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    settings = load(data_dir=tmp_path, worker_admin_port=port)
    processes = _Processes(settings, lambda: settings, may_move_port=True)
    processes.prepare()
    worker, fronts = processes.roles
    assert fronts.before_start is None
    assert worker.before_start is not None
    worker.before_start()
    assert handed_port(tmp_path) == port, "nobody has it"
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        worker.before_start()
    moved = processes.settings.worker_admin_port
    assert moved not in (port, settings.port, settings.admin_port)
    assert handed_port(tmp_path) == moved
    output = " ".join(capsys.readouterr().err.split())
    assert f"worker_admin_port: {port} is in use now; the worker uses {moved}" in output
    monkeypatch.setattr("reservasi.cli.whole_service.refuse_reload", lambda *_: None)  # no stores run here

    async def reload() -> None:
        processes.renew(Supervisor())
        while asyncio.all_tasks() - {asyncio.current_task()}:  # noqa: ASYNC110 - until it has been done
            await asyncio.sleep(0.01)

    asyncio.run(reload())
    assert processes.settings.worker_admin_port == handed_port(tmp_path) == moved
    assert "settings_need_restart" not in capsys.readouterr().err


def test_a_port_that_was_chosen_is_never_exchanged(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path)
    assert all(role.before_start is None for role in _Processes(settings, lambda: settings).roles)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("port", "--port or RESERVASI_PORT"),
        ("admin_port", "--admin-port or RESERVASI_ADMIN_PORT"),
        ("worker_admin_port", "RESERVASI_WORKER_ADMIN_PORT"),
    ],
)
def test_who_loses_a_port_is_told_which_setting_and_how_to_choose_another(taken: int, name: str, how: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ports.take(name, "127.0.0.1", taken)
    message = str(refused.value)
    assert message.startswith(f"{name}: 127.0.0.1:{taken} cannot be used: Address already in use; stop what")
    assert how in message
    assert f"process {os.getpid()}: " in message, "who has it is named"
    assert "\n" not in message


def test_a_port_that_may_move_is_no_reason_to_refuse(tmp_path: Path, taken: int) -> None:
    settings = load(data_dir=tmp_path, port=0, admin_port=0, worker_admin_port=taken)
    ports.refuse_taken(settings, movable=True)
