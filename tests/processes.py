"""`reservasi api` and `reservasi worker` as processes of their own, beside stores that a test has."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from loadtest.bench.ports import free_port
from reservasi.embedded.process import dies_with_us
from reservasi.settings import Settings

READY_TIMEOUT_S = 120.0  # of the slowest machine
POLL_S = 0.05
STOP_TIMEOUT_S = 20.0
CLI = (sys.executable, "-m", "reservasi.cli")
OURS = "RESERVASI_"


class Process:
    """One that was started."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, admin_port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"  # of a front
        self._process = process
        self._admin_url = f"http://127.0.0.1:{admin_port}"
        self._log = log

    async def ready(self) -> dict[str, Any]:
        """What it says of itself; nothing while it cannot serve."""
        assert self._process.returncode is None, self._log.read_text()[-4000:]
        with suppress(aiohttp.ClientError, OSError):
            async with aiohttp.request("GET", f"{self._admin_url}/readyz") as response:
                return await response.json() if response.status == 200 else {}
        return {}

    async def metric(self, name: str, program: str) -> float | None:
        """One of its metrics of a program."""
        async with aiohttp.request("GET", f"{self._admin_url}/metrics") as response:
            families = text_string_to_metric_families(await response.text())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return next((sample.value for sample in samples if sample.labels["program"] == program), None)

    async def kill(self) -> None:
        """SIGKILL it, with its children."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM it; what does not end then is killed."""
        with suppress(ProcessLookupError, TimeoutError):
            self._process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        await self.kill()


@asynccontextmanager
async def running(role: str, settings: Settings, **changes: object) -> AsyncIterator[Process]:
    """An `api` or a `worker` under these settings, ready, until the block ends."""
    port, admin_port = free_port(), free_port()
    told = settings.model_dump(mode="json", exclude_unset=True) | changes
    told |= {"processes": 1, "port": port, "admin_port": admin_port, "worker_admin_port": admin_port}
    others = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    log = settings.data_dir / f"{role}-{admin_port}.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *CLI,
            role,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=others | {f"{OURS}{name.upper()}": str(value) for name, value in told.items()},
            cwd=settings.data_dir,  # no configuration file of the checkout is read
            start_new_session=True,
            preexec_fn=dies_with_us(signal.SIGTERM),
        )
    started = Process(process, port, admin_port, log)

    async def is_ready() -> bool:
        return bool(await started.ready())

    try:
        try:
            await until(is_ready, READY_TIMEOUT_S)
        except TimeoutError as error:
            raise TimeoutError(f"{role} is not ready; its log:\n{log.read_text()[-4000:]}") from error
        yield started
    finally:
        await started.stop()


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    """Wait until the condition holds, asking seldom enough that the processes get on."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(POLL_S)
