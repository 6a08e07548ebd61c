"""The catalogue: programs and staff keys as the records hold them, kept in memory so that a front needs no database.

While PostgreSQL is away, what was known last stays in force: programs always, staff keys for an hour.
"""

import asyncio
import datetime as dt
import hashlib
import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from reservasi.errors import ConfigurationError, RecordsUnavailable
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.logs import get_sparing_logger
from reservasi.model import Quota
from reservasi.programs import Program, program_of
from reservasi.programs.program import ID_PATTERN
from reservasi.records import AuditQuery, AuditRow, Records
from reservasi.records.staff import StaffRow
from reservasi.sealing import Sealing

log = get_sparing_logger()

STAFF_KEPT_S = 5.0  # how long a staff key is believed without asking again: by then a revocation is in force
STAFF_KEPT_WITHOUT_RECORDS_S = 3600.0  # the same while the records do not answer; a key ends at its time all the same
USE_NOTED_S = 60.0  # at most one write per key and front in this time
STAFF_KEPT_MAX = 10_000
LOOK_PAUSE_S = 0.25
LOOKS_MISSED_MAX = 3  # until the records are called away
LATE_S = 1.0  # that a look may take beside them
_ID = re.compile(ID_PATTERN)


class _Kept(NamedTuple):
    """A staff key in memory; times by the event loop's clock."""

    row: StaffRow
    found_at: float  # when the records said so
    asked_at: float  # when they were asked last, in vain or not


class Catalogue:
    """Programs, refreshed at a steady pace; staff, looked up when they call.

    What `serves` does not take, by its id, is left to others: it is in `left_out` and nowhere else.
    """

    def __init__(
        self, records: Records, sealing: Sealing, *, refresh_ms: int, serves: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._records = records
        self._sealing = sealing
        self._refresh_s = refresh_ms / 1000
        self._serves = serves
        self._left_out: tuple[str, ...] = ()
        self._programs: dict[str, Program] = {}
        self._public_channels: frozenset[tuple[str, str]] = frozenset()  # program and channel, looked up by every claim
        self._version = ""
        self._loaded = False
        self._read_at = float("-inf")  # by the event loop's clock: when the records answered last
        self._staff: dict[str, _Kept] = {}
        self._used: dict[int, dt.datetime] = {}  # staff keys since the last note of their use
        self._noted: dict[int, float] = {}  # by the event loop's clock
        self._ring_refused = ""  # why the key ring's file was refused last; '' it was not
        self._on_program: Callable[[str], None] | None = None
        self._on_gone: Callable[[str], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_look: asyncio.Task[None] | None = None  # at the records, which has not begun yet
        self._looks: set[asyncio.Task[None]] = set()
        self._looked_at = float("-inf")  # by the event loop's clock

    async def open(self, on_program: Callable[[str], None], on_gone: Callable[[str], None] | None = None) -> None:
        """Load the programs and keep them fresh.

        `on_program` hears of each one once, also when it raises: that is logged, and the others are told. `on_gone`
        hears of one that was removed; if it is imported again, `on_program` hears of it anew.
        """
        self._on_program, self._on_gone = on_program, on_gone
        await self._refresh()
        self._task = asyncio.create_task(self._keep_fresh())

    async def close(self) -> None:
        """Stop refreshing."""
        await end_tasks([*([self._task] if self._task else []), *self._looks])

    @property
    def loaded(self) -> bool:
        """Whether the programs have been read at least once."""
        return self._loaded

    @property
    def fresh(self) -> bool:
        """Whether the records answered lately: one look that fails or is slow changes nothing."""
        return asyncio.get_running_loop().time() - self._read_at <= LOOKS_MISSED_MAX * self._refresh_s + LATE_S

    @property
    def version(self) -> str:
        """A hash over all programs, for ETags."""
        return self._version

    def programs(self) -> tuple[Program, ...]:
        """All programs, by id."""
        return tuple(self._programs.values())

    def left_out(self) -> tuple[str, ...]:
        """Ids of the programs that are left to others."""
        return self._left_out

    def program(self, program_id: str) -> Program | None:
        """One program."""
        return self._programs.get(program_id)

    async def look_up(self, program_id: str) -> Program | None:
        """One program, also one that was imported a moment ago: for what is not known the records are read anew.

        That is done once for all who ask meanwhile, with `LOOK_PAUSE_S` between: anybody may ask for anything.
        """
        if self.may_find(program_id):
            if self._next_look is None:
                self._next_look = asyncio.create_task(self._look())
                self._looks.add(self._next_look)
                self._next_look.add_done_callback(self._looks.discard)
            await asyncio.shield(self._next_look)
        return self._programs.get(program_id)

    def may_find(self, program_id: str) -> bool:
        """Whether looking it up may find a program that memory lacks."""
        return program_id not in self._programs and self._loaded and _ID.fullmatch(program_id) is not None

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._looked_at + LOOK_PAUSE_S - loop.time()))
        self._looked_at, self._next_look = loop.time(), None  # who asks from now on asks for another look
        await self._refresh()

    def is_public(self, quota: Quota) -> bool:
        """Whether the public may claim from the quota; what staff claim at the counter is not."""
        return (program_of(quota.id), quota.terms.channel) in self._public_channels

    async def staff(self, api_key: str) -> StaffRow | None:
        """Whose API key this is, also one that was revoked or has expired, or None.

        Raises:
            RecordsUnavailable: the key is not known here, or was asked about too long ago, and the database cannot be
                asked.
        """
        key_hash = self._sealing.api_key_hash(api_key)
        now = asyncio.get_running_loop().time()
        kept = self._staff.get(key_hash)
        if kept is not None and now - kept.asked_at < STAFF_KEPT_S:
            return kept.row
        try:
            found = await self._records.staff_by_key_hash(key_hash)
        except RecordsUnavailable:
            if kept is None or now - kept.found_at >= STAFF_KEPT_WITHOUT_RECORDS_S:
                raise
            self._staff[key_hash] = kept._replace(asked_at=now)
            return kept.row  # an outage of the database must not lock staff out
        if found is None:
            self._staff.pop(key_hash, None)
            return None
        if len(self._staff) >= STAFF_KEPT_MAX:
            self._staff.clear()
        self._staff[key_hash] = _Kept(found, found_at=now, asked_at=now)
        return found

    async def audit(self, query: AuditQuery) -> list[AuditRow]:
        """Who changed what, as the records have it now.

        Raises:
            RecordsUnavailable: they do not answer.
        """
        return await self._records.audit(query)

    def note_use(self, staff: StaffRow, at: dt.datetime) -> None:
        """Remember that a staff key was used; the records hear of it with the next refresh, once a minute at most."""
        self._used[staff.id] = at

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            self._refresh_keys()
            await self._refresh()
            await self._write_use()

    async def _write_use(self) -> None:
        now = asyncio.get_running_loop().time()
        self._noted = {id_: at for id_, at in self._noted.items() if now - at < USE_NOTED_S}
        used = {id_: at for id_, at in self._used.items() if id_ not in self._noted}
        if not used:
            return
        try:
            await self._records.note_staff_use(used)
        except RecordsUnavailable as error:
            log.warning("staff_use_not_noted", error=str(error))
            return
        except Exception:  # such as a right that is not granted yet: the refreshing goes on
            log.exception("staff_use_not_noted")
        for id_, at in used.items():
            self._noted[id_] = now
            if self._used.get(id_) == at:
                del self._used[id_]

    def _refresh_keys(self) -> None:
        try:
            if self._sealing.refresh():
                log.info("sealing_keys_changed", active=self._sealing.active)
            self._ring_refused = ""
        except ConfigurationError as error:
            if str(error) != self._ring_refused:  # it is said once, and tried again with every refreshing
                log.warning("key_ring_refused", reason=str(error))
            self._ring_refused = str(error)

    async def _refresh(self) -> None:
        """One round; whatever goes wrong in it is said, and the next round tries again with what is known kept."""
        try:
            found = await self._records.programs()
        except RecordsUnavailable as error:
            log.warning("catalogue_not_refreshed", error=str(error))
            return
        except Exception:  # such as a program that a newer version stored and this one cannot read
            log.exception("catalogue_not_readable")
            return
        programs = [program for program in found if self._serves(program.id)]
        fresh = {program.id: program for program in programs}
        self._left_out = tuple(program.id for program in found if program.id not in fresh)
        if not self._loaded or fresh != self._programs:
            self._version = hashlib.sha256(msgspec.json.encode(programs)).hexdigest()[:16]
        new = [program_id for program_id in fresh if program_id not in self._programs]
        gone = [program_id for program_id in self._programs if program_id not in fresh]
        self._programs, self._loaded = fresh, True
        self._read_at = asyncio.get_running_loop().time()
        self._public_channels = frozenset(
            (program.id, channel.id) for program in programs for channel in program.channels if channel.public
        )
        for program_id in gone:
            log.warning("program_gone", program=program_id)
            self._tell(self._on_gone, program_id, "program_not_left")
        for program_id in new:
            log.info("program_found", program=program_id)
            self._tell(self._on_program, program_id, "program_not_served")

    def _tell(self, hear: Callable[[str], None] | None, program_id: str, fault: str) -> None:
        """One program that cannot be served, or left, must not keep the others from it."""
        if hear is None:
            return
        try:
            hear(program_id)
        except Exception:
            log.exception(fault, program=program_id)
