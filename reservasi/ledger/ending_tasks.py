"""Ends tasks that read from the store.

A cancellation that arrives in the same turn of the loop as a reply or a lost connection can be lost inside redis-py's
timed reads; the task then continues. So it is cancelled repeatedly until it has ended.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

ASK_AGAIN_S = 0.05
ASKED_MAX = 200  # ten seconds


async def end_tasks(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until every one has ended, for a bounded time.

    Their exceptions are ignored: usually the connection ends under them.
    """
    pending = {task for task in tasks if not task.done()}
    for _ in range(ASKED_MAX):
        if not pending:
            return
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=ASK_AGAIN_S)
        for task in ended:
            ignore_failure(task)


def ignore_failure(task: "asyncio.Task[Any]") -> None:
    """Mark the exception of a task as retrieved, so that asyncio does not log it."""
    if task.done() and not task.cancelled():
        task.exception()
