"""The service's own processes, `reservasi api` and `reservasi worker`, beside stores that somebody else runs."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from loadtest.stage.ports import free_ports
from reservasi.embedded.process import dies_with_us
from reservasi.metrics_directory import VARIABLE as METRICS_DIRECTORY
from reservasi.settings import Settings

START_TIMEOUT_S = 120.0  # of the slowest machine
STOP_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 10.0
WAIT_TIMEOUT_S = 30.0
POLL_S = 0.05
LOG_TAIL_CHARS = 4000
CLI = (sys.executable, "-m", "reservasi.cli.serve")  # as `up` starts them: a quarter less to import than all commands
OURS = "RESERVASI_"


@dataclass(frozen=True, kw_only=True)
class Host:
    address: str = "127.0.0.1"  # at which it listens
    within: tuple[str, ...] = ()  # the words before a command that start it there


HERE = Host()


class Process:
    def __init__(self, process: asyncio.subprocess.Process, log: Path, host: Host, port: int, admin_port: int) -> None:
        self.host = host
        self.port = port  # of a front's public API
        self.url = f"http://{host.address}:{port}"  # of the same
        self.log = log
        self._process = process
        self.admin_url = f"http://{host.address}:{admin_port}"

    @property
    def pid(self) -> int:
        """Of the process that was started, which must still run."""
        if self._process.returncode is not None:
            raise RuntimeError(f"ended with {self._process.returncode}; see {self.log}")
        return self._process.pid

    async def ready(self) -> dict[str, Any]:
        """What it says of itself; nothing while it cannot serve, and a RuntimeError once it has ended."""
        if self._process.returncode is not None:
            raise RuntimeError(f"ended with {self._process.returncode}:\n{self._last_words()}")
        with suppress(aiohttp.ClientError, OSError):
            async with self._ask("readyz") as response:
                state: dict[str, Any] = await response.json() if response.status == 200 else {}
                return state
        return {}

    async def until_ready(self) -> None:
        try:
            await until(self.ready, "a process to be ready", START_TIMEOUT_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its log {self.log}:\n{self._last_words()}") from error

    async def metric(self, name: str, program: str) -> float | None:
        async with self._ask("metrics") as response:
            families = text_string_to_metric_families(await response.text())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return next((sample.value for sample in samples if sample.labels["program"] == program), None)

    def tell_to_stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> None:
        self.tell_to_stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        await self.kill()

    def _ask(self, path: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        return aiohttp.request("GET", f"{self.admin_url}/{path}", timeout=timeout)

    def _last_words(self) -> str:
        return self.log.read_text()[-LOG_TAIL_CHARS:]


@asynccontextmanager
async def running(role: str, settings: Settings, **changes: Any) -> AsyncIterator[Process]:
    """An `api` or a `worker` under these settings, ready, until the block ends."""
    async with started(role, settings, **changes) as process:
        await process.until_ready()
        yield process


@asynccontextmanager
async def started(role: str, settings: Settings, host: Host = HERE, **changes: Any) -> AsyncIterator[Process]:
    """Start a process on a host without waiting until it is ready: several can start at once."""
    port, admin_port = free_ports(2)
    given = {"processes": 1} | settings.model_dump(mode="json", exclude_unset=True) | changes
    given |= {"port": port, "admin_port": admin_port, "worker_admin_port": admin_port}
    given |= {"host": host.address, "admin_host": host.address}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment |= {f"{OURS}{name.upper()}": str(value) for name, value in given.items()}
    if role == "api":  # a front that finds no such variable starts itself a second time
        metrics = settings.data_dir / f"metrics-{port}"
        metrics.mkdir()
        environment[METRICS_DIRECTORY] = str(metrics)
    log = settings.data_dir / f"{role}-{port}.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *host.within,
            *CLI,
            role,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            cwd=settings.data_dir,  # no configuration file of the checkout is read
            start_new_session=True,
            preexec_fn=dies_with_us(signal.SIGTERM),
        )
    one = Process(process, log, host, port, admin_port)
    try:
        yield one
    finally:
        await one.stop()


async def until(look: Callable[[], Awaitable[object]], what: str, timeout_s: float = WAIT_TIMEOUT_S) -> None:
    """Wait until it holds, asking seldom enough that the processes get on; a TimeoutError says what did not."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await look():  # noqa: ASYNC110 - another process has no event to wait for
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise TimeoutError(f"waited too long for {what}") from error
