"""Removes a program, and starts it again when it is imported again.

The ledger is fenced and recorded to its end, so that the records decide in its place; then one transaction removes the
program, and its keys are deleted. If the process is killed before the transaction, nothing has happened, and the ledger
is owned again automatically; after it, fronts and workers leave the program, and the next removal deletes the keys.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import msgspec

from reservasi.errors import RemovalRefused, ReservasiError
from reservasi.ledger.journal.stream import START
from reservasi.ledger.loading import Loader
from reservasi.logs import get_logger
from reservasi.model import Position
from reservasi.records import Removed
from reservasi.worker.ledger_owner import Ownership, compare_ledger, own_ledger
from reservasi.worker.program_stores import ProgramStores
from reservasi.worker.rebuild import SAFE, Rebuilder, drain

log = get_logger()

LOOKS_MAX = 5  # for keys that a process wrote before it left the program
LEAVE_MARGIN_S = 1.0  # additional time for fronts and workers after they read the programs


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a removal."""

    program: str
    removed: bool  # False: it had been removed before
    found: Removed = Removed()
    keys: int = 0  # deleted keys of the ledger


class Remover:
    """Removes one program."""

    def __init__(self, stores: ProgramStores, *, forget: Callable[[], Awaitable[int]], refresh_s: float) -> None:
        """`forget` deletes the ledger's keys; fronts and workers read the programs every `refresh_s`."""
        self._program = stores.program
        self._connection = stores.connection
        self._journal = stores.journal
        self._records = stores.records
        self._booking_code = stores.booking_code
        self._rebuilder = Rebuilder(stores)
        self._forget = forget
        self._refresh_s = refresh_s

    async def run(self, *, actor: str, reason: str) -> Removal:
        """Remove the program, or finish a removal that was interrupted.

        Raises:
            RemovalRefused: people have reservations, or the ledger must be repaired first; nothing was changed.
            LedgerMoved, LedgerUnreachable, RecordsUnavailable, JournalGap: it is not finished, and can be repeated.
        """
        async with self._rebuilder.alone():
            removed = not await self._records.is_removed(self._program)
            counts = await self._remove(actor, reason) if removed else Removed()
            deleted = await self._delete_keys()
        log.warning("program_removed", program=self._program, actor=actor, again=not removed, keys=deleted)
        return Removal(program=self._program, removed=removed, found=counts, keys=deleted)

    async def obstacles(self) -> list[str]:
        """Reasons why the program may not be removed, after everything that its ledger accepted was recorded.

        Raises:
            The same as `run`.
        """
        await self._record_all(await self._clear_tip())
        return await self._records.removal_obstacles(self._program, _now_ms())

    async def begin_anew(self) -> None:
        """If the program was removed, give it an empty ledger that continues after the recorded position.

        Raises:
            The same as `run`.
        """
        async with self._rebuilder.alone():
            if await self._records.begins_anew(self._program):
                await self._forget()
                await self._rebuilder.run_alone()

    async def _remove(self, actor: str, reason: str) -> Removed:
        if in_the_way := await self.obstacles():
            raise RemovalRefused("; ".join(in_the_way))
        await Loader(self._connection).fence()
        try:
            recorded = await self._record_all(await self._clear_tip())  # another run may have begun before the fence
            return await self._records.remove_program(
                self._program, recorded, actor=actor, reason=reason, now_ms=_now_ms()
            )
        except BaseException:
            with contextlib.suppress(ReservasiError):  # the worker owns it as well
                await own_ledger(self._program, self._connection, self._journal, self._records, alone=True)
            raise

    async def _clear_tip(self) -> Position:
        """The ledger's position; refused if it is damaged, or if the ledger has unique changes.

        After a removal that was interrupted before its transaction, the ledger is owned or ownable.
        """
        comparison = await compare_ledger(self._program, self._connection, self._journal, self._records)
        if comparison.verdict in SAFE:
            raise RemovalRefused(
                f"the ledger of {self._program} is {comparison.verdict}: let the worker rebuild it first, or run "
                f"`reservasi rebuild --program {self._program}`, and repeat this"
            )
        if comparison.verdict not in (Ownership.OWNED, Ownership.OWNABLE):
            raise RemovalRefused(
                f"the ledger of {self._program} is {comparison.verdict}: see `reservasi doctor`, and repair it first"
            )
        return comparison.meta.position

    async def _record_all(self, tip: Position) -> Position:
        """Record what the ledger accepted, or wait for the recorder; returns the recorded position."""
        await drain(self._program, tip, self._journal, self._records, booking_code=self._booking_code)
        return await self._records.position(self._program) or START

    async def _delete_keys(self) -> int:
        """Delete keys until none was written during the time that fronts and workers take to leave the program."""
        deleted = await self._forget()
        for _ in range(LOOKS_MAX):
            await asyncio.sleep(self._refresh_s + LEAVE_MARGIN_S)
            if not (again := await self._forget()):
                break
            deleted += again
        return deleted


def _now_ms() -> int:
    return int(time.time() * 1000)
