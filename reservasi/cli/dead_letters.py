"""`reservasi dead-letters`: events that could not be recorded, and their handling."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reservasi.cli.actor import cli_actor, tidied
from reservasi.cli.invocation import configured, run, run_with_stores
from reservasi.cli.output import EXIT_FAILED, AsJson, DataDir, PostgresDsn, RedisUrl, fail, hint, moment, show_rows
from reservasi.cli.program_by_program import Failed, end_with, for_each, rows_of

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.records import Letter, LetterOutcome, LetterPosition
    from reservasi.worker.dead_letters import TriedLetter

app = typer.Typer(help="Events that could not be recorded: list, retry, settle.", no_args_is_help=True)

LIMIT_DEFAULT = 100
LIMIT_MAX = 10_000
IDS_MAX = 10_000
POSITION_DIGITS = 18  # of a number that fits the records
ProgramOption = Annotated[str | None, typer.Option("--program", help="only this program", show_default=False)]


@app.command("list")
def list_letters(
    program: ProgramOption = None,
    everything: Annotated[bool, typer.Option("--all", help="also those that are recorded or settled")] = False,
    after: Annotated[
        str | None, typer.Option(help="after this one, as PROGRAM:EPOCH:SEQ; the previous page names it")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="letters per page")] = LIMIT_DEFAULT,
    data_dir: DataDir = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Show the events that are not recorded, in the order of their seq; with --json in full, to be kept elsewhere."""
    from reservasi.bootstrap.records import open_records_operations

    behind = _position(after)
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)

    async def work() -> list[Letter]:
        async with open_records_operations(settings) as operations:
            if program is not None:
                await operations.program(program)
            return await operations.records.dead_letters(program, closed=everything, after=behind, limit=limit + 1)

    letters = run(work())
    page = letters[:limit]
    show_rows([_described(each) if as_json else _in_short(each) for each in page], as_json=as_json)
    if len(letters) > limit:
        last = page[-1]
        hint(f"there are more: --after {last.program}:{last.epoch}:{last.seq}")


@app.command("retry")
def retry(
    program: ProgramOption = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Record what this version can record now, in the order of seq; repeating is harmless. Exit 1 while some stay
    open.
    """

    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)

    async def work(operations: Operations) -> tuple[list[list[TriedLetter]], list[Failed]]:
        return await for_each(operations, program, partial(_retry, operations))

    by_program, failed = run_with_stores(settings, work)
    tried = [each for letters in by_program for each in letters]
    rows: list[dict[str, Any]] = [
        {
            "id": each.id,
            "program": each.program,
            "seq": each.seq,
            "kind": each.kind,
            "reservation": each.reservation,
            "result": each.result,
            "why": each.why,
        }
        for each in tried
    ]
    show_rows(rows + rows_of(failed) if as_json else rows, as_json=as_json)
    if failed:
        end_with(failed)
    if any(each.result not in ("recorded", "closed") for each in tried):
        hint("a person must deal with the open ones: reservasi dead-letters settle ID --reason WHY")
        raise typer.Exit(EXIT_FAILED)


@app.command("settle")
def settle(
    ids: Annotated[list[int], typer.Argument(help="the letters, by the id that `list` shows")],
    reason: Annotated[str, typer.Option("--reason", callback=tidied, help="what was done; no personal data")],
    data_dir: DataDir = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Mark letters as dealt with: each is kept with who, when and why, and is no longer open."""
    from reservasi.bootstrap.records import open_records_operations

    if not reason:
        raise typer.BadParameter("give what was done", param_hint="--reason")
    if len(ids) > IDS_MAX:
        raise typer.BadParameter(f"at most {IDS_MAX} at once", param_hint="IDS")
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)

    async def work() -> dict[int, LetterOutcome | None]:
        async with open_records_operations(settings) as operations:
            return await operations.records.settle_dead_letters(ids, cli_actor(), reason)

    before = run(work())
    show_rows([{"id": id_, "result": _settled(outcome)} for id_, outcome in before.items()], as_json=as_json)
    unknown = [str(id_) for id_, outcome in before.items() if outcome is None]
    if unknown:
        fail(f"there is no dead letter {', '.join(unknown)}", as_json=False)
        raise typer.Exit(EXIT_FAILED)


async def _retry(operations: Operations, program: str) -> list[TriedLetter]:
    from reservasi.worker import dead_letters

    connection = operations.ledgers.connection(program)
    try:
        tried = dead_letters.retry(
            program,
            connection,
            operations.ledgers.journal(program),
            operations.records,
            booking_code=operations.sealing.booking_code,
            actor=cli_actor(),
        )
        return [each async for each in tried]
    finally:
        await connection.drop()


def _settled(before: LetterOutcome | None) -> str:
    if before is None:
        return "unknown"
    return "settled" if before == "open" else f"was {before} before"


def _position(words: str | None) -> LetterPosition | None:
    from reservasi.records import LetterPosition

    if words is None:
        return None
    program, _, rest = words.partition(":")
    epoch, _, seq = rest.partition(":")
    if not (program and epoch.isdecimal() and seq.isdecimal()):
        raise typer.BadParameter(f"{words} is not PROGRAM:EPOCH:SEQ", param_hint="--after")
    return LetterPosition(program=program, epoch=int(epoch[:POSITION_DIGITS]), seq=int(seq[:POSITION_DIGITS]))


def _in_short(letter: Letter) -> dict[str, Any]:
    from reservasi.worker.dead_letters import kind_of

    return {
        "id": letter.id,
        "program": letter.program,
        "seq": letter.seq,
        "kind": kind_of(letter),
        "reservation": letter.reservation_id,
        "decided": moment(letter.at_ms),
        "state": letter.outcome,
        "why": letter.reason or letter.error,
    }


def _described(letter: Letter) -> dict[str, Any]:
    from reservasi.worker.dead_letters import kind_of

    return {
        "id": letter.id,
        "program": letter.program,
        "epoch": letter.epoch,
        "seq": letter.seq,
        "kind": kind_of(letter),
        "reservation": letter.reservation_id,
        "event": json.loads(letter.event),
        "error": letter.error,
        "decided_at": moment(letter.at_ms),
        "met_at": letter.at,
        "state": letter.outcome,
        "closed_at": letter.closed_at,
        "closed_by": letter.closed_by or None,
        "reason": letter.reason or None,
    }
