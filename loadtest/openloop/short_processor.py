"""A front whose processor is short: neighbours that never rest share its core, so that it gets a known part of it.

The load generator keeps a core of its own, and reaches three times of what such a front can do, with nothing slowed in
the ledger. Each neighbour is a session of its own: Linux may share a core by sessions, and by processes within one.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.stage.cores import Cores, pinned

# It ends with whoever started it, also by kill -9: then its standard input is closed.
SPIN = """
import os, threading
threading.Thread(target=lambda: os._exit(len(os.read(0, 1))), daemon=True).start()
while True:
    pass
"""
NEIGHBOURS = 3  # the front gets a quarter of its core
NEIGHBOURS_MAX = 15
STOP_S = 5.0


@contextmanager
def neighbours(cores: Cores, count: int) -> Iterator[None]:
    """So many processes keep the front's core busy until the block ends.

    Raises:
        ValueError: fewer than none, or more than `NEIGHBOURS_MAX`.
        RuntimeError: the front has no core of its own, so its neighbours would slow everybody.
    """
    if not 0 <= count <= NEIGHBOURS_MAX:
        raise ValueError(f"neighbours must be 0 to {NEIGHBOURS_MAX}")
    if count and not cores.separate:
        raise RuntimeError("the front needs a core of its own to be short of it")
    running: list[subprocess.Popen[bytes]] = []
    try:
        with pinned(cores.front):
            running += [_neighbour() for _ in range(count)]
        yield
    finally:
        for each in running:
            each.kill()
        for each in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(STOP_S)
            if each.stdin is not None:
                each.stdin.close()


def _neighbour() -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    return subprocess.Popen(
        (sys.executable, "-c", SPIN), stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, start_new_session=True
    )
