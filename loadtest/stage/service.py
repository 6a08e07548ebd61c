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
import tempfile
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

from loadtest.stage.ports import free_ports
from loadtest.stage.program import PROGRAM, program_file
from reservasi.embedded import Places, embedded_postgres_dsn, embedded_redis_url

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
RESTART_TIMEOUT_S = 30.0
IMPORT_TIMEOUT_S = 60.0
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
    """A running service."""

    url: str
    admin_url: str
    data_dir: Path
    log_path: Path
    pid: int  # of the supervising process
    # Starts another one like it, which is stopped with the service; nobody's own cannot be started again.
    start: Callable[[], "subprocess.Popen[bytes]"] | None = None

    @property
    def redis_url(self) -> str:
        """The ledger's server."""
        return embedded_redis_url(self.data_dir)

    @property
    def postgres_dsn(self) -> str:
        """The records' database."""
        return embedded_postgres_dsn(self.data_dir)

    def pids(self, part: Part) -> list[int]:
        """The running processes of that part, oldest first."""
        children = _children(self.pid)
        match part:
            case Part.VALKEY:
                return [pid for pid in children if "valkey" in _command(pid)[0]]
            case Part.POSTGRES:
                return [pid for pid in children if Path(_command(pid)[0]).name == "postgres"]
            case Part.WORKER:
                return [pid for pid in children if _command(pid)[-1] == "worker"]
            case Part.FRONT:
                masters = [pid for pid in children if _command(pid)[-1] == "api"]
                return [pid for master in masters for pid in _children(master) if _command(pid)[-1] == "api"]

    def kill(self, part: Part) -> int:
        """SIGKILL one process of that part; its pid."""
        pid = wait_for(lambda: next(iter(self.pids(part)), None), RESTART_TIMEOUT_S, f"no {part} runs")
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_and_wait(self, part: Part) -> tuple[int, int]:
        """The same, and wait until another process has taken its place; both pids."""
        before = set(self.pids(part))
        killed = self.kill(part)
        successor = wait_for(
            lambda: next((pid for pid in self.pids(part) if pid not in before), None),
            RESTART_TIMEOUT_S,
            f"nobody took the place of {part} {killed}",
        )
        return killed, successor

    def killed_and_started(self) -> "Service":
        """SIGKILL the supervising process, start another one at once, and wait until it is ready: the service then.

        Raises:
            RuntimeError: it ended instead; TimeoutError: it is not ready.
        """
        if self.start is None:
            raise ValueError("it was not started here")
        os.kill(self.pid, signal.SIGKILL)
        process = self.start()
        service = dataclasses.replace(self, pid=process.pid)
        _await_ready(service, process, fronts_of_its_own=True)
        return service

    def get(self, path: str) -> Any:
        """The JSON of a public address; None when there is no good answer."""
        return _get(self.url + path)

    def get_admin(self, path: str) -> Any:
        """The same of the admin port."""
        return _get(self.admin_url + path)

    def import_program(self, program: str = PROGRAM, *, quotas: int, places: int, hold_s: int = HOLD_S) -> None:
        """Offer a program of so many quotas with so many places each, and wait until the fronts show it."""
        day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=DAYS_AHEAD)
        file = self.log_path.with_name(f"{program}.toml")
        file.write_text(program_file(quotas, places, day, hold_s, program))
        dates = ("--from", day.isoformat(), "--to", day.isoformat())
        done = subprocess.run(
            (*CLI, "program", "import", str(file), *dates, "--data-dir", str(self.data_dir), "--json"),
            capture_output=True,
            text=True,
            timeout=IMPORT_TIMEOUT_S,
            check=False,
            cwd=file.parent,
        )
        if done.returncode != 0 or json.loads(done.stdout)["created"] != quotas:
            raise RuntimeError(f"the program was not imported: {done.stdout}{done.stderr}")

        def look() -> bool | None:
            offered = self.get(f"/v1/availability?program={program}")
            return True if offered is not None and len(offered["quotas"]) == quotas else None

        wait_for(look, IMPORT_TIMEOUT_S, "the fronts do not offer the program")


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

    With `log_copy` what the service said is kept there; `command` is another program that takes the same words as
    `reservasi`, `environment` comes on top of ours, and `arguments` behind `up`. It runs in `directory`, or in an empty
    one, so that no configuration file of the checkout is read.
    """
    own = Path(tempfile.mkdtemp(prefix="rv-load-"))
    own.chmod(0o711)  # its servers run as another account when we are root
    data_dir, log_path = own / "d", own / "service.log"
    port, admin_port, worker_admin_port = free_ports(3)
    flags = {"port": port, "admin_port": admin_port, "worker_admin_port": worker_admin_port, "processes": processes}
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        words = (*command, "up", *arguments)
        started.append(_start(words, environment, data_dir, log_path, directory or own, **flags))
        return started[-1]

    process = start()
    try:
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
        for left in (Places.of(data_dir).run, own):
            shutil.rmtree(left, ignore_errors=True)


def wait_for(look: Callable[[], Found | None], timeout_s: float, otherwise: str) -> Found:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + timeout_s
    while (found := look()) is None:
        if time.monotonic() >= deadline:
            raise TimeoutError(otherwise)
        time.sleep(POLL_S)
    return found


def _start(
    command: Sequence[str],
    further: Mapping[str, str],
    data_dir: Path,
    log_path: Path,
    directory: Path,
    **flags: int,
) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RESERVASI_")}
    environment |= {
        **further,
        "RESERVASI_WORKER_ADMIN_PORT": str(flags["worker_admin_port"]),
        "RESERVASI_CATALOGUE_REFRESH_MS": "200",
        "RESERVASI_LOG_FORMAT": "json",
    }
    arguments = ("--port", flags["port"], "--admin-port", flags["admin_port"], "--processes", flags["processes"])
    with log_path.open("ab") as log:
        return subprocess.Popen(
            (*command, *map(str, arguments), "--data-dir", str(data_dir), "--json"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )


def _await_ready(service: Service, process: subprocess.Popen[bytes], *, fronts_of_its_own: bool = False) -> None:
    """Wait until the service is ready; of a killed one a front may still say so."""

    def look() -> bool | None:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with {process.returncode}:\n{service.log_path.read_text()[-4000:]}")
        if fronts_of_its_own and not service.pids(Part.FRONT):
            return None
        return True if _get(f"{service.admin_url}/readyz") is not None else None

    try:
        wait_for(look, START_TIMEOUT_S, "the service is not ready")
    except TimeoutError as error:
        raise TimeoutError(f"{error}:\n{service.log_path.read_text()[-4000:]}") from error


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


def _get(url: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2.0) as response:
            return json.loads(response.read())
    except (urllib.error.URLError, OSError, ValueError):
        return None


def _children(pid: int) -> list[int]:
    """The living children of a process, oldest first."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except (OSError, ValueError):
            continue
    return sorted(child for child in found if _command(child) != ("",))


def _command(pid: int) -> tuple[str, ...]:
    """A process' command line; one empty word when it is gone or a zombie."""
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0"))
    except OSError:
        return ("",)
