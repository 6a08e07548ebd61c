"""`reservasi quota close --date`: closes all quotas of a day, and lists their reservations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from reservasi.cli.booked import Booked, booked_in
from reservasi.cli.fences import require_snapshot
from reservasi.cli.invocation import run_with_stores
from reservasi.cli.known_names import LISTED_MAX, refuse_unknown
from reservasi.cli.output import EXIT_FAILED, counted, fail, out, print_json, show, show_rows
from reservasi.cli.quota_listing import Wanted
from reservasi.errors import ConfigurationError
from reservasi.model import Outcome, Quota, SetQuota

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.settings import Settings

AT_ONCE = 500  # quotas submitted together; the group commit splits them into batches


class ClosedQuota(msgspec.Struct, frozen=True, kw_only=True):
    """A quota of the day."""

    quota: str
    office: str
    service: str
    channel: str
    start: str
    end: str
    held: int  # places
    booked: int
    changed: bool  # False: it was already closed


class ClosedDay(msgspec.Struct, frozen=True, kw_only=True):
    """The result; repeating the command changes only `closed`."""

    program: str
    date: str
    closed: int
    quotas: list[ClosedQuota]
    booked: list[Booked]  # none is cancelled


def close_day(
    settings: Settings, program: str | None, wanted: Wanted, *, actor: str, reason: str, as_json: bool
) -> None:
    """Close the quotas, and print them and their reservations."""

    async def work(operations: Operations) -> ClosedDay:
        stored = await operations.program(program or await _only_program(operations))
        quotas = (await require_snapshot(operations, stored.id)).quotas
        refuse_unknown(stored, quotas, wanted, as_json=as_json)
        return await _close(operations, stored.id, wanted, actor, reason)

    done = run_with_stores(settings, work)
    if not done.quotas:
        where = "".join(
            f" --{kind} {name}" for kind in ("office", "service", "channel") if (name := getattr(wanted, kind))
        )
        fail(
            f"nothing was closed: {done.program} has no such quotas on {done.date}. List its quotas: reservasi quota "
            f"show {done.program}{where}",
            as_json=as_json,
        )
        raise typer.Exit(EXIT_FAILED)
    if as_json:
        print_json(done)
        return
    _print(done)


async def _only_program(operations: Operations) -> str:
    programs = await operations.records.programs()
    if not programs:
        raise ConfigurationError("there is no program: import one first (reservasi program import FILE)")
    if len(programs) > 1:
        names = ", ".join(each.id for each in programs[:LISTED_MAX]) + (", ..." if len(programs) > LISTED_MAX else "")
        raise ConfigurationError(f"give the program with --program: {names}")
    return programs[0].id


async def _close(operations: Operations, program: str, wanted: Wanted, actor: str, reason: str) -> ClosedDay:
    from reservasi.bootstrap.commands import open_program

    async with open_program(operations, program) as group:
        snapshot = await require_snapshot(operations, program)
        meant = sorted((each for each in snapshot.quotas if wanted.fits(each, snapshot.now_ms)), key=_id)
        changed: set[str] = set()
        for at in range(0, len(meant), AT_ONCE):
            part = [
                SetQuota(quota=each.id, closed=True, actor=actor, reason=reason) for each in meant[at : at + AT_ONCE]
            ]
            answers = await asyncio.gather(*map(group.submit, part))
            changed |= {
                each.quota for each, answer in zip(part, answers, strict=True) if answer.outcome is Outcome.QUOTA_SET
            }
        changed -= {each.id for each in meant if each.terms.closed}  # by an import; staff have closed them now
        ids = {each.id for each in meant}
        after = {each.id: each for each in (await require_snapshot(operations, program)).quotas if each.id in ids}
        booked = await booked_in(operations, program, {each.id for each in after.values() if each.counts.taken})
    return ClosedDay(
        program=program,
        date=wanted.first or "",
        closed=len(changed),
        quotas=[_row(after.get(each.id, each), changed=each.id in changed) for each in meant],
        booked=booked,
    )


def _said(done: ClosedDay) -> str:
    """The result as a message, with what to do next."""
    before = len(done.quotas) - done.closed
    verb = "is" if done.closed == 1 else "are"
    closed = f"{counted(done.closed, 'quota')} of {done.date} {verb} now closed"
    if before:
        closed += f", {before} {'was' if before == 1 else 'were'} before"
    return f"{closed}; {who_is_there(done.booked)}"


def who_is_there(booked: Sequence[Booked]) -> str:
    """How many people are affected by a closing, and what to do next."""
    if not booked:
        return "there are no reservations"
    places, people = sum(each.places for each in booked), len(booked)
    verb = "is" if places == 1 else "are"
    affected = f"{counted(places, 'place')} {verb} held or confirmed in {counted(people, 'reservation')}"
    return (
        f"{affected}; none is cancelled. Inform these people. To end a reservation: reservasi reservation cancel ID "
        "--reason WHY"
    )


def print_booked(booked: Sequence[Booked]) -> None:
    """Print the reservations, if there are any."""
    if booked:
        out.print("\nheld or confirmed, not cancelled", style="bold")
        show_rows([msgspec.structs.asdict(each) for each in booked], as_json=False)


def _id(quota: Quota) -> str:
    return quota.id


def _row(quota: Quota, *, changed: bool) -> ClosedQuota:
    terms, counts = quota.terms, quota.counts
    return ClosedQuota(
        quota=quota.id,
        office=terms.office,
        service=terms.service,
        channel=terms.channel,
        start=terms.start,
        end=terms.end,
        held=counts.held,
        booked=counts.confirmed,
        changed=changed,
    )


def _print(done: ClosedDay) -> None:
    summary: dict[str, Any] = {
        "program": done.program,
        "date": done.date,
        "closed": done.closed,
        "closed before": len(done.quotas) - done.closed,
        "held": sum(each.held for each in done.quotas),
        "booked": sum(each.booked for each in done.quotas),
    }
    show(summary, as_json=False)
    out.print("\nquotas", style="bold")
    show_rows([msgspec.structs.asdict(each) for each in done.quotas], as_json=False)
    print_booked(done.booked)
    out.print(f"\n{_said(done)}")
