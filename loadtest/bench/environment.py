"""Where a benchmark ran: a figure without its interpreter, versions and cores says nothing."""

import os
import platform
import statistics
import sys
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis.asyncio as redis_asyncio

from loadtest.bench.ground import Ground
from loadtest.stage.cores import Cores
from reservasi.front.process.front_probe import parses_in_c
from reservasi.ledger.topology.server_facts import read_facts

PACKAGES = ("aiohttp", "uvloop", "gunicorn", "redis", "hiredis", "msgpack", "msgspec", "cryptography", "asyncpg")
FSYNCS = 50


async def describe(ground: Ground) -> dict[str, Any]:
    """Everything that a reader needs to compare two runs."""
    async with redis_asyncio.Redis.from_url(ground.redis_url) as client:
        store = await read_facts(client)
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "compiler": platform.python_compiler(),
        "build": " ".join(platform.python_build()),
        # A distribution's packager may profile-guide the build by other means than the flag.
        "configured_with": sysconfig.get_config_var("CONFIG_ARGS"),
        "packages": {name: version(name) for name in PACKAGES},
        "http_parser_in_c": parses_in_c(),
        "store": store.version,
        "synced_always": store.fsync == "always",
        "fsync_us": fsync_us(ground.log_dir),
        "processor": processor(),
        "cores": os.cpu_count(),
        "front_on": sorted(ground.cores.front),
        "rest_on": sorted(ground.cores.rest),
        "load_1_min": os.getloadavg()[0],
    }


def fsync_us(directory: Path) -> float:
    """The median time of an append with fdatasync where the stores keep their data, in microseconds."""
    took: list[float] = []
    path = directory / "fsync-probe"
    with path.open("wb", buffering=0) as file:
        for _ in range(FSYNCS):
            file.write(b"x" * 512)
            started_s = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started_s)
    path.unlink()
    return statistics.median(took) * 1e6


def warnings(cores: Cores) -> list[str]:
    """What makes the figures worth less, said before they are measured."""
    found = []
    if not cores.separate:
        found.append("one core only: front, stores and load generator share it")
    if not parses_in_c():
        found.append("aiohttp parses HTTP in Python here, which halves every figure")
    return found


def processor() -> str:
    """The name that the processor gives itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
