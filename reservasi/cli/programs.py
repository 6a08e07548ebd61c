"""`reservasi program`: imports a program file into the records and the ledger, and removes programs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reservasi.cli.actor import Reason
from reservasi.cli.invocation import configured, run_with_stores
from reservasi.cli.output import EXIT_DRIFT, AsJson, DataDir, PostgresDsn, RedisUrl, warn
from reservasi.programs import Program

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.cli.importing import Import

app = typer.Typer(help="Programs: offices, services, quotas and rules.", no_args_is_help=True)

DAYS_DEFAULT = 28
FirstDate = Annotated[
    dt.datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="first date; default: today")
]
LastDate = Annotated[
    dt.datetime | None,
    typer.Option(
        "--to",
        formats=["%Y-%m-%d"],
        help=f"last date; default: {DAYS_DEFAULT} days ahead, and later dates that have quotas are compared as well",
    ),
]
OpenNow = Annotated[bool, typer.Option("--open-now", help="open all imported quotas now, regardless of the rule")]
Apply = Annotated[
    bool,
    typer.Option(
        "--apply",
        help="also change quotas to the file's terms and close those that it does not have; cancels no reservation",
    ),
]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="a program file, such as config/programs/surabaya.toml")],
    first: FirstDate = None,
    last: LastDate = None,
    open_now: OpenNow = False,
    apply: Apply = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Compare a file with the existing quotas, and add what is missing; exit 3 if it would do more than add.

    Then nothing is changed, the plan is printed, and --apply carries it out. Changes by staff are kept and listed.
    """
    from reservasi.cli.import_report import report, why_refused, why_stopped
    from reservasi.cli.importing import import_program
    from reservasi.programs.files import read_program

    program = read_program(file)
    first_date, last_date = date_range(program, first, last)
    if first_date > last_date:
        raise typer.BadParameter(f"{first_date} is after {last_date}", param_hint="--from")
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)

    async def work(operations: Operations) -> Import:
        return await import_program(
            operations,
            program,
            first_date,
            last_date,
            open_now=open_now,
            quiet=as_json,
            apply=apply,
            later_dates=last is None,
        )

    done = run_with_stores(settings, work)
    report(done, program.timezone, as_json=as_json)
    if done.stopped or done.refused:
        if not as_json:
            warn(why_stopped(done) if done.stopped else why_refused(done))
        raise typer.Exit(EXIT_DRIFT)


@app.command("remove")
def remove_(
    program: Annotated[str, typer.Argument(help="the program, such as surabaya")],
    reason: Reason = "",
    close_quotas: Annotated[
        bool, typer.Option("--close-quotas", help="close all quotas first, if there are no reservations")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for the program's name")] = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Remove a program without reservations: fronts answer 404 for it, workers leave it, its ledger is deleted.

    Refused while reservations are held or confirmed, quotas can be claimed, or a waiting room is live. Bookings that
    have ended, the journal and the audit log stay. It may be interrupted and repeated, and the program imported again.
    """
    from reservasi.cli.removing import print_removed, remove

    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    done = remove(settings, program, reason=reason, close_quotas=close_quotas, yes=yes, as_json=as_json)
    print_removed(done, as_json=as_json)


def date_range(program: Program, first: dt.datetime | None, last: dt.datetime | None) -> tuple[dt.date, dt.date]:
    """The requested dates, by default from today in the program's time zone."""
    first_date = first.date() if first else dt.datetime.now(program.zone).date()
    return first_date, last.date() if last else first_date + dt.timedelta(days=DAYS_DEFAULT)
