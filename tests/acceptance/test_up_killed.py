"""`up` is killed under load and started again at once: it waits for its former processes, and nothing is lost."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest.stage.people import person
from loadtest.stage.ports import free_ports
from loadtest.stage.program import PROGRAM
from loadtest.stage.service import Service
from tests.acceptance.test_up import CLI, ROOT, START_TIMEOUT_S, STOP_TIMEOUT_S, is_running

KILLS = 3
CALLERS = 4
PAUSE_S = 0.02  # of a caller between two claims, so that the machine's other work goes on
FAULTS = (OSError, http.client.HTTPException, ValueError)


class Killed:
    """An `up` that is started again and again, with the same directory and the same ports."""

    def __init__(self, data_dir: Path) -> None:
        self.port, admin, worker = free_ports(3)
        self._data_dir, self._admin_port = data_dir, admin
        self._log = data_dir / "up.log"
        self._environment = {**os.environ, "RESERVASI_WORKER_ADMIN_PORT": str(worker)}
        self._argv = [*CLI, "up", "--json", "--data-dir", str(data_dir)]
        self._argv += ["--port", str(self.port), "--admin-port", str(admin), "--processes", "2"]
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("wb") as log:
            return subprocess.Popen(self._argv, cwd=ROOT, env=self._environment, stdout=log, stderr=log)

    @property
    def other_dir(self) -> Path:
        """Where another service may have its data."""
        return self._data_dir.with_name(f"{self._data_dir.name}-other")

    @property
    def log_text(self) -> str:
        return self._log.read_text()

    def await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while '"event": "up"' not in (text := self.log_text) and '"event":"up"' not in text:
            assert self.process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)

    def kill_and_start(self) -> None:
        self.process.kill()
        killed, self.process = self.process, self._start()  # before anybody buried the one that was killed
        killed.wait(STOP_TIMEOUT_S)

    def import_program(self) -> None:
        address = "http://127.0.0.1"
        service = Service(
            url=f"{address}:{self.port}",
            admin_url=f"{address}:{self._admin_port}",
            data_dir=self._data_dir,
            log_path=self._log,
            pid=self.process.pid,
        )
        service.import_program(quotas=2, places=50_000)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_TIMEOUT_S)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def up(shared_data_dir: Path) -> Iterator[Killed]:
    """One for all tests: each leaves it running."""
    started = Killed(shared_data_dir)
    try:
        started.await_ready()
        yield started
    finally:
        started.stop()
        shutil.rmtree(started.other_dir, ignore_errors=True)


@contextmanager
def claiming(up: Killed, held: list[dict[str, Any]]) -> Iterator[None]:
    """People who claim without an end; what they got is in `held`."""
    quotas: list[str] = []
    deadline = time.monotonic() + START_TIMEOUT_S
    while not quotas:  # a front hears of an import a moment later
        assert time.monotonic() < deadline
        time.sleep(0.01)
        quotas = [each["id"] for each in up.call("GET", f"/v1/availability?program={PROGRAM}")[1].get("quotas", ())]
    stop = threading.Event()

    def claim(first: int) -> None:
        number = first
        while not stop.is_set():
            body = {"quota": quotas[number % len(quotas)], "applicants": [person(number).applicant()]}
            try:
                status, answer = up.call("POST", "/v1/reservations", body, **{"Idempotency-Key": f"k{number}"})
            except FAULTS:  # it is killed, or starts
                time.sleep(0.05)
                continue
            if status == 201:
                held.append(answer)
            number += CALLERS
            time.sleep(PAUSE_S)

    threads = [threading.Thread(target=claim, args=(first,)) for first in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_up_starts_at_once_after_it_was_killed_under_load_and_nothing_is_lost(up: Killed) -> None:
    held: list[dict[str, Any]] = []
    up.import_program()
    with claiming(up, held):
        for _ in range(KILLS):
            before = len(held)
            deadline = time.monotonic() + START_TIMEOUT_S
            while len(held) < before + 20:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            up.kill_and_start()
            up.await_ready()
    for each in held:
        status, body = up.call("GET", f"/v1/reservations/{each['id']}", Authorization=f"Bearer {each['manage_token']}")
        assert (status, body["status"]) == (200, "held"), each


def test_a_port_of_somebody_else_is_named_with_its_process(up: Killed) -> None:
    argv = [sys.executable, "-m", "reservasi.cli", "up", "--data-dir", str(up.other_dir), "--port", str(up.port)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    output = " ".join(done.stderr.split())
    assert f"127.0.0.1:{up.port} cannot be used" in output
    assert "reservasi.cli.serve api" in output


def test_a_process_that_does_not_end_is_waited_for_and_then_killed(up: Killed) -> None:
    children = Path(f"/proc/{up.process.pid}/task/{up.process.pid}/children").read_text().split()
    stuck = next(int(pid) for pid in children if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(stuck, signal.SIGSTOP)  # it takes no signal but SIGKILL now
    up._environment["RESERVASI_SHUTDOWN_TIMEOUT_S"] = "1"
    up.kill_and_start()
    up.await_ready()
    assert f"{stuck} (" in up.log_text
    assert "earlier `reservasi up`" in up.log_text
    assert not is_running(stuck)
