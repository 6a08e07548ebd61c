"""Where temporary files of the tests lie: in memory, where there is room.

Each test has a database of its own, which is some 300 files that are made and removed. On some file systems that costs
more than the test: ext4 without a journal does not use the place of a removed file again for a minute, and each new file
looks past all of them. What lies in memory is as safe as what lies on a disk from a process that is killed.
"""

import os
import tempfile
from pathlib import Path

import pytest

DIRECTORY = Path("/dev/shm")
FREE_BYTES_MIN = 6 << 30  # three servers with their logs need a third of it
VARIABLE = "TMPDIR"  # a directory in it is taken as it is
# Where `tmp_path` lies. Pytest keeps the files of the last runs, so they stay on the disk.
PYTEST_VARIABLE = "PYTEST_DEBUG_TEMPROOT"


def pytest_configure(config: pytest.Config) -> None:
    """Choose the directory, for this process and all that it starts."""
    if VARIABLE in os.environ or not has_room(DIRECTORY):
        return
    os.environ.setdefault(PYTEST_VARIABLE, tempfile.gettempdir())
    os.environ[VARIABLE] = str(DIRECTORY)
    tempfile.tempdir = None  # what was chosen before


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files lie on the disk: for tests of what a server loses that it has not written through."""
    if PYTEST_VARIABLE in os.environ:
        monkeypatch.setenv(VARIABLE, os.environ[PYTEST_VARIABLE])
        monkeypatch.setattr(tempfile, "tempdir", None)


def has_room(directory: Path) -> bool:
    """Whether it can be written and both it and the machine's memory have room."""
    try:
        free = os.statvfs(directory)
        memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available_bytes = int(memory["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return False
    return os.access(directory, os.W_OK) and min(free.f_bavail * free.f_frsize, available_bytes) >= FREE_BYTES_MIN
