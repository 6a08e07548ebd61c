"""`reservasi program remove`: the checks, the question, and the output."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from reservasi.cli.actor import cli_actor
from reservasi.cli.fences import require_snapshot
from reservasi.cli.invocation import run
from reservasi.cli.output import EXIT_FAILED, EXIT_USAGE, fail, out, show
from reservasi.errors import RemovalRefused
from reservasi.model import Outcome, SetQuota

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.settings import Settings
    from reservasi.worker.removal import Removal

AT_ONCE = 500  # quotas closed together
CLOSING = "quotas can be claimed"  # the beginning of the obstacle that --close-quotas removes


def remove(
    settings: Settings, program: str, *, reason: str, close_quotas: bool, yes: bool, as_json: bool
) -> dict[str, Any]:
    """Remove the program, asking first unless `yes`; returns the result."""
    from reservasi.bootstrap.commands import open_operations

    if as_json and not yes:
        fail("--json needs --yes, since there is no question", as_json=True)
        raise typer.Exit(EXIT_USAGE)

    async def check() -> None:
        async with open_operations(settings) as operations:
            await _refuse(operations, program, close_quotas=close_quotas)

    async def work() -> Removal:
        from reservasi.bootstrap.commands import open_remover

        async with open_operations(settings) as operations:
            if close_quotas and not await operations.records.is_removed(program):
                await _close_all(operations, program, reason)
            async with open_remover(operations, program) as remover:
                return await remover.run(actor=cli_actor(), reason=reason)

    run(check())
    if not yes:
        _ask(program)
    return _described(run(work()))


async def _refuse(operations: Operations, program: str, *, close_quotas: bool) -> None:
    """Report obstacles before the question; the removal checks again when nothing can change."""
    from reservasi.bootstrap.commands import open_remover

    if await operations.records.is_removed(program):
        return
    await operations.program(program)
    async with open_remover(operations, program) as remover:
        reasons = await remover.obstacles()
    in_the_way = [each for each in reasons if not (close_quotas and CLOSING in each)]
    if in_the_way:
        raise RemovalRefused(f"{program} is not removed: {'; '.join(in_the_way)}")


def _ask(program: str) -> None:
    out.print(
        f"This removes {program} with its quotas and openings: it can no longer be seen or booked. Bookings that "
        "have ended, the journal and the audit log stay in the records."
    )
    if typer.prompt(f"Type {program} to remove it", default="", show_default=False) != program:
        fail("the name does not match: nothing was removed", as_json=False)
        raise typer.Exit(EXIT_FAILED)


async def _close_all(operations: Operations, program: str, reason: str) -> None:
    from reservasi.bootstrap.commands import open_program

    async with open_program(operations, program) as group:
        quotas = [each.id for each in (await require_snapshot(operations, program)).quotas if not each.terms.closed]
        for at in range(0, len(quotas), AT_ONCE):
            commands = [
                SetQuota(quota=each, closed=True, actor=cli_actor(), reason=reason)
                for each in quotas[at : at + AT_ONCE]
            ]
            answers = await asyncio.gather(*map(group.submit, commands))
            left = [
                command.quota
                for command, answer in zip(commands, answers, strict=True)
                if answer.outcome not in (Outcome.QUOTA_SET, Outcome.EXISTS, Outcome.UNKNOWN_QUOTA)
            ]
            if left:
                raise RemovalRefused(f"{program} is not removed: {left[0]} was not closed")


def _described(done: Removal) -> dict[str, Any]:
    counts = done.found
    row: dict[str, Any] = {"program": done.program, "removed": done.removed, "ledger_keys_deleted": done.keys}
    if done.removed:
        row |= {
            "quotas": counts.quotas,
            "openings": counts.openings,
            "kept_bookings": counts.bookings,
            "kept_journal_entries": counts.journal_entries,
            "kept_audit_rows": counts.audit_rows,
        }
    return row


def print_removed(done: dict[str, Any], *, as_json: bool) -> None:
    """The result, and what is left."""
    show(done, as_json=as_json)
    if not as_json:
        before = "" if done["removed"] else "It had been removed before. "
        out.print(
            f"{before}Fronts refuse claims for it and show nothing of it; workers have left it. What was recorded "
            "stays in PostgreSQL; `reservasi program import` starts it again."
        )
