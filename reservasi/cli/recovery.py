"""`reservasi rebuild` and `reservasi reconcile`: make the ledger what the records say; compare the two."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from reservasi.cli.invocation import configured, run
from reservasi.cli.output import EXIT_DRIFT, AsJson, DataDir, PostgresDsn, RedisUrl, show_rows, warn
from reservasi.cli.program_by_program import Failed, end_with, program_by_program, rows_of

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.rebuild import Progress, RebuildReport
    from reservasi.reconciliation import Drift, Reconciled
    from reservasi.settings import Settings

T = TypeVar("T")
ProgramOption = Annotated[str | None, typer.Option("--program", help="only this program", show_default=False)]
REPORT_FIELDS = ("program", "found", "rebuilt", "reservations", "ended", "recorded_first", "lost", "epoch", "seconds")
DRIFT_SHOWN = 20  # of a program; --json has as many as were kept


def rebuild(
    program: ProgramOption = None,
    force: Annotated[bool, typer.Option("--force", help="also a ledger that is in step with the records")] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="also a ledger that tells another history: what only it knows is lost")
    ] = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild lost or old ledgers from the records; claims answer 503 meanwhile. Safe to interrupt and to repeat."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    reports, failed = run(_rebuild(settings, program, force=force, discard=discard, quiet=as_json))
    rows = [msgspec.to_builtins(report) for report in reports]
    short = [{name: row[name] for name in REPORT_FIELDS} for row in rows]
    show_rows(rows + rows_of(failed) if as_json else short, as_json=as_json)
    for report in reports:
        if report.lost:
            warn(_words_of_loss(report))
    if failed:
        end_with(failed)


def reconcile(
    program: ProgramOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="rebuild a ledger that differs from the records")] = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Compare ledgers and records at one position; exit 3 when they differ. The service may run meanwhile."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    found, failed = run(_reconcile(settings, program, repair=repair, quiet=as_json))
    if as_json:
        show_rows([msgspec.to_builtins(each) for each in found] + rows_of(failed), as_json=True)
    else:
        show_rows([_summary(each) for each in found], as_json=False)
        show_rows([msgspec.to_builtins(drift) for drift in _shown(found)], as_json=False)
    if failed:
        end_with(failed)
    if any(each.drift for each in found):
        raise typer.Exit(EXIT_DRIFT)


async def _rebuild(
    settings: Settings, program: str | None, *, force: bool, discard: bool, quiet: bool
) -> tuple[list[RebuildReport], list[Failed]]:
    from reservasi.bootstrap.commands import open_operations

    async with open_operations(settings) as operations:

        async def one(program: str) -> RebuildReport:
            return await _rebuild_one(operations, program, force=force, discard=discard, quiet=quiet)

        return await _for_each(operations, program, one)


async def _rebuild_one(
    operations: Operations, program: str, *, force: bool, discard: bool, quiet: bool
) -> RebuildReport:
    from reservasi.bootstrap.commands import open_rebuilder
    from reservasi.cli.progress import progress

    with progress(f"rebuilding {program}", 0, quiet=quiet) as bar:
        async with open_rebuilder(operations, program) as rebuilder:
            return await rebuilder.run(force=force, discard=discard, progress=_follow(bar))


async def _reconcile(
    settings: Settings, program: str | None, *, repair: bool, quiet: bool
) -> tuple[list[Reconciled], list[Failed]]:
    from reservasi.bootstrap.commands import open_operations

    async with open_operations(settings) as operations:

        async def one(program: str) -> Reconciled:
            return await _reconcile_one(operations, program, repair=repair, quiet=quiet)

        return await _for_each(operations, program, one)


async def _reconcile_one(operations: Operations, program: str, *, repair: bool, quiet: bool) -> Reconciled:
    from reservasi.bootstrap.commands import open_rebuilder, open_reconciler
    from reservasi.cli.progress import progress
    from reservasi.repair import repaired

    async with open_reconciler(operations, program) as reconciler:
        result = await reconciler.run()
        if repair and result.repairable:
            with progress(f"rebuilding {program}", 0, quiet=quiet) as bar:
                async with open_rebuilder(operations, program) as rebuilder:
                    result = await repaired(reconciler, rebuilder, progress=_follow(bar))
        return result


async def _for_each(
    operations: Operations, program: str | None, work: Callable[[str], Awaitable[T]]
) -> tuple[list[T], list[Failed]]:
    """The work for one program, whose fault is the command's, or for each of them."""
    if program is not None:
        return [await work((await operations.program(program)).id)], []
    programs = [each.id for each in await operations.records.programs()]
    if len(programs) == 1:
        return [await work(programs[0])], []
    return await program_by_program(programs, work)


def _follow(bar: Any) -> Progress:
    told = 0

    def follow(loaded: int, total: int) -> None:
        nonlocal told
        bar(loaded - told, total)
        told = loaded

    return follow


def _summary(found: Reconciled) -> dict[str, Any]:
    counts = {kind: count for kind, count in found.kinds.items() if count}
    return {
        "program": found.program,
        "epoch": found.epoch,
        "seq": found.seq,
        "compared": found.compared,
        "skipped": found.skipped,
        "drift": ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none",
        "repaired": found.repaired,
    }


def _shown(found: Iterable[Reconciled]) -> list[Drift]:
    return [drift for each in found for drift in each.drift[:DRIFT_SHOWN]]


def _words_of_loss(report: RebuildReport) -> str:
    return (
        f"{report.program}: {report.lost} or more changes that the ledger accepted were not recorded and are lost: "
        "holds that nobody will find (the places are free again), and confirmations that were answered with 202"
    )
