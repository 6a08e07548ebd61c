"""A whole service of its own for a test: free ports, a fresh data directory, its own program; and ways to kill parts.

Only processes below the one that was started here are ever killed.
"""

import dataclasses
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from loadtest.stage.cores import children
from loadtest.stage.ports import free_ports
from loadtest.stage.program import PROGRAM, program_file
from loadtest.stage.stores import data_directory
from reservasi.embedded import embedded_postgres_dsn, embedded_redis_url

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
RESTART_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 300.0
SHOWN_TIMEOUT_S = 60.0  # from an import to the fronts
POLL_S = 0.05
HOLD_S = 7200
CLI = (sys.executable, "-m", "reservasi.cli")
NOTHING: Mapping[str, str] = MappingProxyType({})
Found = TypeVar("Found")
DAYS_AHEAD = 2  # of the date that is offered: far enough that no quota closes during a test


class Part(StrEnum):
    """A process that may be killed; its supervisor starts another one."""

    FRONT = "front"  # one HTTP front
    WORKER = "worker"  # the recorder
    VALKEY = "valkey"  # the ledger's server
    POSTGRES = "postgres"  # the records' server


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    url: str
    admin_url: str
    data_dir: Path
    log_path: Path
    pid: int  # of the supervising process
    # Starts another one like it, which is stopped with the service; nobody's own cannot be started again.
    start: Callable[[], "subprocess.Popen[bytes]"] | None = None

    @property
    def redis_url(self) -> str:
        return embedded_redis_url(self.data_dir)

    @property
    def postgres_dsn(self) -> str:
        return embedded_postgres_dsn(self.data_dir)

    def pids(self, part: Part) -> list[int]:
        """The running processes of that part, oldest first."""
        own_pids = children(self.pid)
        match part:
            case Part.VALKEY:
                return [pid for pid in own_pids if "valkey" in _command(pid)[0]]
            case Part.POSTGRES:
                return [pid for pid in own_pids if Path(_command(pid)[0]).name == "postgres"]
            case Part.WORKER:
                return [pid for pid in own_pids if _command(pid)[-1] == "worker"]
            case Part.FRONT:
                masters = [pid for pid in own_pids if _command(pid)[-1] == "api"]
                return [pid for master in masters for pid in children(master) if _command(pid)[-1] == "api"]

    def kill_and_wait(self, part: Part) -> tuple[int, int]:
        """SIGKILL the oldest process of a part, and wait until another one has taken its place; both pids."""
        before = set(self.pids(part))
        killed = wait_for(lambda: next(iter(self.pids(part)), 0), RESTART_TIMEOUT_S, f"no {part} runs")
        os.kill(killed, signal.SIGKILL)
        successor = wait_for(
            lambda: next((pid for pid in self.pids(part) if pid not in before), None),
            RESTART_TIMEOUT_S,
            f"nobody took the place of {part} {killed}",
        )
        return killed, successor

    def killed_and_started(self) -> "Service":
        """SIGKILL the supervising process, start another one at once, and wait until it is ready: the service then."""
        if self.start is None:
            raise ValueError("it was not started here")
        os.kill(self.pid, signal.SIGKILL)
        process = self.start()
        service = dataclasses.replace(self, pid=process.pid)
        _await_ready(service, process, fronts_of_its_own=True)
        return service

    def get(self, path: str, url: str = "") -> Any:
        """The JSON of a public address, or at another URL of the service; None when there is no good answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open((url or self.url) + path, timeout=2.0) as response:
                return json.loads(response.read())
        except (urllib.error.URLError, OSError, ValueError):
            return None

    def get_admin(self, path: str) -> Any:
        return self.get(path, self.admin_url)

    def quotas(self, program: str = PROGRAM, least: int = 0) -> list[str]:
        """The quotas that are offered, and have so many places left."""
        offered = self.get(f"/v1/availability?program={program}") or {"quotas": []}
        return [quota["id"] for quota in offered["quotas"] if quota["remaining"] >= least]

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of `reservasi` on the service's data directory; it prints JSON."""
        return subprocess.run(
            (*CLI, *words, "--data-dir", str(self.data_dir), "--json"),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            cwd=self.log_path.parent,
        )

    def import_program(self, program: str = PROGRAM, *, quotas: int, places: int, hold_s: int = HOLD_S) -> None:
        """Offer a program of so many quotas with so many places each, and wait until the fronts show it."""
        day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=DAYS_AHEAD)
        file = self.log_path.with_name(f"{program}.toml")
        file.write_text(program_file(quotas, places, day, hold_s, program))
        done = self.command("program", "import", str(file), "--from", day.isoformat(), "--to", day.isoformat())
        if done.returncode != 0 or json.loads(done.stdout)["created"] != quotas:
            raise RuntimeError(f"the program was not imported: {done.stdout}{done.stderr}")
        wait_for(lambda: len(self.quotas(program)) == quotas, SHOWN_TIMEOUT_S, "the fronts do not offer the program")


@contextmanager
def running_service(
    *,
    quotas: int = 0,
    places: int = 0,
    processes: int = 1,
    hold_s: int = HOLD_S,
    log_copy: Path | None = None,
    command: Sequence[str] = CLI,
    environment: Mapping[str, str] = NOTHING,
    arguments: Sequence[str] = (),
    directory: Path | None = None,
) -> Iterator[Service]:
    """Start a service with so many quotas of so many places each (0: none yet), and stop it at the end of the block.

    With `log_copy` the service's log is kept there; `command` is another program that takes the same words as
    `reservasi`, `environment` comes on top of ours, and `arguments` behind `up`. It runs in `directory`, or in its data
    directory, so that no configuration file of the checkout is read.
    """
    port, admin_port, worker_admin_port = free_ports(3)
    started: list[subprocess.Popen[bytes]] = []
    with data_directory() as data_dir:
        log_path = data_dir / "service.log"
        flags = {"--port": port, "--admin-port": admin_port, "--processes": processes, "--data-dir": data_dir}
        words = (*command, "up", *arguments, *(str(word) for flag in flags.items() for word in flag), "--json")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RESERVASI_")}
        settings = {
            "RESERVASI_WORKER_ADMIN_PORT": str(worker_admin_port),
            "RESERVASI_CATALOGUE_REFRESH_MS": "200",
            "RESERVASI_LOG_FORMAT": "json",
        }

        def start() -> subprocess.Popen[bytes]:
            with log_path.open("ab") as log:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**inherited, **environment, **settings},
                    cwd=directory or data_dir,
                    start_new_session=True,
                )
            started.append(process)
            return process

        try:
            process = start()
            service = Service(
                url=f"http://127.0.0.1:{port}",
                admin_url=f"http://127.0.0.1:{admin_port}",
                data_dir=data_dir,
                log_path=log_path,
                pid=process.pid,
                start=start,
            )
            _await_ready(service, process)
            if quotas:
                service.import_program(quotas=quotas, places=places, hold_s=hold_s)
            yield service
        finally:
            for process in started:
                _stop(process)
            if log_copy is not None:
                log_copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log_path, log_copy)


def wait_for(look: Callable[[], Found | None], timeout_s: float, otherwise: str) -> Found:
    """What `look` returns, as soon as that is true; a TimeoutError says `otherwise`."""
    deadline = time.monotonic() + timeout_s
    while not (result := look()):
        if time.monotonic() >= deadline:
            raise TimeoutError(otherwise)
        time.sleep(POLL_S)
    return result


def _await_ready(service: Service, process: subprocess.Popen[bytes], *, fronts_of_its_own: bool = False) -> None:
    """Wait until the service is ready; a front of a killed service may still answer that it is."""

    def is_ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with {process.returncode}:\n{service.log_path.read_text()[-4000:]}")
        if fronts_of_its_own and not service.pids(Part.FRONT):
            return False
        return service.get_admin("/readyz") is not None

    try:
        wait_for(is_ready, START_TIMEOUT_S, "the service is not ready")
    except TimeoutError as error:
        raise TimeoutError(f"{error}:\n{service.log_path.read_text()[-4000:]}") from error


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


def _command(pid: int) -> tuple[str, ...]:
    """A process' command line; one empty word when it is gone or a zombie."""
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0"))
    except OSError:
        return ("",)
