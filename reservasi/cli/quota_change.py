"""`reservasi quota set` and `quota close`: change a quota, close it, or close a whole day."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from reservasi.cli.actor import Reason, cli_actor
from reservasi.cli.booked import Booked, booked_in
from reservasi.cli.day_closing import close_day, print_booked, who_is_there
from reservasi.cli.fences import require_snapshot
from reservasi.cli.invocation import configured, run_with_stores
from reservasi.cli.output import (
    EXIT_FAILED,
    EXIT_USAGE,
    AsJson,
    DataDir,
    PostgresDsn,
    RedisUrl,
    fail,
    moment_ms,
    out,
)
from reservasi.cli.quota_listing import (
    Channel,
    Office,
    Service,
    describe,
    wanted_quotas,
)
from reservasi.cli.quota_show import look_up, show_one
from reservasi.errors import ReservasiError
from reservasi.model import CAPACITY_MAX, Answer, Outcome, SetQuota
from reservasi.programs import Program, program_of

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.ledger.wire.messages import Snapshot
    from reservasi.settings import Settings


class QuotaRefused(ReservasiError):
    """A quota cannot be changed as requested; nothing was changed."""


QuotaId = Annotated[str, typer.Argument(help="such as surabaya.kanim.baru.20261201.0800.online")]

REFUSALS = {
    Outcome.OF_OPENING: "{id} opens with {opening}: use opening move",
    Outcome.UNKNOWN_QUOTA: "there is no quota {id}",
    Outcome.WINDOW_REVERSED: "{id} would close before it opens: nobody could ever claim it",
    Outcome.BELOW_TAKEN: "{id} has {taken} places taken: the capacity cannot be smaller",
    Outcome.VERSION_MISMATCH: "{id} is now at version {version}: somebody changed it",
}


def set_quota(
    quota: QuotaId,
    capacity: Annotated[int | None, typer.Option(min=0, max=CAPACITY_MAX, help="places")] = None,
    opens_at: Annotated[str | None, typer.Option(help='RFC 3339 time, or "now"')] = None,
    version: Annotated[int, typer.Option(min=0, help="only if the quota has this version; 0: any")] = 0,
    reopen: Annotated[bool, typer.Option("--reopen", help="undo a close")] = False,
    reason: Reason = "",
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Change a quota's capacity or opening, also while it is open."""
    if capacity is None and opens_at is None and not reopen:
        fail("nothing to change: give --capacity, --opens-at or --reopen", as_json=as_json)
        raise typer.Exit(EXIT_USAGE)
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    command = SetQuota(
        quota=quota,
        capacity=capacity,
        opens_at_ms=None if opens_at is None else _opens_at_ms(opens_at),
        closed=False if reopen else None,
        version=version,
        actor=cli_actor(),
        reason=reason,
    )
    _change(settings, command, as_json=as_json)


def close_quota(
    quota: Annotated[
        str | None, typer.Argument(help="a quota's id; with --date a program's, optional if there is only one")
    ] = None,
    program: Annotated[str | None, typer.Option(help="the program whose day is closed")] = None,
    date: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="close all matching quotas of this date")
    ] = None,
    office: Office = None,
    service: Service = None,
    channel: Channel = None,
    reason: Reason = "",
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Stop claims for a quota, or for a whole day; held and confirmed reservations stay and are listed."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    if date is None:
        if quota is None or "." not in quota or (program, office, service, channel) != (None,) * 4:
            fail("give a quota's id, or --date with --office, --service or --channel", as_json=as_json)
            raise typer.Exit(EXIT_USAGE)
        _change(settings, SetQuota(quota=quota, closed=True, actor=cli_actor(), reason=reason), as_json=as_json)
        return
    if quota is not None and (program is not None or "." in quota):
        fail("--date closes quotas of a program: give the program in place of a quota", as_json=as_json)
        raise typer.Exit(EXIT_USAGE)
    wanted = wanted_quotas(office=office, service=service, channel=channel, first=date, last=date, state=None)
    close_day(settings, quota or program, wanted, actor=cli_actor(), reason=reason, as_json=as_json)


def _opens_at_ms(words: str) -> int:
    """0 for "now": such quotas are open from the start."""
    return 0 if words == "now" else moment_ms(words)


async def _refuse_overlap(operations: Operations, reopened: str) -> None:
    """Refuse to reopen a quota whose window overlaps an open one of the same line."""
    from reservasi.programs.comparison import in_the_way

    snapshot = await require_snapshot(operations, program_of(reopened))
    quota = next((each for each in snapshot.quotas if each.id == reopened), None)
    if quota is None or not quota.terms.closed:
        return
    other = in_the_way(await operations.program(program_of(reopened)), quota, snapshot.quotas)
    if other is not None:
        raise QuotaRefused(f"{reopened} would overlap {other.id}, which is open: close that one first")


def _change(settings: Settings, command: SetQuota, *, as_json: bool) -> None:
    from reservasi.bootstrap.commands import open_program

    async def work(operations: Operations) -> tuple[Answer, list[Booked], Program, Snapshot]:
        program = program_of(command.quota)
        async with open_program(operations, program) as group:
            if command.closed is False:
                await _refuse_overlap(operations, command.quota)
            answer = await group.submit(command)
            booked = await booked_in(operations, program, {command.quota} if command.closed else ())
        return answer, booked, *await look_up(operations, program)

    try:
        answer, booked, program, snapshot = run_with_stores(settings, work)
    except QuotaRefused as refused:
        fail(str(refused), as_json=as_json)
        raise typer.Exit(EXIT_FAILED) from refused
    if answer.outcome in REFUSALS:
        message = REFUSALS[answer.outcome].format(
            id=command.quota, taken=answer.taken, version=answer.version, opening=answer.opening
        )
        fail(message, as_json=as_json)
        raise typer.Exit(EXIT_FAILED)
    changed = next(each for each in snapshot.quotas if each.id == command.quota)
    description = describe(changed, snapshot.now_ms)
    if not command.closed:
        show_one(description, program, as_json=as_json)
    elif as_json:
        show_one({**description, "booked": [msgspec.structs.asdict(each) for each in booked]}, program, as_json=True)
    else:
        show_one(description, program, as_json=False)
        print_booked(booked)
        done = "was already closed" if answer.outcome is Outcome.EXISTS else "is now closed"
        out.print(f"\n{changed.id} {done}; {who_is_there(booked)}")
