"""`reservasi rebuild` and `reservasi reconcile`: rebuild a ledger from the records; compare the two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from reservasi.cli.invocation import configured, run_with_stores
from reservasi.cli.output import EXIT_DRIFT, AsJson, DataDir, PostgresDsn, RedisUrl, show_rows, warn
from reservasi.cli.program_by_program import Failed, end_with, for_each, rows_of
from reservasi.errors import ConfigurationError

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.worker.rebuild import Progress, RebuildReport
    from reservasi.worker.reconciliation import Drift, Reconciled
    from reservasi.worker.restoration import RestoreReport

ProgramOption = Annotated[str | None, typer.Option("--program", help="only this program", show_default=False)]
REPORT_FIELDS = ("program", "found", "rebuilt", "reservations", "ended", "recorded_first", "lost", "epoch", "seconds")
DRIFT_SHOWN = 20  # per program; --json has all that were kept


class _How(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild may do beyond what is safe."""

    force: bool
    discard: bool
    discard_confirmed: bool


def rebuild(
    program: ProgramOption = None,
    force: Annotated[bool, typer.Option("--force", help="also a ledger that agrees with the records")] = False,
    discard: Annotated[
        bool,
        typer.Option(
            "--discard",
            help="also a ledger with another history: its unique changes are lost; without this, the refusal counts "
            "the confirmed bookings among them. If the records are an older copy, --from-ledger keeps them",
        ),
    ] = False,
    discard_confirmed: Annotated[
        bool,
        typer.Option(
            "--discard-confirmed",
            help="with --discard: also if it has confirmed bookings that the records do not have",
        ),
    ] = False,
    from_ledger: Annotated[
        bool,
        typer.Option(
            "--from-ledger",
            help="the reverse, if PostgreSQL was restored from an older copy: record what the ledger has",
        ),
    ] = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild lost or old ledgers from the records; claims answer 503 meanwhile. Safe to interrupt and to repeat."""
    if from_ledger and (force or discard or discard_confirmed):
        raise typer.BadParameter("--from-ledger excludes --force and --discard")
    if discard_confirmed and not discard:
        raise typer.BadParameter("--discard-confirmed needs --discard")
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    if from_ledger:
        _show_restored(*run_with_stores(settings, partial(_restore, program=program)), as_json=as_json)
        return
    how = _How(force=force, discard=discard, discard_confirmed=discard_confirmed)

    async def work(operations: Operations) -> tuple[list[RebuildReport], list[Failed]]:
        return await for_each(operations, program, partial(_rebuild_one, operations, how=how, quiet=as_json))

    reports, failed = run_with_stores(settings, work)
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
    """Compare ledgers and records at one position while the service runs; exit 3 when they differ."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)

    async def work(operations: Operations) -> tuple[list[Reconciled], list[Failed]]:
        return await for_each(operations, program, partial(_reconcile_one, operations, repair=repair, quiet=as_json))

    results, failed = run_with_stores(settings, work)
    if as_json:
        show_rows([msgspec.to_builtins(each) for each in results] + rows_of(failed), as_json=True)
    else:
        show_rows([_summary(each) for each in results], as_json=False)
        show_rows([msgspec.to_builtins(drift) for drift in _shown(results)], as_json=False)
    if failed:
        end_with(failed)
    if any(each.drift for each in results):
        raise typer.Exit(EXIT_DRIFT)


async def _rebuild_one(operations: Operations, program: str, *, how: _How, quiet: bool) -> RebuildReport:
    from reservasi.bootstrap.commands import open_rebuilder
    from reservasi.cli.progress import progress

    with progress(f"rebuilding {program}", 0, quiet=quiet) as bar:
        async with open_rebuilder(operations, program) as rebuilder:
            return await rebuilder.run(**msgspec.structs.asdict(how), progress=_follow(bar))


async def _restore(operations: Operations, *, program: str | None) -> tuple[list[RestoreReport], list[Failed]]:
    from reservasi.bootstrap.commands import open_restorer

    if program is None and not await operations.records.programs():
        raise ConfigurationError(
            "the records have no program: import the program files first (`reservasi program import FILE` stores each, "
            "also where its ledger is fenced), then run this again"
        )

    async def one(program: str) -> RestoreReport:
        async with open_restorer(operations, program) as restorer:
            return await restorer.run()

    return await for_each(operations, program, one)


def _show_restored(reports: list[RestoreReport], failed: list[Failed], *, as_json: bool) -> None:
    rows = [msgspec.to_builtins(report) for report in reports]
    show_rows(rows + rows_of(failed) if as_json else rows, as_json=as_json)
    for report in reports:
        for words in _words_of_gap(report):
            warn(words)
    if failed:
        end_with(failed)


def _words_of_gap(report: RestoreReport) -> Iterator[str]:
    """What could not be restored."""
    if report.without_envelope:
        yield (
            f"{report.program}: of {report.without_envelope} bookings and holds, names and contacts are lost; "
            "`reservasi reservation show` marks them, and their people still have their codes"
        )
    if report.gap:
        yield (
            f"{report.program}: {report.gap} changes have no entry in the journal any more: who made them and why is "
            "lost to the audit; what people did to staff keys since the copy is not in the ledger: see `reservasi "
            "staff list`"
        )
    if report.left_out:
        yield (
            f"{report.program}: {report.left_out} stored values could not be read and were left out: run `reservasi "
            "reconcile`"
        )


async def _reconcile_one(operations: Operations, program: str, *, repair: bool, quiet: bool) -> Reconciled:
    from reservasi.bootstrap.commands import open_rebuilder, open_reconciler
    from reservasi.cli.progress import progress
    from reservasi.worker.repair import repaired

    async with open_reconciler(operations, program) as reconciler:
        result = await reconciler.run()
        if repair and result.repairable:
            with progress(f"rebuilding {program}", 0, quiet=quiet) as bar:
                async with open_rebuilder(operations, program) as rebuilder:
                    result = await repaired(reconciler, rebuilder, progress=_follow(bar))
        return result


def _follow(bar: Any) -> Progress:
    reported = 0

    def follow(loaded: int, total: int) -> None:
        nonlocal reported
        bar(loaded - reported, total)
        reported = loaded

    return follow


def _summary(result: Reconciled) -> dict[str, Any]:
    counts = {kind: count for kind, count in result.kinds.items() if count}
    return {
        "program": result.program,
        "epoch": result.epoch,
        "seq": result.seq,
        "compared": result.compared,
        "skipped": result.skipped,
        "drift": ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none",
        "settled": len(result.settled),
        "unread": result.unread,
        "repaired": result.repaired,
    }


def _shown(results: Iterable[Reconciled]) -> list[Drift]:
    return [drift for each in results for drift in each.drift[:DRIFT_SHOWN]]


def _words_of_loss(report: RebuildReport) -> str:
    if report.lost_counted:
        return (
            f"{report.program}: {report.lost:,} changes that the ledger accepted were not recorded and are lost: "
            f"{report.lost_confirmed:,} confirmed bookings and {report.lost_held:,} holds (their places are free "
            f"again), and the ends of {report.lost_ended:,} reservations, which live again; the rest changed quotas, "
            "openings or one of these before"
        )
    return (
        f"{report.program}: {report.lost} or more changes that the ledger accepted were not recorded and are lost: "
        "holds that nobody will find (the places are free again), and confirmations that were answered with 202"
    )
