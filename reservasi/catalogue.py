"""The catalogue: programs and staff keys of the records, kept in memory so that a front does not need a database.

While PostgreSQL is away, the last known state is used: programs without limit, staff keys for an hour.
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

STAFF_KEPT_S = 5.0  # how long a staff key is used without a new look-up: the delay of a revocation
STAFF_KEPT_WITHOUT_RECORDS_S = 3600.0  # the same while the records do not answer; a key still expires at its time
USE_NOTED_S = 60.0  # at most one write per key and front in this time
STAFF_KEPT_MAX = 10_000
LOOK_PAUSE_S = 0.25
LOOKS_MISSED_MAX = 3  # until the records are reported as unavailable
LATE_S = 1.0  # time that a refresh may take beyond its interval
_ID = re.compile(ID_PATTERN)


class _Kept(NamedTuple):
    """A staff key in memory; times by the event loop's clock."""

    row: StaffRow
    found_at: float  # when the records returned it
    asked_at: float  # when it was last looked up, successfully or not


class Catalogue:
    """Programs, refreshed at an interval, and staff keys, looked up on use.

    Programs for which `serves` is false are not served; their ids are in `left_out`.
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
        self._public_of: dict[str, frozenset[str]] = {}
        self._public_channels: frozenset[tuple[str, str]] = frozenset()  # program and channel; every claim looks it up
        self._version = ""
        self._loaded = False
        self._read_at = float("-inf")  # by the event loop's clock: the last answer of the records
        self._staff: dict[str, _Kept] = {}
        self._used: dict[int, dt.datetime] = {}  # staff keys used since the last write
        self._noted: dict[int, float] = {}  # by the event loop's clock
        self._ring_refused = ""  # why the key ring's file was last refused; "" if it was not
        self._on_program: Callable[[str], None] | None = None
        self._on_gone: Callable[[str], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_look: asyncio.Task[None] | None = None  # a look-up of programs that has not begun yet
        self._looks: set[asyncio.Task[None]] = set()
        self._looked_at = float("-inf")  # by the event loop's clock

    async def open(self, on_program: Callable[[str], None], on_gone: Callable[[str], None] | None = None) -> None:
        """Load the programs and keep them current.

        `on_program` is called once for each program; an exception is logged, and the others are called. `on_gone` is
        called for a removed program; if it is imported again, `on_program` is called again.
        """
        self._on_program, self._on_gone = on_program, on_gone
        await self._refresh()
        self._task = asyncio.create_task(self._keep_fresh())

    async def close(self) -> None:
        await end_tasks([*([self._task] if self._task else []), *self._looks])

    @property
    def loaded(self) -> bool:
        """Whether the programs have been read at least once."""
        return self._loaded

    @property
    def fresh(self) -> bool:
        """Whether the records answered recently: one failed or slow refresh changes nothing."""
        return asyncio.get_running_loop().time() - self._read_at <= LOOKS_MISSED_MAX * self._refresh_s + LATE_S

    @property
    def version(self) -> str:
        """A hash over all programs, for ETags."""
        return self._version

    def programs(self) -> tuple[Program, ...]:
        return tuple(self._programs.values())

    def left_out(self) -> tuple[str, ...]:
        """Ids of the programs that are left to other workers."""
        return self._left_out

    def program(self, program_id: str) -> Program | None:
        return self._programs.get(program_id)

    async def look_up(self, program_id: str) -> Program | None:
        """One program, also one that was just imported: the records are read for an unknown id.

        Concurrent callers share one read, and reads are `LOOK_PAUSE_S` apart, since anybody may ask for any id.
        """
        if self.may_find(program_id):
            if self._next_look is None:
                self._next_look = asyncio.create_task(self._refresh_soon())
                self._looks.add(self._next_look)
                self._next_look.add_done_callback(self._looks.discard)
            await asyncio.shield(self._next_look)
        return self._programs.get(program_id)

    def may_find(self, program_id: str) -> bool:
        """Whether `look_up` might find a program that is not in memory."""
        return program_id not in self._programs and self._loaded and _ID.fullmatch(program_id) is not None

    async def _refresh_soon(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._looked_at + LOOK_PAUSE_S - loop.time()))
        self._looked_at, self._next_look = loop.time(), None  # later callers need another read
        await self._refresh()

    def public_channels(self, program_id: str) -> frozenset[str]:
        """The channels that the public may claim; none of a program that is not in memory."""
        return self._public_of.get(program_id, frozenset())

    def is_public(self, quota: Quota) -> bool:
        """Whether the public may claim from the quota; False for quotas that staff claim at the counter."""
        return (program_of(quota.id), quota.terms.channel) in self._public_channels

    async def staff(self, api_key: str) -> StaffRow | None:
        """The staff key of an API key, also a revoked or expired one; None if there is none.

        Raises:
            RecordsUnavailable: the key is not in memory, or was looked up too long ago, and the database does not
                answer.
        """
        key_hash = self._sealing.api_key_hash(api_key)
        now = asyncio.get_running_loop().time()
        kept = self._staff.get(key_hash)
        if kept is not None and now - kept.asked_at < STAFF_KEPT_S:
            return kept.row
        try:
            stored = await self._records.staff_by_key_hash(key_hash)
        except RecordsUnavailable:
            if kept is None or now - kept.found_at >= STAFF_KEPT_WITHOUT_RECORDS_S:
                raise
            self._staff[key_hash] = kept._replace(asked_at=now)
            return kept.row  # an outage of the database must not lock staff out
        if stored is None:
            self._staff.pop(key_hash, None)
            return None
        if len(self._staff) >= STAFF_KEPT_MAX:
            self._staff.clear()
        self._staff[key_hash] = _Kept(stored, found_at=now, asked_at=now)
        return stored

    async def audit(self, query: AuditQuery) -> list[AuditRow]:
        """Who changed what, from the records.

        Raises:
            RecordsUnavailable: they do not answer.
        """
        return await self._records.audit(query)

    def note_use(self, staff: StaffRow, at: dt.datetime) -> None:
        """Note that a staff key was used; written with the next refresh, at most once a minute."""
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
        except Exception:  # such as a right that is not granted yet: refreshing continues
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
            if str(error) != self._ring_refused:  # logged once, and tried again with every refresh
                log.warning("key_ring_refused", reason=str(error))
            self._ring_refused = str(error)

    async def _refresh(self) -> None:
        """One refresh; after an error, the known state is kept and the next refresh tries again."""
        try:
            stored = await self._records.programs()
        except RecordsUnavailable as error:
            log.warning("catalogue_not_refreshed", error=str(error))
            return
        except Exception:  # such as a program that a newer version stored
            log.exception("catalogue_not_readable")
            return
        programs = [program for program in stored if self._serves(program.id)]
        fresh = {program.id: program for program in programs}
        self._left_out = tuple(program.id for program in stored if program.id not in fresh)
        if not self._loaded or fresh != self._programs:
            self._version = hashlib.sha256(msgspec.json.encode(programs)).hexdigest()[:16]
        new = [program_id for program_id in fresh if program_id not in self._programs]
        gone = [program_id for program_id in self._programs if program_id not in fresh]
        self._programs, self._loaded = fresh, True
        self._read_at = asyncio.get_running_loop().time()
        self._public_of = {program.id: program.public_channels for program in programs}
        self._public_channels = frozenset(
            (program_id, channel) for program_id, channels in self._public_of.items() for channel in channels
        )
        for program_id in gone:
            log.warning("program_gone", program=program_id)
            self._notify(self._on_gone, program_id, "program_not_left")
        for program_id in new:
            log.info("program_found", program=program_id)
            self._notify(self._on_program, program_id, "program_not_served")

    def _notify(self, listener: Callable[[str], None] | None, program_id: str, fault: str) -> None:
        """Call a listener; one program that cannot be served must not affect the others."""
        if listener is None:
            return
        try:
            listener(program_id)
        except Exception:
            log.exception(fault, program=program_id)
