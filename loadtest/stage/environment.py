"""Where and when something was measured: a figure without its machine, interpreter and commit says nothing."""

import datetime as dt
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtest.stage.cores import Cores
from reservasi.front.process.http_parser import parses_in_c

ROOT = Path(__file__).parents[2]
PACKAGES = ("aiohttp", "uvloop", "gunicorn", "redis", "hiredis", "msgpack", "msgspec", "cryptography", "asyncpg")
FSYNCS = 50


def describe(directory: Path) -> dict[str, Any]:
    """What a reader needs to compare two runs; the stores keep their data on the disk of `directory`."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores of {processor()}",
        "python": platform.python_version(),
        "executable": os.path.relpath(sys.executable, ROOT),
        "compiler": platform.python_compiler(),
        # A distribution's packager may profile-guide the build by other means than the flag.
        "configured_with": sysconfig.get_config_var("CONFIG_ARGS"),
        "packages": {name: version(name) for name in PACKAGES},
        "http_parser_in_c": parses_in_c(),
        "fsync_us": fsync_us(directory),
        "load_1_min": os.getloadavg()[0],
    }


def commit() -> str:
    """The commit of this tree, with a `+` where files were changed since; empty outside a checkout."""
    command = ("git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*")
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def processor() -> str:
    """The name that the processor gives itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def fsync_us(directory: Path) -> float:
    """The median time of an append with fdatasync in this directory, in microseconds."""
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
    """What makes the figures worth less, to be printed before anything is measured."""
    messages = []
    if not cores.separate:
        messages.append("one core only: front, stores and load generator share it")
    if not parses_in_c():
        messages.append("aiohttp parses HTTP in Python here, which halves every figure")
    return messages
