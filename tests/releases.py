"""Two releases on the same stores: this one, and the one before it, whose code is taken from the history.

`FORMER` is what "one version back" means. Whoever makes a release sets it to the commit or tag of that release, and
`FORMER_SCHEMA` to its newest migration.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from loadtest.stage.ports import free_ports
from reservasi.cli.main import app

FORMER = "b7cf8b4"
FORMER_SCHEMA = "0003"
ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 120
POLL_S = 0.05


def has_former() -> bool:
    """Whether the history has the former release: a shallow clone or an archive has not."""
    result = subprocess.run(
        ["git", "cat-file", "-e", f"{FORMER}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    return result.returncode == 0


@dataclass(frozen=True)
class Release:
    """The code of one release; it runs with the packages of this environment."""

    root: Path

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        """What a process of it is started with: its code comes before what is installed."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RESERVASI_")}
        return {**inherited, **settings, "PYTHONPATH": str(self.root)}


PRESENT = Release(ROOT)


def take_former(into: Path) -> Release:
    """Unpack the former release."""
    packed = subprocess.run(["git", "archive", FORMER], cwd=ROOT, capture_output=True, check=True).stdout
    into.mkdir()
    subprocess.run(["tar", "-x", "-C", str(into)], input=packed, check=True)
    return Release(into)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    exit_code: int
    output: str  # of both streams
    stdout: str


class Installation:
    """Stores that stay, and fronts and worker of whichever release runs on them."""

    def __init__(self, directory: Path, redis_url: str, postgres_dsn: str, **settings: str) -> None:
        self.directory = directory
        self.redis_url = redis_url
        self.postgres_dsn = postgres_dsn
        self.log_path = directory / "service.log"
        self.port, self.admin_port, self.worker_port = free_ports(3)
        self._settings = {
            "RESERVASI_DATA_DIR": str(directory),
            "RESERVASI_REDIS_URL": redis_url,
            "RESERVASI_POSTGRES_DSN": postgres_dsn,
            "RESERVASI_WORKER_ADMIN_PORT": str(self.worker_port),
            "RESERVASI_CATALOGUE_REFRESH_MS": "200",
            "RESERVASI_LOG_FORMAT": "json",
            **settings,
        }

    @property
    def url(self) -> str:
        """Of the fronts."""
        return f"http://127.0.0.1:{self.port}"

    def command(self, release: Release, *words: str) -> Done:
        """Run a command of a release to its end; this one's without a process of its own, which takes a second less."""
        if release is PRESENT:
            ran = CliRunner(env=self._settings).invoke(app, [*words, "--json"])
            return Done(ran.exit_code, f"{ran.output}{ran.exception or ''}", ran.stdout)
        done = subprocess.run(
            [sys.executable, "-m", "reservasi.cli", *words, "--json"],
            cwd=self.directory,
            env=release.environment(self._settings),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout + done.stderr, done.stdout)

    def ok(self, release: Release, *words: str) -> Any:
        """The same, which must succeed; what it printed."""
        done = self.command(release, *words)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    @contextmanager
    def running(self, release: Release, *, ready: bool = True) -> Iterator[None]:
        """A worker and fronts of a release until the block ends; it begins when both are ready, or at least alive."""
        fronts = ("api", "--port", str(self.port), "--admin-port", str(self.admin_port), "--processes", "1")
        path = "/readyz" if ready else "/livez"
        with self._process(release, "worker"), self._process(release, *fronts):
            deadline = time.monotonic() + START_TIMEOUT_S
            while {self.admin_answer(path)[0], self.admin_answer(path, worker=True)[0]} != {200}:
                assert time.monotonic() < deadline, self.log_path.read_text()[-6000:]
                time.sleep(POLL_S)
            yield

    @contextmanager
    def _process(self, release: Release, *words: str) -> Iterator[None]:
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "reservasi.cli", *words],
                cwd=self.directory,
                env=release.environment(self._settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT_S)

    def admin_answer(self, path: str, *, worker: bool = False) -> tuple[int, str]:
        """What an admin port answers; 0 where nobody listens."""
        port = self.worker_port if worker else self.admin_port
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
        except OSError:
            return 0, ""
