"""The recorder: writes a program's journal to PostgreSQL, and publishes how far it has come.

One recorder is active for a program, any number stand by. An advisory lock decides who works; the position in
PostgreSQL decides what counts, so that two recorders that both believe to lead still record everything once. Nothing is
kept between two rounds: after any interruption, the next round starts at the stored position.
"""

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import Sequence
from typing import Protocol

from reservasi import metrics
from reservasi.errors import (
    JournalGap,
    LedgerFault,
    RecordsUnavailable,
    SchemaMissing,
    StaleRecorder,
    Unavailable,
    described,
)
from reservasi.events import JournalEntry
from reservasi.health import Health, Part
from reservasi.logs import get_sparing_logger
from reservasi.model import Position
from reservasi.records import Batch, BookingCode, Lead, Recorded, Records

STANDBY_INTERVAL_S = 0.2  # between two attempts to take over
LEAD_CHECK_INTERVAL_S = 1.0  # between two checks that the lead is still ours
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 2.0  # a server is unavailable and will return
HALTED_BACKOFF_MAX_S = 30.0  # it cannot continue without an operator or recovery
DEAD_LETTERS_INTERVAL_S = 30.0  # between two counts of the open ones
TRIM_INTERVAL_EVENTS = 1000
GC_YOUNG_OBJECTS = 100_000  # allocated containers before the collector runs

log = get_sparing_logger()


class Journal(Protocol):
    """The part of `ledger.Journal` that the recorder uses."""

    async def read(self, after: Position | None, events_max: int, block_ms: int) -> list[JournalEntry]:
        """The entries after a position, verified; raises JournalGap."""

    async def publish_recorded(
        self, position: Position, dead: Sequence[str], *, epochs: Sequence[tuple[int, int]]
    ) -> None:
        """Publish the recorded position, and the reservations with a change that could not be recorded.

        `epochs` are all epochs so far, ascending, each (epoch, base_seq): a change of an earlier epoch beyond the next
        one's base_seq was left out and is not recorded, whatever the position.
        """

    async def trim(self, recorded: Position) -> None:
        """Delete what is recorded, except for a margin."""

    async def rest(self) -> None:
        """Reading pauses."""


class Backoff:
    """Waits that double up to a limit, with jitter so that processes do not return at once."""

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        """An attempt succeeded."""
        self._failures = 0

    def next_s(self, max_s: float) -> float:
        """How long to wait before trying again."""
        full_s = min(max_s, BACKOFF_MIN_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return full_s * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, protects nothing


class Recorder:
    """Records one program."""

    def __init__(
        self,
        program: str,
        records: Records,
        journal: Journal,
        *,
        booking_code: BookingCode,
        events_max: int,
        block_ms: int,
        health: Health | None = None,
    ) -> None:
        self._program = program
        self._records = records
        self._journal = journal
        self._booking_code = booking_code
        self._events_max = events_max
        self._block_ms = block_ms
        self._backoff = Backoff()
        self._health = health or Health()
        self._events_since_trim = 0
        self._epochs: list[tuple[int, int]] = []
        self._count_dead_at_s = 0.0
        self._owned_epoch = 0
        self._again = asyncio.Event()  # the cause of a halt may be over
        self.leads = False  # whether this recorder is the active one
        self._active = metrics.RECORDER_ACTIVE.labels(program)
        self._halted = metrics.RECORDER_HALTED.labels(program)
        self._lag = metrics.RECORDER_LAG_EVENTS.labels(program)
        self._log = log.bind(program=program)

    def note_owned(self, epoch: int) -> None:
        """The ledger was found owned under that epoch: a new epoch ends the rest after a fault."""
        if epoch != self._owned_epoch:
            self._owned_epoch = epoch
            self._again.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Record until `stop`, finishing the current batch; waits for the end of every fault that time or operators
        can repair.
        """
        _let_batches_live()
        while not stop.is_set():
            self._again.clear()
            try:
                async with self._records.lead(self._program) as lead:
                    if await self._take(lead, stop):
                        await self._follow(lead, stop)
                continue
            except (JournalGap, LedgerFault, SchemaMissing) as error:
                self._halted.set(1)
                self._interrupted("recording_halted", error)
                pause_s = self._backoff.next_s(HALTED_BACKOFF_MAX_S)
            except (Unavailable, StaleRecorder) as error:
                self._interrupted("recording_interrupted", error)
                pause_s = self._backoff.next_s(BACKOFF_MAX_S)
            except Exception as error:  # a bug; stopping would leave bookings unrecorded
                self._halted.set(1)
                self._interrupted("recording_failed", error, exc_info=True)
                pause_s = self._backoff.next_s(HALTED_BACKOFF_MAX_S)
            finally:
                self._set_leads(False)
            await self._rest(stop, pause_s)

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait until `stop`, until the ledger is owned again, or at most `seconds`."""
        ends = [asyncio.create_task(each.wait()) for each in (stop, self._again)]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in ends:
            each.cancel()

    async def _take(self, lead: Lead, stop: asyncio.Event) -> bool:
        """Stand by until the lead is ours; False if stopped before."""
        while not stop.is_set():
            if await lead.take():
                return True
            await _pause(stop, STANDBY_INTERVAL_S * random.uniform(0.75, 1.25))  # noqa: S311  # the same
        return False

    async def _follow(self, lead: Lead, stop: asyncio.Event) -> None:
        """Record entry after entry from the stored position, while the lead is ours."""
        position = await self._records.position(self._program)
        if position is not None:
            # The previous recorder may have died between its commit and the publication.
            dead = await self._records.dead_reservations(self._program)
            await self._publish(position, dead, epochs_changed=True)
        await self._count_dead_letters()
        self._set_leads(True)
        self._log.note("recording", position=position)
        check_at_s = time.monotonic() + LEAD_CHECK_INTERVAL_S
        ahead: asyncio.Task[Batch | None] | None = None
        publishing: asyncio.Task[None] | None = None
        try:
            while not stop.is_set():
                if lead.lost or time.monotonic() >= check_at_s:
                    await lead.check()
                    await self._check_position(position)
                    if time.monotonic() >= self._count_dead_at_s:
                        await self._count_dead_letters()
                    check_at_s = time.monotonic() + LEAD_CHECK_INTERVAL_S
                batch = await (ahead or self._read_after(position))
                ahead = None
                if batch and batch.events * 2 >= self._events_max:
                    # If there is more, it is read and prepared while PostgreSQL writes this batch. Otherwise, entries
                    # that arrive meanwhile are read together, in one batch, once this one is written.
                    ahead = asyncio.create_task(self._read_after(batch.position))
                recorded = await self._record(position, batch) if batch else None
                if publishing:
                    await publishing
                if batch and recorded:
                    publishing = asyncio.create_task(self._publish_batch(position, recorded, batch.events))
                    position = recorded.position
                self._halted.set(0)
                self._health.note_recorder(self._program, "")
                self._backoff.reset()
            if publishing:
                await publishing
        finally:
            if ahead:
                ahead.cancel()
            await asyncio.gather(*filter(None, (ahead, publishing)), return_exceptions=True)
            await self._journal.rest()

    async def _check_position(self, expected: Position | None) -> None:
        """Stop at a position that the records no longer have, such as that of a removed program.

        Raises:
            StaleRecorder: they have another one, which must be read again.
        """
        stored = await self._records.position(self._program)
        if stored != expected:
            raise StaleRecorder(f"the records of {self._program} are at {stored}, not at {expected}")

    async def _count_dead_letters(self) -> None:
        """Count again: operators settle letters, and have them recorded, without the recorder."""
        metrics.UNAPPLIED_EVENTS.labels(self._program).set(await self._records.dead_letter_count(self._program))
        self._count_dead_at_s = time.monotonic() + DEAD_LETTERS_INTERVAL_S

    def _set_leads(self, leads: bool) -> None:
        self.leads = leads
        self._active.set(int(leads))

    async def _read_after(self, position: Position | None) -> Batch | None:
        entries = await self._journal.read(position, self._events_max, self._block_ms)
        if not entries:
            return None
        return await Batch.meanwhile(self._program, entries, self._booking_code)

    async def _record(self, expected: Position | None, batch: Batch) -> Recorded:
        self._lag.set(batch.events)
        started_s = time.monotonic()
        recorded = await self._records.record(self._program, expected, batch, booking_code=self._booking_code)
        self._count(batch, time.monotonic() - started_s)
        if recorded.dead:
            metrics.DEAD_LETTERS.labels(self._program).inc(len(recorded.dead))
            self._count_dead_at_s = 0.0
            first = recorded.dead[0]
            self._log.error(
                "events_not_recorded",
                count=len(recorded.dead),
                first_seq=first.seq,
                reservation_id=first.reservation_id,
            )
        return recorded

    async def _publish_batch(self, expected: Position | None, recorded: Recorded, events: int) -> None:
        """Publish what has been committed, while the next entries are recorded."""
        dead = sorted({letter.reservation_id for letter in recorded.dead if letter.reservation_id is not None})
        epochs_changed = expected is None or expected.epoch != recorded.position.epoch
        await self._publish(recorded.position, dead, epochs_changed=epochs_changed)
        await self._trim(recorded.position, events)

    async def _publish(self, position: Position, dead: Sequence[str], *, epochs_changed: bool) -> None:
        if epochs_changed:
            # Read after the position: an epoch is claimed before its first change, so that the position's epoch is
            # included.
            self._epochs = [(row.epoch, row.base_seq) for row in await self._records.epochs(self._program)]
        await self._journal.publish_recorded(position, dead, epochs=self._epochs)

    async def _trim(self, recorded: Position, events: int) -> None:
        self._events_since_trim += events
        if self._events_since_trim >= TRIM_INTERVAL_EVENTS:
            await self._journal.trim(recorded)
            self._events_since_trim = 0

    def _count(self, batch: Batch, batch_s: float) -> None:
        metrics.RECORDED_ENTRIES.labels(self._program).inc(len(batch.entries))
        metrics.RECORDED_EVENTS.labels(self._program).inc(batch.events)
        metrics.RECORDED_SEQ.labels(self._program).set(batch.position.seq)
        metrics.RECORD_BATCH_SECONDS.labels(self._program).observe(batch_s)
        now_ms = time.time() * 1000
        for entry in batch.entries:
            metrics.RECORD_DELAY_SECONDS.labels(self._program).observe(max(0.0, now_ms - entry.at_ms) / 1000)
        self._lag.set(0)

    def _interrupted(self, what: str, error: Exception, *, exc_info: bool = False) -> None:
        metrics.RECORDER_FAULTS.labels(self._program, type(error).__name__).inc()
        part: Part = "records" if isinstance(error, RecordsUnavailable) else "ledger"
        self._health.note_recorder(self._program, described(error), part)
        self._log.warning(what, fault=type(error).__name__, reason=str(error), exc_info=exc_info)


def _let_batches_live() -> None:
    """Let the garbage collector run less often, in the whole process.

    A batch is thousands of values that live until they are written, without cycles: with Python's default threshold
    they would be traversed again and again.
    """
    gc.set_threshold(GC_YOUNG_OBJECTS)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait until `stop`, at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
