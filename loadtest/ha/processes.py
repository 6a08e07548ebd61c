"""The service's own processes, `reservasi worker` and `reservasi api`, beside stores that somebody else runs."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from loadtest.ha.gates import HOST
from loadtest.ha.servers import free_ports, until
from reservasi.embedded.process import dies_with_us
from reservasi.metrics import MULTIPROCESS_DIR_VARIABLE
from reservasi.settings import Settings

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 1.0
CLI = (sys.executable, "-m", "reservasi.cli.serve")
OURS = "RESERVASI_"


class Process:
    """One of them, with what it said in a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, port: int, admin_port: int) -> None:
        self.port = port  # of a front's public API
        self.log = log
        self._process = process
        self._admin_port = admin_port

    async def ready(self) -> bool:
        """Whether it says that it can serve.

        Raises:
            RuntimeError: it has ended.
        """
        if self._process.returncode is not None:
            raise RuntimeError(f"ended with {self._process.returncode}:\n{self.log.read_text()[-4000:]}")
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as client,
                client.get(f"http://{HOST}:{self._admin_port}/readyz") as response,
            ):
                return response.status == 200
        return False

    def tell_to_stop(self) -> None:
        """SIGTERM."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    async def stop(self) -> None:
        """Stop it; SIGKILL, also for a front's own children, when asking is not enough."""
        self.tell_to_stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


@asynccontextmanager
async def running_process(role: str, settings: Settings, **changes: object) -> AsyncIterator[Process]:
    """A worker or a front (`api`) under these settings until the block ends; it may not be ready yet."""
    port, admin_port = free_ports(2)
    told = settings.model_dump(mode="json", exclude_unset=True) | changes | {"processes": 1, "port": port}
    told |= {"admin_port": admin_port, "worker_admin_port": admin_port}
    log = settings.data_dir / f"{role}-{port}.log"
    counting = _counting(settings.data_dir / f"metrics-{port}") if role == "api" else {}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *CLI,
            role,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=_environment(told) | counting,
            cwd=settings.data_dir,  # no configuration file of the checkout is read
            start_new_session=True,
            preexec_fn=dies_with_us(signal.SIGTERM),
        )
    running = Process(process, log, port, admin_port)
    try:
        yield running
    finally:
        await running.stop()


async def until_ready(*processes: Process) -> None:
    """Wait until each can serve."""
    for process in processes:
        await until(process.ready, f"a process to be ready; its log is {process.log}", START_TIMEOUT_S)


def _counting(directory: Path) -> dict[str, str]:
    """Where a front's processes count: one that is not told starts itself a second time."""
    directory.mkdir()
    return {MULTIPROCESS_DIR_VARIABLE: str(directory)}


def _environment(told: Mapping[str, object]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | {f"{OURS}{name.upper()}": str(value) for name, value in told.items()}
