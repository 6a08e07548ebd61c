"""`reservasi ledger compare`: what each side of a failover has, and what to do next. Changes nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from reservasi.cli.invocation import configured, run_with_stores
from reservasi.cli.output import AsJson, DataDir, PostgresDsn, RedisUrl, masked, moment, out, show_rows
from reservasi.cli.program_by_program import Failed, end_with, for_each, rows_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reservasi.bootstrap.commands import Operations
    from reservasi.bootstrap.ledgers import Ledgers
    from reservasi.settings import Settings
    from reservasi.worker.sides import Sides

RUNS_SHOWN = 10  # the last ones; --json has all
SIDE_FIELDS = (
    "side", "verdict", "epoch", "seq", "confirmed", "held", "confirmed_not_recorded", "held_not_recorded",
    "confirmed_only_here", "held_only_here", "changed_at", "run_id", "error",
)  # fmt: skip


def compare_ledgers(
    program: Annotated[str | None, typer.Option("--program", help="only this program", show_default=False)] = None,
    other_redis_url: Annotated[
        str | None,
        typer.Option(
            "--other-redis-url", help="the server on the other side, such as the former primary", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Show what each side has after a failover, and what to do next; changes nothing."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    compared, failed = run_with_stores(settings, partial(_compare, program=program, other_url=other_redis_url))
    if as_json:
        show_rows([msgspec.to_builtins(each) for each in compared] + rows_of(failed), as_json=True)
    else:
        for each in compared:
            _show(each)
    if failed:
        end_with(failed)


async def _compare(
    operations: Operations, *, program: str | None, other_url: str | None
) -> tuple[list[Sides], list[Failed]]:
    from reservasi.worker.sides import compare_sides, look_at

    async with _open_other(operations.settings, other_url) as other:

        async def one(of: str) -> Sides:
            sides = [
                await look_at(of, ledgers.connection(of), ledgers.journal(of), operations.records)
                for ledgers in (operations.ledgers, other)
                if ledgers is not None
            ]
            there = sides[1] if len(sides) > 1 else None
            return await compare_sides(of, sides[0], there, operations.records, url=masked(other_url or ""))

        return await for_each(operations, program, one)


@asynccontextmanager
async def _open_other(settings: Settings, url: str | None) -> AsyncIterator[Ledgers | None]:
    """The ledgers of another server, if one is given."""
    from reservasi.bootstrap.ledgers import Ledgers
    from reservasi.bootstrap.servers import open_servers

    if url is None:
        yield None
        return
    there = settings.model_copy(update={"redis_url": url})
    servers = open_servers(there)
    try:
        servers.start()
        yield Ledgers(there, servers)
    finally:
        await servers.close()


def _show(result: Sides) -> None:
    out.print(f"[bold]{result.program}[/]: recorded up to epoch {result.recorded_epoch}, seq {result.recorded_seq}")
    sides = {each.epoch: each.side for each in reversed(result.sides) if not each.error}
    show_rows(
        [
            {
                "owned_at": moment(row.at_ms),
                "epoch": row.epoch,
                "after_seq": row.base_seq,
                "run_id": row.run_id or "unknown",
                "is": sides.get(row.epoch, ""),
            }
            for row in result.owned[-RUNS_SHOWN:]
        ],
        as_json=False,
    )
    show_rows([_described(msgspec.to_builtins(each)) for each in result.sides], as_json=False)
    for each in result.sides:
        if each.named:
            out.print(f"confirmed only on {each.side} side: {', '.join(each.named)}")
    out.print(result.recommendation, markup=False)
    out.print(f"Next: {result.command}", markup=False)


def _described(side: dict[str, Any]) -> dict[str, Any]:
    side["changed_at"] = moment(side["changed_at_ms"])
    return {name: side[name] for name in SIDE_FIELDS}
