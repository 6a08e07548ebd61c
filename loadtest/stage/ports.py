"""Free ports on the loopback, each given once.

A port is free until its server listens, which takes seconds. So none is taken from the range that the system gives to
outgoing connections, and processes that look at the same time begin at different places.
"""

import asyncio
import itertools
import os
import socket

POLL_S = 0.02
LOWEST, HIGHEST = 10_000, 32_767  # Linux gives outgoing connections the ports above, where nobody changed that
APART = 257  # prime to the number of ports, so that processes with neighbouring ids lie so far apart
LOOKS_MAX = 1000

_numbers = itertools.count(os.getpid() * APART)


def free_port() -> int:
    """A port that nobody listens on now, and that this process never named before."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and that this process never named before."""
    free = (port for port in map(_port, itertools.islice(_numbers, LOOKS_MAX)) if _is_free(port))
    ports = list(itertools.islice(free, count))
    if len(ports) < count:
        raise RuntimeError(f"of {LOOKS_MAX} ports between {LOWEST} and {HIGHEST} not {count} are free")
    return ports


def _port(number: int) -> int:
    return LOWEST + number % (HIGHEST - LOWEST + 1)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def wait_listening(port: int, timeout_s: float) -> None:
    """Return once a connection is accepted; TimeoutError if none is."""
    async with asyncio.timeout(timeout_s):
        while not await listens(port):  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(POLL_S)
