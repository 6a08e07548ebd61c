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
    """Cancel tasks until every one has ended; a task that never does is left behind after a bounded time.

    With what they fail meanwhile is of no interest any more: a connection that ends under them, as a rule.
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
    """Take a failure of a task that nobody waits for any more, which asyncio would complain about."""
    if task.done() and not task.cancelled():
        task.exception()
