"""Tasks that are ended on purpose may fail, without a log line."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from reservasi.errors import LedgerUnreachable
from reservasi.events import JournalEntry
from reservasi.ledger.ending_tasks import end_tasks, ignore_failure
from tests.ledgers import eventually
from tests.unit.test_follower_at_rest import followed


@pytest.fixture
async def complaints() -> Callable[[], list[str]]:
    """What the event loop has complained about, once nothing holds what was ended any more."""
    messages: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: messages.append(context["message"]))

    def all_messages() -> list[str]:
        gc.collect()
        return messages

    return all_messages


async def _fails_when_it_is_ended() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise LedgerUnreachable("closed under it")


async def test_a_task_that_fails_while_it_is_ended_is_no_complaint(complaints: Callable[[], list[str]]) -> None:
    task = asyncio.create_task(_fails_when_it_is_ended())
    await asyncio.sleep(0)
    await end_tasks([task])
    del task
    assert complaints() == []


async def test_a_task_that_had_failed_before_is_one(complaints: Callable[[], list[str]]) -> None:
    task = asyncio.create_task(_fails_when_it_is_ended())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await end_tasks([task])
    del task
    assert complaints() == ["Task exception was never retrieved"]


async def test_a_task_that_was_cancelled_or_still_runs_has_no_failure_to_ignore() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    ignore_failure(task)
    await end_tasks([task])
    ignore_failure(task)
    assert task.cancelled()


async def _closed_while_its_journal_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async with followed() as (ledger, following):

        async def ready() -> bool:
            return following.ready

        async def read(*_: Any) -> list[JournalEntry]:
            await ledger.news.wait()
            raise LedgerUnreachable("closed under it")

        monkeypatch.setattr(ledger, "read", read)
        await eventually(ready)
        ledger.news.set()  # in the same turn as the end
        await following.close()


async def test_a_view_that_is_closed_while_its_journal_fails_is_no_complaint(
    complaints: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await _closed_while_its_journal_fails(monkeypatch)
    assert complaints() == []
