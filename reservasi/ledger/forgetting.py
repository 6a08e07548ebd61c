"""Deleting everything that a server has of one program, once nobody works with it any more."""

import asyncio

import redis.asyncio as redis_asyncio

from reservasi.errors import LedgerUnreachable
from reservasi.ledger import keys
from reservasi.ledger.topology.clients import LOST, READ_TIMEOUT_S, text

WHICH = ("before", "late")  # of an opening's lists of those who joined


async def forget_ledger(client: redis_asyncio.Redis, program: str) -> int:
    """Delete a program's keys; how many there were.

    Raises:
        LedgerUnreachable: the server does not answer; some may be gone, and again is harmless.
    """
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            openings = [text(each) for each in await client.hkeys(keys.openings(program))]
            joined = [f"{keys.joined(program)}:{opening}:{which}" for opening in openings for which in WHICH]
            others = (keys.recorded(program), keys.dead_letters(program), keys.queue_delays(program))
            # All share the program's hash tag, and go in one step: the lists are found by the openings beside them.
            return int(await client.unlink(*keys.program_keys(program), *others, *joined))
    except LOST as error:
        raise LedgerUnreachable(f"the ledger of {program} cannot be deleted: {type(error).__name__}") from error
