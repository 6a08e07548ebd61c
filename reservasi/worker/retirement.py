"""Retires what is over from the ledger, quotas after some hours and openings after a year, so that it stays small.

Done by the worker whose recorder leads, in bounded batches. If two do it, the second finds nothing left: the ledger
decides what is over.
"""

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from reservasi.errors import ItemDamaged, LedgerFault, Unavailable
from reservasi.ledger import keys
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.ledger.stored_reservations import Holdings
from reservasi.ledger.wire.stored_forms import decode_facts, readable
from reservasi.logs import get_sparing_logger
from reservasi.metrics import RETIRED
from reservasi.model import Answer, Outcome, Retire, RetireOpening, State
from reservasi.programs.openings import window_end_ms

log = get_sparing_logger()

LOOK_S = 5.0  # between two checks
READ_AGAIN_S = 600.0  # the windows are read again after so long: one quota may have replaced another
RETRY_MS = 60_000  # until a quota that could not be retired is tried again
QUOTAS_AT_ONCE = 100  # per call; claims wait behind a call
RESERVATIONS_AT_ONCE = 100  # ended by one command
COMMANDS_AT_ONCE = 4  # of those
OPENINGS_AT_ONCE = 100  # per check: the next one takes the others


class Window(msgspec.Struct, kw_only=True):
    """When a quota's window ends, and when to try its retirement."""

    ends_at_ms: int
    ask_at_ms: int


def _now_ms() -> int:
    return int(time.time() * 1000)


async def _repeat_until(stop: asyncio.Event, leads: Callable[[], bool], task: Callable[[], Awaitable[int]]) -> None:
    while not stop.is_set():
        if leads():
            await task()
        try:
            async with asyncio.timeout(LOOK_S):
                await stop.wait()
        except TimeoutError:
            continue


async def _count(program: str, retire: Callable[[], Awaitable[int]]) -> int:
    """The number that it retired; 0 if it failed: the task continues and checks again."""
    try:
        return await retire()
    except (Unavailable, LedgerFault) as error:
        log.debug("retirement_not_done", program=program, error=str(error))
    except Exception:
        log.exception("retirement_failed", program=program)
    return 0


async def _unless_damaged(group: GroupCommit, command: Retire | RetireOpening) -> Answer | None:
    """The answer; None for a damaged quota or opening, which stays until it is repaired."""
    try:
        return await group.submit(command)
    except ItemDamaged:
        return None


class OpeningRetirement:
    """Retires the openings of one program; how the draws went stays in the records."""

    def __init__(
        self,
        program: str,
        group: GroupCommit,
        watch: OpeningWatch,
        *,
        after_ms: int,
        leads: Callable[[], bool],
        clock_ms: Callable[[], int] = _now_ms,
    ) -> None:
        """`leads` says whether this worker is the active one."""
        self._program = program
        self._group = group
        self._watch = watch
        self._after_ms = after_ms
        self._leads = leads
        self._clock_ms = clock_ms

    async def run(self, stop: asyncio.Event) -> None:
        await _repeat_until(stop, self._leads, self.retire_due)

    async def retire_due(self) -> int:
        """Retire openings that ended long ago; returns their number."""
        return await _count(self._program, self._retire_all)

    async def _retire_all(self) -> int:
        last_ms = self._clock_ms() - self._after_ms
        over = sorted(each.id for each in (await self._watch.read()).openings if each.terms.ends_at_ms <= last_ms)
        commands = [RetireOpening(opening=opening_id) for opening_id in over[:OPENINGS_AT_ONCE]]
        answers = await asyncio.gather(*(_unless_damaged(self._group, command) for command in commands))
        retired = sum(answer is not None and answer.outcome is Outcome.RETIRED for answer in answers)
        RETIRED.labels(self._program, "openings").inc(retired)
        return retired


class Retirement:
    """Retires the quotas of one program."""

    def __init__(
        self,
        program: str,
        group: GroupCommit,
        journal: Journal,
        *,
        after_ms: int,
        zone: Callable[[], dt.tzinfo | None],
        leads: Callable[[], bool],
        clock_ms: Callable[[], int] = _now_ms,
    ) -> None:
        """`zone` is the program's, None if unknown; `leads` says whether this worker is the active one."""
        self._program = program
        self._group = group
        self._journal = journal
        self._after_ms = after_ms
        self._zone = zone
        self._leads = leads
        self._clock_ms = clock_ms
        self._windows: dict[str, Window] = {}
        self._read_at_s = float("-inf")
        self._stored = -1  # quotas in the ledger when the windows were read, minus those retired since

    async def run(self, stop: asyncio.Event) -> None:
        await _repeat_until(stop, self._leads, self.retire_due)

    async def retire_due(self) -> int:
        """Retire quotas that are over; returns their number."""
        return await _count(self._program, self._retire_all)

    async def _retire_all(self) -> int:
        zone = self._zone()
        if zone is None:
            return 0
        await self._read_windows(zone)
        now_ms = self._clock_ms()
        over = sorted(quota for quota, window in self._windows.items() if window.ask_at_ms <= now_ms)
        before = len(self._windows)
        for first in range(0, len(over), QUOTAS_AT_ONCE):
            await self._ask([self._command(quota) for quota in over[first : first + QUOTAS_AT_ONCE]])
        left = [quota for quota in over if quota in self._windows]
        if left:
            await self._end_confirmed(left)
        for quota in left:
            if quota in self._windows:
                self._windows[quota].ask_at_ms = now_ms + RETRY_MS
        return before - len(self._windows)

    async def _read_windows(self, zone: dt.tzinfo) -> None:
        stored = await self._journal.count(keys.facts)
        now_s = time.monotonic()
        if stored == self._stored and now_s - self._read_at_s < READ_AGAIN_S:
            return
        windows: dict[str, Window] = {}
        async for quota, packed in self._journal.pages(keys.facts):
            try:
                date, start, end = decode_facts(packed)[3:6]
                ends_at_ms = window_end_ms(date, start, end, zone)
            except ValueError:  # damaged, or without a date: its end is unknown
                continue
            quota_id = readable(quota)
            window = self._windows.get(quota_id)
            ask_at_ms = max(ends_at_ms + self._after_ms, window.ask_at_ms if window else 0)
            windows[quota_id] = Window(ends_at_ms=ends_at_ms, ask_at_ms=ask_at_ms)
        self._windows, self._stored, self._read_at_s = windows, stored, now_s

    def _command(self, quota: str, reservations: Sequence[str] = ()) -> Retire:
        ends_at_ms = self._windows[quota].ends_at_ms
        return Retire(quota=quota, ends_at_ms=ends_at_ms, reservations=tuple(reservations))

    async def _ask(self, commands: Sequence[Retire]) -> None:
        answers = await asyncio.gather(*(_unless_damaged(self._group, command) for command in commands))
        for command, answer in zip(commands, answers, strict=True):
            if answer is not None:
                self._note(command.quota, answer)

    def _note(self, quota: str, answer: Answer) -> None:
        RETIRED.labels(self._program, "reservations").inc(answer.ended)
        if answer.outcome is Outcome.RETIRED:
            RETIRED.labels(self._program, "quotas").inc()
            self._stored -= 1
        if answer.outcome in (Outcome.RETIRED, Outcome.UNKNOWN_QUOTA):
            self._windows.pop(quota, None)

    async def _end_confirmed(self, quotas: Sequence[str]) -> None:
        """End the confirmed reservations of the quotas.

        The ledger has no index of a quota's reservations: they are found in one pass over all of them.
        """
        wanted: dict[str, list[str]] = {quota: [] for quota in quotas}
        for reservation_id, kept in (await Holdings.read(self._journal)).reservations.items():
            if kept.state is State.CONFIRMED and kept.quota in wanted:
                wanted[kept.quota].append(reservation_id)
        commands = [
            self._command(quota, ids[first : first + RESERVATIONS_AT_ONCE])
            for quota, ids in wanted.items()
            for first in range(0, len(ids), RESERVATIONS_AT_ONCE)
        ]
        for first in range(0, len(commands), COMMANDS_AT_ONCE):
            await self._ask(commands[first : first + COMMANDS_AT_ONCE])
