"""Questions about fronts from outside: whether they are ready, and whether this interpreter parses HTTP in C."""

import asyncio

import aiohttp
from aiohttp import http_parser

from reservasi.errors import EmbeddedServerError

PAUSE_S = 0.05
ANSWER_TIMEOUT_S = 2.0


def parses_in_c() -> bool:
    """Whether aiohttp uses its C parser; the Python one halves the throughput."""
    return http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy


async def wait_ready(host: str, admin_port: int, timeout_s: float) -> None:
    """Return when a front says that it can answer.

    Raises:
        EmbeddedServerError: none did in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    url = f"http://{host}:{admin_port}/readyz"
    said = "no answer"
    timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        while loop.time() < deadline:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
                    said = await response.text()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                said = type(error).__name__
            await asyncio.sleep(PAUSE_S)
    raise EmbeddedServerError(f"no front was ready within {timeout_s:g} s; {url} last said: {said}")
