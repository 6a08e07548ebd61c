"""Ending a task that reads from the store.

A cancellation that arrives in the same turn of the loop as a reply or a lost connection can get lost inside redis-py's
timed reads; the task then goes on as if nobody had asked. So it is asked until it has ended.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

ASK_AGAIN_S = 0.05
ASKED_MAX = 200  # ten seconds


async def end_tasks(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until every one has ended; a task that never does is left behind after a bounded time."""
    pending = {task for task in tasks if not task.done()}
    for _ in range(ASKED_MAX):
        if not pending:
            return
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=ASK_AGAIN_S)
