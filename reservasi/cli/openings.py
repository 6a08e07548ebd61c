"""`reservasi opening`: creates, shows and lists openings, and controls their waiting rooms."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reservasi.cli.actor import Reason, cli_actor, tidied
from reservasi.cli.fences import require_snapshot
from reservasi.cli.invocation import configured, run_with_stores
from reservasi.cli.known_names import refuse_unknown
from reservasi.cli.moments import for_people
from reservasi.cli.output import (
    EXIT_FAILED,
    AsJson,
    DataDir,
    PostgresDsn,
    RedisUrl,
    fail,
    moment,
    moment_ms,
    show,
    show_rows,
)
from reservasi.cli.program_by_program import Failed, end_with, program_by_program, rows_of
from reservasi.errors import ConfigurationError
from reservasi.model import Answer, MoveOpening, Opening, Outcome, Quota, SetOpening
from reservasi.programs import RATE_PER_MIN_MAX
from reservasi.quota_state import was_offered
from reservasi.tidying import name_character
from reservasi.waiting_room import draw
from reservasi.waiting_room.creation import move_until_last_closing
from reservasi.waiting_room.days import Days, days_between
from reservasi.waiting_room.state import ends_at_ms, places_of, state_of

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.cli.opening_creation import Created
    from reservasi.programs import Program
    from reservasi.settings import Settings

app = typer.Typer(help="Openings: the moments at which quotas open, and their waiting rooms.", no_args_is_help=True)

OpeningId = Annotated[str, typer.Argument(help="such as surabaya-20261204-1400")]
FirstDate = Annotated[
    dt.datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="first date of its quotas; default: any")
]
LastDate = Annotated[
    dt.datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="last date of its quotas; default: any")
]
Rate = Annotated[int | None, typer.Option(min=1, max=RATE_PER_MIN_MAX, help="numbers admitted per minute at the start")]
RateMax = Annotated[int | None, typer.Option(min=1, max=RATE_PER_MIN_MAX, help="the largest value of an adaptive rate")]

Version = Annotated[int, typer.Option(min=0, help="only if the opening has this version; 0: any")]

REFUSALS = {
    Outcome.UNKNOWN_OPENING: "there is no opening {id}",
    Outcome.OPENING_CANCELLED: "{id} is cancelled permanently: create a new opening",
    Outcome.CLOSED: "{id} has ended and can no longer be changed",
    Outcome.TOO_LATE: "the beacon of {id} is fixed: it has opened, or another value was entered",
    Outcome.VERSION_MISMATCH: "{id} is now at version {version}: see opening show",
    Outcome.MOMENT_INVALID: "{id} would open or end in the past, or end before it opens",
    Outcome.MOMENT_TAKEN: "{opening}{quota} opens at that moment in one of the same offices: choose another moment",
    Outcome.QUOTA_CLOSES: "{quota} closes before that: choose an earlier moment, or change its closing time",
    Outcome.TOO_MANY_QUOTAS: "{id} has more quotas than one step can change",
}


PublicReason = Annotated[
    str,
    typer.Option("--reason", callback=tidied, help="the reason in Indonesian, shown to the public; no personal data"),
]
PublicReasonEn = Annotated[
    str, typer.Option("--reason-en", callback=tidied, help="the reason in English, shown to the public")
]


@app.command("create")
def create(
    program: Annotated[str, typer.Argument(help="the program, such as surabaya")],
    opens_at: Annotated[str, typer.Option(help="RFC 3339 time, such as 2026-12-04T14:00:00+07:00")],
    first: FirstDate = None,
    last: LastDate = None,
    office: Annotated[
        list[str] | None, typer.Option(help="only quotas of this office; may be repeated; default: all")
    ] = None,
    service: Annotated[str | None, typer.Option(help="only quotas of this service")] = None,
    channel: Annotated[str | None, typer.Option(help="only quotas of this channel")] = None,
    joins_from: Annotated[str | None, typer.Option(help='when people may join: RFC 3339 or "now"')] = None,
    ends_at: Annotated[str | None, typer.Option(help="when the waiting room ends; then anyone may claim")] = None,
    waiting_room: Annotated[bool, typer.Option(help="whether people wait and numbers are drawn")] = True,
    rate_per_min: Rate = None,
    rate_max_per_min: RateMax = None,
    adaptive: Annotated[
        bool | None, typer.Option("--adaptive/--fixed", help="whether the rate follows the service's load")
    ] = None,
    proof_of_work: Annotated[bool | None, typer.Option(help="whether joining requires a proof of work")] = None,
    beacon_source: Annotated[
        str,
        typer.Option(
            callback=tidied, help="who publishes the draw's beacon, which value, and when; shown to the public"
        ),
    ] = "",
    id_: Annotated[str | None, typer.Option("--id", help="its id; default: from program and moment")] = None,
    reason: Reason = "",
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Create an opening and move the selected quotas to its moment; the defaults are the file's."""
    from reservasi.cli.opening_creation import Selection, create_opening, ids_elsewhere, room_of
    from reservasi.waiting_room.creation import checked_id, free_id, new_terms

    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    opens_at_ms = moment_ms(opens_at)
    selection = Selection(
        first=first.date().isoformat() if first else None,
        last=last.date().isoformat() if last else None,
        offices=tuple(sorted(set(office or ()))),
        service=service,
        channel=channel,
    )
    room_values = {
        "rate_per_min": rate_per_min,
        "rate_max_per_min": rate_max_per_min,
        "adaptive": adaptive,
        "proof_of_work": proof_of_work,
    }

    async def work(operations: Operations) -> tuple[Created, dict[str, Any]]:
        stored = await operations.program(program)
        snapshot = await require_snapshot(operations, program)
        refuse_unknown(stored, snapshot.quotas, selection, as_json=as_json)
        elsewhere = await ids_elsewhere(operations, program)
        free = free_id(program, opens_at_ms, stored.zone, selection.offices, snapshot.openings, elsewhere=elsewhere)
        name = checked_id(program, id_ or free, elsewhere)
        terms = new_terms(
            operations.sealing,
            name,
            opens_at_ms,
            room_of(stored, room_values) if waiting_room else None,
            joins_from_ms=None if joins_from is None else moment_ms(joins_from),
            ends_at_ms=None if ends_at is None else moment_ms(ends_at),
            offices=selection.offices,
            beacon_source=beacon_source,
        )
        created = await create_opening(operations, program, name, terms, selection, cli_actor(), reason)
        return created, await _described(operations, name)

    created, description = run_with_stores(settings, work)
    done = {"moved": created.moved, "left_out": created.left_out, "taken_from": created.taken_from}
    _show({**description, **done}, as_json=as_json)


@app.command("show")
def show_opening(
    opening: OpeningId,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Show one opening from the ledger."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)

    async def work(operations: Operations) -> dict[str, Any]:
        return await _described(operations, opening)

    _show(run_with_stores(settings, work), as_json=as_json)


@app.command("list")
def list_openings(
    program: Annotated[str | None, typer.Option(help="only of this program")] = None,
    first: Annotated[
        dt.datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="first date; default: today in its time zone"),
    ] = None,
    last: Annotated[
        dt.datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="last date; default: any")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="also past ones")] = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """List the openings that are not past, the earliest first."""
    if everything and (first or last):
        raise typer.BadParameter("give --all, or --from and --to")
    if first and last and first > last:
        raise typer.BadParameter("--from must not lie after --to")
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)

    async def of_program(operations: Operations, name: str) -> list[dict[str, Any]]:
        each = await operations.program(name)
        snapshot = await require_snapshot(operations, each.id)
        days = _days(first, last, each.zone, snapshot.now_ms)
        chosen = [one for one in snapshot.openings if everything or days.has_opening(one)]
        described = (describe(each, one, snapshot.quotas, snapshot.now_ms) for one in chosen)
        return [{**row, "timezone": each.timezone} for row in described]

    async def work(operations: Operations) -> tuple[list[list[dict[str, Any]]], list[Failed]]:
        if program:
            return [await of_program(operations, program)], []
        names = [each.id for each in await operations.records.programs()]
        return await program_by_program(names, partial(of_program, operations))

    by_program, failed = run_with_stores(settings, work)
    rows = sorted(chain(*by_program), key=lambda row: (row["opens_at"], row["id"]))
    if not as_json:
        rows = [
            {
                "id": row["id"],
                "state": row["state"],
                "opens": row["opens_at"],
                "joined": row["joined"],
                "arrived": row["arrived"],
                "admitted": row["admitted_through"],
                "remaining": row["remaining"],
            }
            for row in (for_people(row, row["timezone"]) for row in rows)
        ]
    show_rows([*rows, *rows_of(failed)] if as_json else rows, as_json=as_json)
    if failed:
        end_with(failed)


def _days(first: dt.datetime | None, last: dt.datetime | None, zone: dt.tzinfo, now_ms: int) -> Days:
    """The selected dates, in a program's time zone."""
    today = dt.datetime.fromtimestamp(now_ms / 1000, zone).date()
    begin = first.date() if first else today
    return days_between(begin.isoformat(), (last.date() if last else dt.date.max).isoformat(), zone)


@app.command("pause")
def pause(
    opening: OpeningId,
    reason: Reason = "",
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Stop admitting numbers until it is resumed; admitted people may still claim."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    _change(settings, SetOpening(opening=opening, paused=True, actor=cli_actor(), reason=reason), as_json=as_json)


@app.command("resume")
def resume(
    opening: OpeningId,
    reason: Reason = "",
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Resume from the same number."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    _change(settings, SetOpening(opening=opening, paused=False, actor=cli_actor(), reason=reason), as_json=as_json)


@app.command("rate")
def rate(
    opening: OpeningId,
    per_min: Annotated[int, typer.Argument(min=0, max=RATE_PER_MIN_MAX, help="numbers per minute; 0: adaptive again")],
    reason: Reason = "",
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Fix the rate of admission, or return to the opening's terms."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    _change(
        settings, SetOpening(opening=opening, rate_per_min=per_min, actor=cli_actor(), reason=reason), as_json=as_json
    )


@app.command("beacon")
def beacon(
    opening: OpeningId,
    value: Annotated[
        str, typer.Argument(help="a public value that nobody could know before, such as a lottery result")
    ],
    reason: Reason = "",
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Mix an outside value into the draw: once, and before it opens."""
    value = draw.tidy_beacon(value)
    if not draw.is_beacon(value):
        raise typer.BadParameter(_why_no_beacon(value), param_hint="VALUE")
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    _change(settings, SetOpening(opening=opening, beacon=value, actor=cli_actor(), reason=reason), as_json=as_json)


def _why_no_beacon(value: str) -> str:
    wrong = next((each for each in value if not draw.is_beacon(each)), None)
    why = f"it has {len(value)}" if value else "it is empty"
    why = why if wrong is None else name_character(wrong)
    return f"1 to {draw.BEACON_CHARS_MAX} ASCII characters, no spaces: {why}"


@app.command("move")
def move(
    opening: OpeningId,
    opens_at: Annotated[
        str | None, typer.Option(help="its new moment, RFC 3339; its end moves by the same time")
    ] = None,
    ends_at: Annotated[str | None, typer.Option(help="when its waiting room ends, RFC 3339")] = None,
    reason: PublicReason = "",
    reason_en: PublicReasonEn = "",
    version: Version = 0,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Move an opening with all of its quotas, or move its end; people who joined keep their tickets."""
    if opens_at is None and ends_at is None:
        raise typer.BadParameter("give --opens-at or --ends-at")
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    command = MoveOpening(
        actor=cli_actor(),
        opening=opening,
        opens_at_ms=None if opens_at is None else moment_ms(opens_at),
        ends_at_ms=None if ends_at is None else moment_ms(ends_at),
        reason=reason,
        reason_en=reason_en,
        version=version,
    )
    _change(settings, command, as_json=as_json)


@app.command("cancel")
def cancel(
    opening: OpeningId,
    reason: PublicReason,
    reason_en: PublicReasonEn = "",
    version: Version = 0,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Cancel an opening permanently, and close its quotas; reservations stay."""
    if not reason:
        raise typer.BadParameter("give a --reason: it is shown to the public", param_hint="--reason")
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    command = MoveOpening(
        actor=cli_actor(),
        opening=opening,
        cancelled=True,
        reason=reason,
        reason_en=reason_en,
        version=version,
    )
    _change(settings, command, as_json=as_json)


def _show(description: dict[str, Any], *, as_json: bool) -> None:
    """Print with times in the program's zone, or as JSON in UTC."""
    show(description if as_json else for_people(description, description["timezone"]), as_json=as_json)


def describe(program: Program, opening: Opening, quotas: Sequence[Quota], now_ms: int) -> dict[str, Any]:
    """An opening for text or JSON output, with what it offers to the public; never its seed."""
    terms = opening.terms
    covered = _offered(program, (quota for quota in quotas if opening.covers(quota.terms)))
    places = places_of(covered, now_ms)
    offered = [each for each in covered if (was_offered(each) if opening.cancelled else not each.terms.closed)]
    remaining = sum(quota.remaining for quota in offered)
    return {
        "id": opening.id,
        "program": program.id,
        "state": state_of(opening, now_ms, places),
        "opens_at": moment(terms.opens_at_ms),
        "joins_from": moment(terms.joins_from_ms),
        "ends_at": moment(ends_at_ms(opening, places)),
        "offices": list(terms.offices),
        "quotas": len(offered),
        "remaining": remaining,
        "waiting_room": terms.waiting_room,
        "proof_of_work": terms.proof_of_work,
        "adaptive": terms.adaptive and not opening.rate_fixed,
        "rate_per_min": opening.rate_per_min,
        "rate_max_per_min": terms.rate_max_per_min,
        "paused": opening.paused,
        "joined": opening.joined,
        "arrived": opening.arrived,
        "admitted_through": opening.admitted_through,
        "commitment": terms.commitment,
        "beacon": opening.beacon or None,
        "beacon_source": terms.beacon_source or None,
        "cancelled": opening.cancelled,
        "reason": opening.reason or None,
        "reason_en": opening.reason_en or None,
        "moved_from": moment(opening.moved_from_ms),
        "paused_since": moment(opening.paused_at_ms),
        "revision": opening.revision,
        "version": opening.version,
    }


def _offered(program: Program, quotas: Iterable[Quota]) -> list[Quota]:
    """The quotas that the public may claim; those of other channels are for the counter."""
    channels = program.public_channels
    return [quota for quota in quotas if quota.terms.channel in channels]


async def _program_of(operations: Operations, opening: str) -> str:
    """The program of an opening id, which begins with the program's id; of several, the one that has the opening."""
    programs = [each.id for each in await operations.records.programs() if opening.startswith(f"{each.id}-")]
    if not programs:
        raise ConfigurationError(f"there is no opening {opening}")
    longest, *others = sorted(programs, key=len, reverse=True)
    for program in (longest, *others) if others else ():
        if any(each.id == opening for each in (await require_snapshot(operations, program)).openings):
            return program
    return longest


async def _described(operations: Operations, opening: str) -> dict[str, Any]:
    program = await _program_of(operations, opening)
    snapshot = await require_snapshot(operations, program)
    stored = next((each for each in snapshot.openings if each.id == opening), None)
    if stored is None:
        raise ConfigurationError(f"there is no opening {opening}")
    owner = await operations.program(program)
    return {**describe(owner, stored, snapshot.quotas, snapshot.now_ms), "timezone": owner.timezone}


def _change(settings: Settings, command: SetOpening | MoveOpening, *, as_json: bool) -> None:
    from reservasi.bootstrap.commands import open_program

    async def work(operations: Operations) -> tuple[str, dict[str, Any]]:
        program = await _program_of(operations, command.opening)
        within_quotas = await _within_quotas(operations, program, command)
        if within_quotas is None:
            return REFUSALS[Outcome.CLOSED].format(id=command.opening), {}
        async with open_program(operations, program) as group:
            answer = await group.submit(within_quotas)
        if answer.outcome in REFUSALS:
            return _refusal(command, answer), {}
        return "", await _described(operations, command.opening)

    refusal, description = run_with_stores(settings, work)
    if refusal:
        fail(refusal, as_json=as_json)
        raise typer.Exit(EXIT_FAILED)
    _show(description, as_json=as_json)


async def _within_quotas(
    operations: Operations, program: str, command: SetOpening | MoveOpening
) -> SetOpening | MoveOpening | None:
    """The command, with an end that is not after the last closing of the opening's quotas; None if it has ended.

    The ledger decides by the opening's own end and does not look at its quotas, which may all close earlier.
    """
    snapshot = await require_snapshot(operations, program)
    opening = next((each for each in snapshot.openings if each.id == command.opening), None)
    if opening is None or (isinstance(command, SetOpening) and command.beacon):
        return command
    covered = (each for each in snapshot.quotas if opening.terms.covers(each.terms))
    places = places_of(_offered(await operations.program(program), covered), snapshot.now_ms)
    if state_of(opening, snapshot.now_ms, places) == "ended":
        return None
    return move_until_last_closing(command, opening, places) if isinstance(command, MoveOpening) else command


def _refusal(command: SetOpening | MoveOpening, answer: Answer) -> str:
    if answer.outcome is Outcome.TOO_LATE and isinstance(command, MoveOpening):
        return f"{command.opening} has opened: its moment is fixed, and only its end can be moved"
    named = {"id": command.opening, "version": answer.version, "opening": answer.opening, "quota": answer.quota}
    return REFUSALS[answer.outcome].format(**named)
