"""The content of `up --demo`: the shipped programs, open now, and one opening that lies ahead."""

import datetime as dt
from pathlib import Path

import msgspec

from reservasi.bootstrap.commands import Operations
from reservasi.cli.actor import cli_actor
from reservasi.cli.fences import require_snapshot
from reservasi.cli.import_report import left_as_it_is
from reservasi.cli.importing import import_program
from reservasi.cli.opening_creation import OpeningRefused, Selection, create_opening
from reservasi.cli.output import warn
from reservasi.cli.program_by_program import reason_of
from reservasi.cli.programs import DAYS_DEFAULT
from reservasi.cli.service_flags import DEMO_OPENING_IN_S
from reservasi.cli.staff import replace_staff
from reservasi.embedded import Places
from reservasi.errors import ConfigurationError
from reservasi.model import StaffRole
from reservasi.programs import Program, WaitingRoom
from reservasi.programs.files import read_program
from reservasi.waiting_room.creation import new_terms, opening_id

PROGRAMS_DIR = Path("config/programs")
STAFF_KEY_FILE = "staff-api-key"
STAFF = "demo"
OPENING_LASTS_MS = 60 * 60_000


class Demo(msgspec.Struct, frozen=True, kw_only=True):
    """The demo programs, and the time of the one opening."""

    programs: tuple[Program, ...]
    opening_in_s: int = DEMO_OPENING_IN_S

    @classmethod
    def read(cls, opening_in_s: int = DEMO_OPENING_IN_S) -> "Demo":
        """Read the shipped program files.

        Raises:
            ConfigurationError: there are none in the current directory.
        """
        files = sorted(PROGRAMS_DIR.glob("*.toml"))
        if not files:
            raise ConfigurationError(
                f"--demo found no program in {PROGRAMS_DIR.resolve()}: run it in the source directory"
            )
        return cls(programs=tuple(read_program(file) for file in files), opening_in_s=opening_in_s)

    async def load(self, operations: Operations, *, quiet: bool) -> list[str]:
        """Import every program; those marked as a demo open now. A program is left out if its import would change
        anything.

        Returns the programs that were left out because their ledgers are fenced.
        """
        fenced: list[str] = []
        for program in self.programs:
            first = dt.datetime.now(program.zone).date()
            last = first + dt.timedelta(days=DAYS_DEFAULT)
            try:
                done = await import_program(
                    operations, program, first, last, open_now=program.demo, quiet=quiet, later_dates=True
                )
                # closing or changing quotas is the operator's decision, and does not prevent the start
                if done.stopped:
                    warn(left_as_it_is(done, PROGRAMS_DIR / f"{program.id}.toml", open_now=program.demo))
                if program.demo:
                    await self._announce_opening(operations, program)
            except ConfigurationError:
                raise
            except Exception as error:  # of one program: the others serve, and this one answers "recovering"
                fenced.append(program.id)
                warn(f"the program {program.id} is not imported: {reason_of(error)}")
        key_file = Places.of(operations.settings.data_dir).data_dir / STAFF_KEY_FILE
        if not key_file.exists():
            key = await replace_staff(operations, STAFF, StaffRole.OPERATOR)
            key_file.touch(mode=0o600)
            key_file.write_text(f"{key}\n")
        return fenced

    async def _announce_opening(self, operations: Operations, program: Program) -> None:
        """Create an opening for the last date's quotas that people can join now, unless there is one."""
        snapshot = await require_snapshot(operations, program.id)
        now_ms = snapshot.now_ms
        dates = [quota.terms.date for quota in snapshot.quotas]
        if not dates or any(opening.terms.ends_at_ms > now_ms for opening in snapshot.openings):
            return
        opens_at_ms = now_ms // 1000 * 1000 + self.opening_in_s * 1000
        opening = opening_id(program.id, opens_at_ms, program.zone)
        terms = new_terms(
            operations.sealing,
            opening,
            opens_at_ms,
            WaitingRoom(),
            joins_from_ms=now_ms,
            ends_at_ms=opens_at_ms + OPENING_LASTS_MS,
        )
        try:
            await create_opening(operations, program.id, opening, terms, Selection(first=max(dates)), cli_actor())
        except OpeningRefused as error:
            warn(f"the demo has no opening that lies ahead: {error}")
