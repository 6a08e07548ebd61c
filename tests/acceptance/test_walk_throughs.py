"""What quickstart and API page ask their reader to type, typed against a service that `make up` started."""

import hashlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtest.stage.ports import free_ports
from reservasi.front.api.openapi import openapi_document
from tests.acceptance.test_up import START_TIMEOUT_S, STOP_TIMEOUT_S
from tests.pages import ROOT, environment, run_page

OPENING_IN_S = 45  # the opening must lie ahead still when the quickstart comes to it


@dataclass(frozen=True)
class Service:
    """Where the parts of a running service are."""

    data_dir: Path
    port: int
    admin_port: int
    worker_port: int

    @property
    def places(self) -> dict[str, str]:
        """What the pages call those addresses."""
        ports = {8080: self.port, 9090: self.admin_port, 9091: self.worker_port}
        return {f"127.0.0.1:{usual}": f"127.0.0.1:{actual}" for usual, actual in ports.items()}

    def run(self, page: str) -> str:
        return run_page(page, self.data_dir, self.places)

    def metrics(self) -> str:
        return _read(f"http://127.0.0.1:{self.admin_port}/metrics")

    def quotas(self) -> dict[str, Any]:
        """The quotas of the Surabaya program, by id."""
        answer = json.loads(_read(f"http://127.0.0.1:{self.port}/v1/availability?program=surabaya"))
        return {quota["id"]: quota for quota in answer["quotas"]}


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as response:
        text: str = response.read().decode()
        return text


@pytest.fixture(scope="module")
def service(shared_data_dir: Path) -> Iterator[Service]:
    """The service as `make up` starts it, told by variables where its ports and its data shall be."""
    started = Service(shared_data_dir, *free_ports(3))
    variables = environment(
        PORT=str(started.port),
        ADMIN_PORT=str(started.admin_port),
        ARGS=f"--data-dir {started.data_dir} --demo-opening-in {OPENING_IN_S} --processes 2",
        RESERVASI_WORKER_ADMIN_PORT=str(started.worker_port),
    )
    log = shared_data_dir.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", "up"], cwd=ROOT, env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_for(log, "reservasi is up", process)
        yield started
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
        process.wait(STOP_TIMEOUT_S)
        log.unlink()


def _wait_for(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while words not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_the_quickstart_books_acts_as_staff_looks_and_waits_for_an_opening(service: Service) -> None:
    lines = service.run("docs/quickstart.md").splitlines()
    bodies = [json.loads(line) for line in lines if line.startswith("{")]
    answers = [body for body in bodies if "status" in body]
    assert [answer["status"] for answer in answers] == ["held", "confirmed", "held"]
    queues = [body for body in bodies if "commitment" in body]
    assert [queue["state"] for queue in queues] == ["joining", "open"]
    assert "seed" not in queues[0]
    assert hashlib.sha256(bytes.fromhex(queues[1]["seed"])).hexdigest() == queues[0]["commitment"]
    assert service.quotas()[answers[-1]["quota"]]["opening"] == queues[0]["id"]  # not one that was open before
    assert [body["capacity"] for body in bodies if "capacity" in body] == [25]
    assert 'reservasi_claims_total{outcome="held"} 1.0' in lines
    assert any(re.match(r'reservasi_recorded_seq\{program="surabaya"\} [1-9]', line) for line in lines)


def test_every_operation_of_the_api_has_a_command_that_succeeds(service: Service) -> None:
    before = _succeeded(service.metrics())
    service.run("docs/http-api.md")
    after = _succeeded(service.metrics())
    called = {operation for operation, count in after.items() if count > before.get(operation, 0)}
    paths = openapi_document()["paths"]
    operations = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert operations - called == set()
    assert len(operations) >= 30


def _succeeded(metrics: str) -> dict[tuple[str, str], float]:
    """How often each operation was answered with 2xx, by method and route."""
    counted = re.findall(r'reservasi_requests_total\{method="(.+)",outcome="2xx",route="(.+)"\} (.+)', metrics)
    return {(method, route): float(count) for method, route, count in counted}
