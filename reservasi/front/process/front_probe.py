"""Checks from outside whether a front is ready."""

import asyncio

import aiohttp

from reservasi.errors import EmbeddedServerError

PAUSE_S = 0.05
ANSWER_TIMEOUT_S = 2.0


async def wait_ready(host: str, admin_port: int, timeout_s: float, *, any_answer: bool = False) -> bool:
    """Wait until a front is ready, at most `timeout_s`; with `any_answer` its first answer counts.

    False means that a front runs and is not ready, for example while the ledger is fenced.

    Raises:
        EmbeddedServerError: no front answered in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    url = f"http://{f'[{host}]' if ':' in host else host}:{admin_port}/readyz"
    failed, answered = "no answer", False
    timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        while loop.time() < deadline and not (answered and any_answer):
            try:
                async with session.get(url) as response:
                    answered = True
                    if response.status == 200:
                        return True
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failed = type(error).__name__
            await asyncio.sleep(PAUSE_S)
    if not answered:
        raise EmbeddedServerError(f"no front answered within {timeout_s:g} s: {url}: {failed}")
    return False
