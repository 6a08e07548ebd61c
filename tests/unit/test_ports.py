"""Which ports `up` takes, and which it refuses."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reservasi.cli import ports
from reservasi.errors import EmbeddedServerError
from reservasi.settings import Settings, load

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
    with pytest.raises(EmbeddedServerError, match=f"worker_admin_port: 127.0.0.1:{taken} cannot be listened on"):
        ports.refuse_taken(settings)
    same = load(data_dir=tmp_path, port=taken, admin_port=taken)
    with pytest.raises(EmbeddedServerError, match="must differ"):
        ports.refuse_taken(same)
