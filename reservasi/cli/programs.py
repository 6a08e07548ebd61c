"""`reservasi program`: bring a program file into the records and the ledger."""

import asyncio
import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from reservasi import model
from reservasi.bootstrap import Operations, open_operations, open_program
from reservasi.cli.fences import require_snapshot
from reservasi.cli.invocation import configured, run
from reservasi.cli.opening_creation import create_announced
from reservasi.cli.output import AsJson, DataDir, PostgresDsn, RedisUrl, show
from reservasi.cli.progress import progress
from reservasi.errors import ConfigurationError
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.wire import Snapshot
from reservasi.model import Outcome, SetQuota
from reservasi.programs import Program, expand, read_program
from reservasi.sealing import program_tag

app = typer.Typer(help="Programs: offices, services, quotas and rules.", no_args_is_help=True)

DAYS_DEFAULT = 28  # how far ahead an import reaches when nobody says
AT_ONCE = 500  # quotas submitted together; the group commit cuts them into batches

FirstDate = Annotated[
    dt.datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="first date; today when not given")
]
LastDate = Annotated[
    dt.datetime | None,
    typer.Option("--to", formats=["%Y-%m-%d"], help=f"last date; {DAYS_DEFAULT} days ahead when not given"),
]
OpenNow = Annotated[bool, typer.Option("--open-now", help="open all imported quotas at once, whatever the rule says")]


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did."""

    program: str
    first: dt.date
    last: dt.date
    created: int
    unchanged: int
    kept: int  # exist with other terms, which staff may have set: left as they are
    openings: list[str]  # new ones with a waiting room

    @property
    def total(self) -> int:
        """All quotas of the range."""
        return self.created + self.unchanged + self.kept


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="a program file, such as config/programs/surabaya.toml")],
    first: FirstDate = None,
    last: LastDate = None,
    open_now: OpenNow = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Expand a file to slots, quotas and openings for a range of dates. Again is harmless: what exists is left."""
    program = read_program(file)
    first_date, last_date = date_range(program, first, last)
    if first_date > last_date:
        raise typer.BadParameter(f"{first_date} is after {last_date}", param_hint="--from")
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)

    async def work() -> Import:
        async with open_operations(settings) as operations:
            return await import_program(operations, program, first_date, last_date, open_now=open_now, quiet=as_json)

    done = run(work())
    show({**msgspec.structs.asdict(done), "total": done.total}, as_json=as_json)


def date_range(program: Program, first: dt.datetime | None, last: dt.datetime | None) -> tuple[dt.date, dt.date]:
    """The dates that were asked for, or from today in the program's time zone on."""
    first_date = first.date() if first else dt.datetime.now(program.zone).date()
    return first_date, last.date() if last else first_date + dt.timedelta(days=DAYS_DEFAULT)


async def import_program(
    operations: Operations, program: Program, first: dt.date, last: dt.date, *, open_now: bool, quiet: bool
) -> Import:
    """Store the program and create the quotas that do not exist.

    Raises:
        ConfigurationError: the range is too long for one import, the program would have more quotas than it may, or
            its reservation ids would start like another program's; nothing was changed.
        LedgerFenced: the program's ledger sells nothing now; no quota was changed, and no program that was stored.
    """
    commands = expand(program, first, last, open_now=open_now)
    stored = await operations.records.programs()
    _refuse_shared_tag(program, stored)
    known = any(other.id == program.id for other in stored)
    if not known:  # only the ledger of a stored program is owned, and it has nothing to count yet
        await operations.records.save_program(program)
    async with open_program(operations, program.id) as group:
        _refuse_too_many(program, commands, await require_snapshot(operations, program.id))
        if known:
            await operations.records.save_program(program)
        outcomes = await _submit_all(group, program, commands, quiet=quiet)
        openings = await create_announced(
            operations,
            group,
            program,
            await require_snapshot(operations, program.id),
            (command.quota for command in commands),
        )
    return Import(
        program=program.id,
        first=first,
        last=last,
        created=outcomes[Outcome.QUOTA_SET],
        unchanged=outcomes[Outcome.EXISTS],
        kept=outcomes[Outcome.EXISTS_WITH_DIFFERENT_CONTENT],
        openings=openings,
    )


def _refuse_shared_tag(program: Program, stored: list[Program]) -> None:
    """Two programs whose reservation ids start alike could not be told apart, and no front would serve the second."""
    for other in stored:
        if other.id != program.id and program_tag(other.id) == program_tag(program.id):
            raise ConfigurationError(
                f"{program.id}: its reservation ids would start with {program_tag(program.id)!r}, as those of the "
                f"program {other.id} do; give it another id. Nothing was imported"
            )


def _refuse_too_many(program: Program, commands: list[SetQuota], snapshot: Snapshot) -> None:
    """A program's quotas must fit into one snapshot, those of earlier imports included."""
    existing = {quota.id for quota in snapshot.quotas}
    total = len(existing.union(command.quota for command in commands))
    if total > model.QUOTAS_MAX:
        raise ConfigurationError(
            f"{program.id}: it has {len(existing)} quotas and would have {total}, but a program may have "
            f"{model.QUOTAS_MAX}; import fewer days. Nothing was imported"
        )


async def _submit_all(
    group: GroupCommit, program: Program, commands: list[SetQuota], *, quiet: bool
) -> Counter[Outcome]:
    outcomes: Counter[Outcome] = Counter()
    with progress(f"quotas of {program.id}", len(commands), quiet=quiet) as advance:
        for at in range(0, len(commands), AT_ONCE):
            part = commands[at : at + AT_ONCE]
            outcomes.update(await _submit(group, part))
            advance(len(part))
    return outcomes


async def _submit(group: GroupCommit, commands: list[SetQuota]) -> list[Outcome]:
    answers = await asyncio.gather(*(group.submit(command) for command in commands))
    return [answer.outcome for answer in answers]
