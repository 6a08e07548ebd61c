"""A halted recorder rests for up to half a minute, and continues at once when the ledger is owned again."""

import asyncio
from typing import Any

import pytest

from reservasi.errors import JournalGap
from reservasi.worker.recorder import Backoff, Recorder
from tests.ledgers import eventually


class Gap:
    """Records that are an older copy: nothing that the journal has follows them."""

    def __init__(self) -> None:
        self.tries = 0

    def lead(self, _program: str) -> Any:
        self.tries += 1
        raise JournalGap("expected seq 5, found 9")


async def test_a_new_ownership_ends_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next_s", lambda *_: 60.0)
    gap, nothing, stop = Gap(), asyncio.Event(), asyncio.Event()
    records: Any = gap
    journal: Any = nothing
    recorder = Recorder("p", records, journal, booking_code=str.upper, events_max=1, block_ms=1)
    task = asyncio.create_task(recorder.run(stop))

    def tried(times: int) -> Any:
        async def is_so() -> bool:
            return gap.tries == times

        return is_so

    await eventually(tried(1))
    recorder.note_owned(3)
    await eventually(tried(2))
    recorder.note_owned(3)  # nothing new
    for _ in range(20):
        await asyncio.sleep(0)
    assert gap.tries == 2
    recorder.note_owned(4)
    await eventually(tried(3))
    stop.set()
    await asyncio.wait_for(task, 60)
