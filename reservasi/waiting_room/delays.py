"""A front reports once a second how long its claims wait, while an opening is live; the admission rate follows it."""

import asyncio
import contextlib
import os
import secrets
import socket

from reservasi.availability import Availability
from reservasi.errors import Unavailable
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.logs import get_logger
from reservasi.waiting_room.admission import is_live

log = get_logger()

SAY_INTERVAL_S = 1.0


class DelayReporter:
    """Reports to the controllers of one program how long claims wait in this front."""

    def __init__(self, program: str, group: GroupCommit, watch: OpeningWatch, availability: Availability) -> None:
        self.front = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._program = program
        self._group = group
        self._watch = watch
        self._availability = availability
        self._said = False

    async def run(self) -> None:
        """Report until cancelled, then withdraw the report."""
        try:
            while True:
                await asyncio.sleep(SAY_INTERVAL_S)
                await self._report()
        finally:
            if self._said:
                with contextlib.suppress(Unavailable):
                    await self._watch.withdraw(self.front)

    async def _report(self) -> None:
        delay_s = self._group.take_queue_delay_s()  # read every second, so that the value covers one second
        now_ms = self._availability.now_ms(self._program)
        if not any(is_live(opening, now_ms) for opening in self._availability.openings(self._program)):
            return
        self._said = True  # set before the call: a cancelled call may have arrived
        try:
            await self._watch.report_delay(self.front, delay_s * 1000, now_ms)
        except Unavailable as error:
            log.debug("delay_not_reported", program=self._program, error=str(error))
