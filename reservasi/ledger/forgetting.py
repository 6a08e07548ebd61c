"""Deletes all data of one program from a server, once no process uses it."""

import asyncio

import redis.asyncio as redis_asyncio

from reservasi.errors import LedgerUnreachable
from reservasi.ledger import keys
from reservasi.ledger.topology.clients import LOST, READ_TIMEOUT_S, text

WHICH = ("before", "late")  # suffixes of an opening's lists of joined people


async def forget_ledger(client: redis_asyncio.Redis, program: str) -> int:
    """Delete a program's keys; returns their number.

    Raises:
        LedgerUnreachable: the server does not answer; some keys may be deleted; repeating it is harmless.
    """
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            openings = [text(each) for each in await client.hkeys(keys.openings(program))]
            joined = [f"{keys.joined(program)}:{opening}:{which}" for opening in openings for which in WHICH]
            others = (keys.recorded(program), keys.dead_letters(program), keys.queue_delays(program))
            # All keys have the program's hash tag and are deleted in one step: the openings name the lists.
            return int(await client.unlink(*keys.program_keys(program), *others, *joined))
    except LOST as error:
        raise LedgerUnreachable(f"the ledger of {program} cannot be deleted: {type(error).__name__}") from error
