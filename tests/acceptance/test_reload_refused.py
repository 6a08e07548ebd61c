"""A reload after which no new process could start is refused: nothing restarts, and one log line says why."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from loadtest.stage.ports import free_port
from loadtest.stage.program import PROGRAM
from loadtest.stage.service import Part, Service, running_service
from reservasi.sealing import create_key_ring
from tests.acceptance.test_reload_settings import (
    STOP_S,
    File,
    alone,
    answers,
    log_entries,
    status,
    until,
)
from tests.fronts import AVAILABILITY

Break = Callable[[Service], None]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service(quotas=1, places=10, processes=1) as running:
        yield running


def ring(service: Service) -> Path:
    return service.data_dir / "secrets.json"


def foreign_ring(service: Service) -> None:
    ring(service).write_bytes(msgspec.json.encode(create_key_ring()))


def no_ring(service: Service) -> None:
    ring(service).unlink()


def broken_ring(service: Service) -> None:
    ring(service).write_text("{")


def a_directory_in_its_place(service: Service) -> None:
    ring(service).unlink()
    ring(service).mkdir()


RINGS: list[Break] = [foreign_ring, no_ring, broken_ring, a_directory_in_its_place]


@contextmanager
def put_back(path: Path) -> Iterator[None]:
    content = path.read_bytes()
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)
        path.chmod(0o600)


@pytest.mark.parametrize("spoil", RINGS)
def test_up_goes_on_under_its_key_ring(service: Service, spoil: Break) -> None:
    before = (service.pids(Part.FRONT), service.pids(Part.WORKER))
    refused = len(log_entries(service.log_path, "settings_refused"))
    with put_back(ring(service)):
        spoil(service)
        os.kill(service.pid, signal.SIGHUP)
        until(lambda: len(log_entries(service.log_path, "settings_refused")) > refused, "the reload is not refused")
        assert str(ring(service)) in log_entries(service.log_path, "settings_refused")[-1]["reason"]
        assert status(service.url + AVAILABILITY) == 200
    assert (service.pids(Part.FRONT), service.pids(Part.WORKER)) == before
    assert len(log_entries(service.log_path, "settings_refused")) == refused + 1, "one line"
    assert not log_entries(service.log_path, "member_ended")


def test_up_refuses_programs_that_fit_none_and_takes_ones_that_do(service: Service) -> None:
    file = File(service.log_path.parent)
    worker = service.pids(Part.WORKER)
    refused = len(log_entries(service.log_path, "settings_refused"))
    file.write('programs = "no-such-*"\n')
    os.kill(service.pid, signal.SIGHUP)
    until(lambda: len(log_entries(service.log_path, "settings_refused")) > refused, "the reload is not refused")
    assert PROGRAM in log_entries(service.log_path, "settings_refused")[-1]["reason"]
    assert service.pids(Part.WORKER) == worker
    handed = json.loads((service.data_dir / "settings.json").read_text())
    assert handed["programs"] == ""

    file.write(f'programs = "{PROGRAM}"\n')
    os.kill(service.pid, signal.SIGHUP)
    until(lambda: len(now := service.pids(Part.WORKER)) == 1 and now != worker, "the worker is not started anew")


@pytest.mark.parametrize("command", ["worker", "api"])
def test_a_process_of_its_own_goes_on_as_well(service: Service, tmp_path: Path, command: str) -> None:
    file, log, admin = File(tmp_path), tmp_path / "log", free_port()
    file.write("")
    words = [command, "--admin-port", str(admin), "--data-dir", str(service.data_dir)]
    words += ["--port", str(free_port()), "--processes", "1"] if command == "api" else []
    with alone(words, log, {}) as process:
        until(lambda: answers(f"http://127.0.0.1:{admin}/readyz"), "it does not start")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        before = children.read_text()
        with put_back(ring(service)):
            foreign_ring(service)
            process.send_signal(signal.SIGHUP)
            until(lambda: log_entries(log, "settings_refused"), "the reload is not refused")
        assert process.poll() is None
        assert children.read_text() == before
        file.write("rate_network_burst = 0\n")
        process.send_signal(signal.SIGHUP)
        until(lambda: len(log_entries(log, "settings_refused")) == 2, "a wrong file is not refused")
        assert answers(f"http://127.0.0.1:{admin}/readyz")
        file.write("")
        process.send_signal(signal.SIGHUP)
        if command == "worker":
            assert process.wait(STOP_S) == 0
        else:
            until(lambda: children.read_text() not in ("", before), "the front is not replaced")
