"""`reservasi up --demo` for a new user: one command, the documented lines, and the same data at the next start."""

import asyncio
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from loadtest.stage.ports import free_port, free_ports
from reservasi.admin import serve_admin
from reservasi.cli.output import masked
from reservasi.cli.whole_service import _announce, roles
from reservasi.embedded import embedded_redis_url
from reservasi.errors import EmbeddedServerError
from reservasi.front.process.front_probe import wait_ready
from reservasi.settings import load
from tests.pages import run_page

ROOT = Path(__file__).parents[2]
CLI = (sys.executable, "-m", "reservasi.cli")
START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 40


class Up:
    """A running `reservasi up --demo`."""

    def __init__(self, data_dir: Path, cwd: Path, environment: Mapping[str, str], opening_in_s: int) -> None:
        self.port, self.admin_port, self.worker_port = free_ports(3)
        self.data_dir = data_dir
        self.log_path = data_dir.with_suffix(".log")
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *CLI,
                    "up",
                    "--demo",
                    "--demo-opening-in",
                    str(opening_in_s),
                    "--json",
                    "--data-dir",
                    str(data_dir),
                    *self._ports(),
                ],
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "RESERVASI_WORKER_ADMIN_PORT": str(self.worker_port), **environment},
            )
        try:
            self.addresses: dict[str, Any] = json.loads(self._announced())
        except BaseException:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)
            raise

    def _announced(self) -> bytes:
        """The line that is printed once the fronts answer; it ends early only with the process."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"nothing was announced within {START_TIMEOUT_S} s:\n{self.log_path.read_text()}"
            part = os.read(self.process.stdout.fileno(), 65_536)
            assert part, line.decode() + self.log_path.read_text()
            line += part
        return line

    def _ports(self) -> list[str]:
        return ["--port", str(self.port), "--admin-port", str(self.admin_port), "--processes", "2"]

    def admin(self, path: str, port: int | None = None) -> tuple[int, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port or self.admin_port}{path}", timeout=60) as response:
            return response.status, response.read().decode()

    def api(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as response:
            body: bytes = response.read()
            return body.decode()

    def refused(self, path: str) -> tuple[int, str]:
        """Status and problem type of a read that is not answered."""
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60)
        with refusal.value as response:
            return response.code, json.load(response)["type"].rpartition("/")[2]

    def command(self, *words: str) -> Any:
        done = subprocess.run(
            [*CLI, *words, "--data-dir", str(self.data_dir), "--json"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def run_readme(self) -> str:
        return run_page("README.md", self.data_dir, {"127.0.0.1:8080": f"127.0.0.1:{self.port}"})

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def running(data_dir: Path, cwd: Path = ROOT, *, opening_in_s: int = 120, **environment: str) -> Iterator[Up]:
    up = Up(data_dir, cwd, environment, opening_in_s)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.stop()
        assert up.process.stdout is not None
        up.process.stdout.close()
        up.log_path.unlink()


def test_a_newcomer_books_a_place_and_finds_it_after_a_restart(data_dir: Path) -> None:
    with running(data_dir) as up:
        assert up.addresses["ready"] is True
        assert up.admin("/livez")[0] == up.admin("/readyz")[0] == up.admin("/livez", up.worker_port)[0] == 200
        hold, confirmed, read_back = map(json.loads, up.run_readme().splitlines())
        assert confirmed["status"] == read_back["status"] == "confirmed"
        assert hold["quota"] == read_back["quota"]
        assert up.command("reservation", "show", hold["id"])["recorded"] == "confirmed"
        metrics = up.admin("/metrics")[1]
        assert re.search(r'reservasi_requests_total\{.*route="/v1/reservations".*\} 1\.0', metrics), metrics
        assert up.stop() == 0
    with running(data_dir) as up:
        again = up.command("reservation", "show", hold["id"])
        assert again["status"] == again["recorded"] == "confirmed"
        assert again["booking_code"] == confirmed["booking_code"]
        assert again["applicants"][0]["nik"].startswith("************")
        up.run_readme()


def until(condition: Callable[[], Any], timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until it holds; a process that starts may not listen yet, or answer 503."""
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(OSError):
            if condition():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_ledger_that_lost_its_data_keeps_the_service_up_and_recovering(data_dir: Path) -> None:
    by_hand: Any = {"RESERVASI_REBUILD_AUTOMATICALLY": "false"}
    with running(data_dir, **by_hand) as up:
        recorded = re.compile(r'reservasi_recorded_seq\{program="surabaya"\} [1-9]')
        until(lambda: recorded.search(up.admin("/metrics", up.worker_port)[1]))
        with redis.Redis.from_url(embedded_redis_url(data_dir)) as client:
            client.flushall()
        assert up.stop() == 0
    with running(data_dir, **by_hand) as up:
        assert up.addresses["ready"] is False
        assert "the program surabaya is not imported: the ledger of surabaya is fenced: behind" in (
            up.log_path.read_text()
        )
        assert up.refused("/v1/availability?program=surabaya") == (503, "recovering")
        assert 'reservasi_ledger_owned{program="surabaya"} 0.0' in up.admin("/metrics", up.worker_port)[1]
        assert up.process.poll() is None
        assert up.stop() == 0
    with running(data_dir) as up:  # as everybody runs it: the worker rebuilds the ledger
        until(lambda: "reservasi_rebuild_seconds_count" in up.admin("/metrics", up.worker_port)[1])
        until(lambda: up.admin("/readyz", up.worker_port)[0] == 200)
        until(lambda: 'reservasi_ledger_owned{program="surabaya"} 1.0' in up.admin("/metrics", up.worker_port)[1])


def test_servers_that_exist_are_used_and_none_is_started(
    data_dir: Path, valkey_url: str, empty_database: str, program: str
) -> None:
    programs = data_dir / "checkout" / "config" / "programs"
    programs.mkdir(parents=True)
    shipped = (ROOT / "config" / "programs" / "surabaya.toml").read_text()
    (programs / "program.toml").write_text(shipped.replace('id = "surabaya"', f'id = "{program}"'))
    closed = data_dir / "closed"  # to the account of the servers, which do not run
    closed.mkdir(mode=0o700)
    place, checkout = closed / "data", data_dir / "checkout"
    environment: Any = {"RESERVASI_REDIS_URL": valkey_url, "RESERVASI_POSTGRES_DSN": empty_database}
    for _ in range(2):  # what exists already is no obstacle
        with running(place, checkout, **environment) as up:
            assert (up.addresses["redis"], up.addresses["postgres"]) == (masked(valkey_url), empty_database)
            assert up.addresses["ready"] is True
            with urllib.request.urlopen(f"http://127.0.0.1:{up.port}/v1/availability?program={program}") as response:
                assert json.load(response)["quotas"]
            assert up.stop() == 0
    assert not any((place / name).exists() for name in ("valkey", "postgres", "run"))


def test_addresses_are_announced_without_passwords(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load(
        data_dir=data_dir, redis_url="redis://:hush@ledger.example", postgres_dsn="postgresql://app:hush@records/db"
    )
    for as_json in (True, False):
        _announce(settings, ready=False, as_json=as_json)
        output = capsys.readouterr().out
        assert "hush" not in output
        assert "postgresql://app:***@records/db" in output
        assert "recovering" in output or json.loads(output)["ready"] is False


async def test_a_front_that_is_not_ready_is_told_from_one_that_is_not_there() -> None:
    port = free_port()
    with pytest.raises(EmbeddedServerError, match=f"no front answered within 0.1 s.*:{port}/readyz"):
        await wait_ready("127.0.0.1", port, 0.1)
    async with serve_admin(lambda: {"availability": False}, "127.0.0.1", port):
        assert not await wait_ready("127.0.0.1", port, 0.5)
        async with asyncio.timeout(60):
            assert not await wait_ready("127.0.0.1", port, 600, any_answer=True)
    async with serve_admin(lambda: {"availability": True}, "127.0.0.1", port):
        assert await wait_ready("127.0.0.1", port, 10)


def test_processes_get_the_time_to_stop_that_requests_are_given() -> None:
    assert [role.stop_timeout_s for role in roles(load(shutdown_timeout_s=40), {})] == [45, 45]


def test_a_second_up_in_the_same_directory_is_refused_and_nothing_is_left_when_up_is_killed(data_dir: Path) -> None:
    with running(data_dir) as up:
        done = subprocess.run(
            [*CLI, "up", "--data-dir", str(data_dir), "--json"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert f"in use by process {up.process.pid}" in json.loads(done.stdout)["error"]
        children = descendants(up.process.pid)
        assert len(children) >= 5  # Valkey, PostgreSQL and its own, worker, gunicorn and two fronts
        up.process.kill()
        up.process.wait(STOP_TIMEOUT_S)
        until(lambda: not any(is_running(pid) for pid in children), STOP_TIMEOUT_S)


def descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return children + [below for child in children for below in descendants(child)]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_taken_port_is_said_clearly(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*CLI, "up", "--data-dir", str(data_dir), "--port", port, "--json"],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in json.loads(done.stdout.splitlines()[-1])["error"]
