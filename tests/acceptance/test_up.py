"""`reservasi up --demo` as a newcomer meets it: one command, the README's lines, and the same data the next time."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CLI = (sys.executable, "-m", "reservasi.cli")
START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 40


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Up:
    """A running `reservasi up --demo`."""

    def __init__(self, data_dir: Path) -> None:
        self.port, self.admin_port, self.worker_port = free_port(), free_port(), free_port()
        self.data_dir = data_dir
        self.log_path = data_dir.with_suffix(".log")
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*CLI, "up", "--demo", "--json", "--data-dir", str(data_dir), *self._ports()],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "RESERVASI_WORKER_ADMIN_PORT": str(self.worker_port)},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # printed once the fronts are ready; ends early only with the process
        assert line, self.log_path.read_text()
        self.addresses: dict[str, str] = json.loads(line)

    def _ports(self) -> list[str]:
        return ["--port", str(self.port), "--admin-port", str(self.admin_port), "--processes", "2"]

    def admin(self, path: str, port: int | None = None) -> tuple[int, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port or self.admin_port}{path}", timeout=10) as response:
            return response.status, response.read().decode()

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

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def running(data_dir: Path) -> Iterator[Up]:
    up = Up(data_dir)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.stop()
        assert up.process.stdout is not None
        up.process.stdout.close()
        up.log_path.unlink()


def walk_through() -> str:
    """The first booking of the README, as it is printed there."""
    found = re.search(r"<!-- walk-through.*?-->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run_walk_through(up: Up) -> list[str]:
    script = walk_through().replace("http://127.0.0.1:8080", f"http://127.0.0.1:{up.port}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_a_newcomer_books_a_place_and_finds_it_after_a_restart(data_dir: Path) -> None:
    with running(data_dir) as up:
        assert up.admin("/livez")[0] == up.admin("/readyz")[0] == up.admin("/livez", up.worker_port)[0] == 200
        quota, hold, confirmed, read_back = map(
            json.loads, ['"' + (lines := run_walk_through(up))[0] + '"', *lines[1:]]
        )
        assert confirmed["status"] == read_back["status"] == "confirmed"
        assert hold["quota"] == read_back["quota"] == quota
        assert up.command("reservation", "show", hold["id"])["recorded"] == "confirmed"
        metrics = up.admin("/metrics")[1]
        assert re.search(r'reservasi_requests_total\{.*route="/v1/reservations".*\} 1\.0', metrics), metrics
        assert up.stop() == 0
    with running(data_dir) as up:
        again = up.command("reservation", "show", hold["id"])
        assert again["status"] == again["recorded"] == "confirmed"
        assert again["booking_code"] == confirmed["booking_code"]
        assert again["applicants"][0]["nik"].startswith("************")
        run_walk_through(up)


def test_nothing_is_left_running_when_up_is_killed(data_dir: Path) -> None:
    with running(data_dir) as up:
        children = descendants(up.process.pid)
        assert len(children) >= 5  # Valkey, PostgreSQL and its own, worker, gunicorn and two fronts
        up.process.kill()
        up.process.wait(STOP_TIMEOUT_S)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while any(is_running(pid) for pid in children):
            assert time.monotonic() < deadline, [pid for pid in children if is_running(pid)]
            time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for task in tasks for child in task.read_text().split()]
    return found + [below for child in found for below in descendants(child)]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_second_up_in_the_same_directory_is_refused(data_dir: Path) -> None:
    with running(data_dir) as up:
        done = subprocess.run(
            [*CLI, "up", "--data-dir", str(data_dir), "--json"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert f"in use by process {up.process.pid}" in json.loads(done.stdout)["error"]


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
