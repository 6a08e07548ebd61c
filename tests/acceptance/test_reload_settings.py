"""At SIGHUP the settings are read again: changes apply, errors are refused, and settings that need a restart are
logged.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest.stage.ports import free_port
from loadtest.stage.service import Part, Service, running_service, wait_for
from tests.fronts import AVAILABILITY, FRONTS, WAIT_S, offered_by_all, parent_of, replace_fronts

STOP_S = 30.0


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Fronts and worker under `up`, which was told `--processes 2`."""
    with running_service(quotas=1, places=10, processes=FRONTS) as running:
        offered_by_all(running, 1)
        yield running


class File:
    """The settings' file of a process that runs in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "config" / "reservasi.toml"
        self._path.parent.mkdir()

    def write(self, text: str) -> None:
        self._path.write_text(text)


def log_entries(log: Path, event: str) -> list[dict[str, Any]]:
    """What was logged under that name."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == event]


def until(look: Callable[[], object], otherwise: str) -> None:
    wait_for(lambda: bool(look()) or None, WAIT_S, otherwise)


def status(url: str) -> int:
    call = urllib.request.Request(
        url, headers={"X-Forwarded-For": "203.0.113.7"}
    )  # a caller has a limit, loopback none
    try:
        with urllib.request.urlopen(call, timeout=5) as response:
            code: int = response.status
            return code
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code


def asked_often(url: str) -> set[int]:
    """The answers to some calls, each over a connection of its own."""
    return {status(url) for _ in range(10)}


def test_up_reads_its_file_again(service: Service) -> None:
    file, log = File(service.log_path.parent), service.log_path
    fronts, worker = service.pids(Part.FRONT), service.pids(Part.WORKER)

    file.write("rate_network_burst = 0\nno_such_setting = 1\n")
    os.kill(service.pid, signal.SIGHUP)
    until(lambda: log_entries(log, "settings_refused"), "a wrong file is not refused")
    reason = log_entries(log, "settings_refused")[0]["reason"]
    assert "rate_network_burst" in reason
    assert "no_such_setting" in reason
    assert asked_often(service.url + AVAILABILITY) == {200}
    assert (service.pids(Part.FRONT), service.pids(Part.WORKER)) == (fronts, worker)

    service.kill_and_wait(Part.WORKER)  # under the settings that hold, not those of the wrong file
    until(lambda: answers(f"http://127.0.0.1:{worker_port(service)}/readyz"), "the worker is not back")

    file.write('rate_network_per_s = 0.001\nrate_network_burst = 1\nprocesses = 1\nport = 1\nrun_as = "nobody"\n')
    worker = service.pids(Part.WORKER)
    replace_fronts(service, "up")  # two again, at the same port: flags still win
    until(lambda: len(now := service.pids(Part.WORKER)) == 1 and now != worker, "the worker goes on")
    assert log_entries(log, "settings_need_restart")[-1]["settings"] == ["run_as"]
    until(lambda: 429 in asked_often(service.url + AVAILABILITY), "the new limits do not hold")

    file.write("")
    replace_fronts(service, "up")
    assert asked_often(service.url + AVAILABILITY) == {200}


def worker_port(service: Service) -> int:
    handed = json.loads((service.data_dir / "settings.json").read_text())
    port: int = handed["worker_admin_port"]
    return port


def test_what_is_handed_out_is_for_our_account_only(service: Service) -> None:
    assert (service.data_dir / "settings.json").stat().st_mode & 0o777 == 0o600


@contextmanager
def api_alone(
    service: Service, directory: Path, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """`reservasi api` on the service's stores, in a directory of its own; process, address and log."""
    port, log = free_port(), directory / "api.log"
    words = ("api", "--port", str(port), "--admin-port", str(free_port()), "--data-dir", str(service.data_dir))
    with alone(words, log, environment) as process:
        yield process, f"http://127.0.0.1:{port}", log


@contextmanager
def alone(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs in the directory of its log."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RESERVASI_", "PROMETHEUS_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "reservasi.cli", *words, "--json"],
            cwd=log.parent,
            env={**own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_S)


def answers(url: str) -> bool:
    try:
        return status(url) == 200
    except OSError:
        return False


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_api_alone_reads_its_file_again(service: Service, tmp_path: Path) -> None:
    file = File(tmp_path)
    file.write("processes = 1\n")
    with api_alone(service, tmp_path, RESERVASI_RATE_NETWORK_BURST="1000") as (api, url, log):
        until(lambda: answers(url + AVAILABILITY), "no front answers")
        (first,) = children(api.pid)
        assert parent_of(first) == api.pid

        file.write("processes = [")
        api.send_signal(signal.SIGHUP)
        until(lambda: log_entries(log, "settings_refused"), "a broken file is not refused")
        assert children(api.pid) == {first}

        file.write("processes = 2\nrate_network_burst = 1\nrate_network_per_s = 0.001\nbacklog = 200\n")
        api.send_signal(signal.SIGHUP)
        until(lambda: len(now := children(api.pid)) == 2 and first not in now, "not two new fronts")
        assert log_entries(log, "settings_need_restart")[-1]["settings"] == ["backlog"]
        assert log_entries(log, "settings_read_again")[-1]["changed"] == ["processes", "rate_network_per_s"]
        assert asked_often(url + AVAILABILITY) == {200}  # the environment wins over the file

        two = children(api.pid)
        file.write("processes = 1\n")
        api.send_signal(signal.SIGHUP)
        until(lambda: len(now := children(api.pid)) == 1 and not now & two, "not one front again")
        assert asked_often(url + AVAILABILITY) == {200}


def test_systemd_hears_that_fronts_serve_once_they_do(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(WAIT_S)
        with api_alone(service, tmp_path, NOTIFY_SOCKET=str(path), RESERVASI_PROCESSES="2") as (api, url, _):
            assert systemd.recv(1000).splitlines()[0] == b"READY=1"
            assert len(children(api.pid)) == 2
            assert status(url + AVAILABILITY) == 200
            systemd.setblocking(False)
            with pytest.raises(BlockingIOError):
                systemd.recv(1000)


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGHUP])
def test_a_worker_ends_cleanly(service: Service, tmp_path: Path, stop_signal: signal.Signals) -> None:
    port, log = free_port(), tmp_path / "worker.log"
    words = ("worker", "--admin-port", str(port), "--data-dir", str(service.data_dir))
    with alone(words, log, {}) as worker:
        until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "no worker")
        worker.send_signal(stop_signal)
        assert worker.wait(STOP_S) == 0, log.read_text()
