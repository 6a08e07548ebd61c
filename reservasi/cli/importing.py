"""Carries out an import: makes the plan and, if requested, applies it to the records and the ledger."""

import asyncio
import datetime as dt
from collections.abc import Collection, Sequence
from typing import TypeVar

import msgspec

from reservasi import model
from reservasi.bootstrap.commands import Operations, open_program, open_remover
from reservasi.cli.booked import Booked, booked_in
from reservasi.cli.fences import require_snapshot
from reservasi.cli.opening_creation import create_announced
from reservasi.cli.progress import progress
from reservasi.errors import ConfigurationError
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.wire.messages import Snapshot
from reservasi.model import IMPORT_ACTOR, Answer, Outcome, Quota, SetQuota
from reservasi.programs import Program
from reservasi.programs.comparison import Changed, Outside, Plan, Why, changed_channels, compare, moved_by_zone
from reservasi.programs.expansion import EXPAND_DAYS_MAX, expand, expand_dates
from reservasi.sealing import program_tag

Item = TypeVar("Item")
AT_ONCE = 500  # quotas submitted together; the group commit splits them into batches
TRIES_MAX = 5  # attempts to lower a capacity while people claim
CHANGE_REASON = "as the program file says"
REASONS = {
    Why.OFFICE: "the program file has no office {office}",
    Why.NOT_OFFERED: "the program file offers no {service} through {channel} at {office}",
    Why.DATE: "the program file offers nothing at {office} on {date}",
    Why.WINDOW: "the program file has other windows at {office} on {date}",
}


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did, or would do."""

    program: str
    first: dt.date
    last: dt.date
    plan: Plan
    stopped: bool  # nothing was changed: it would do more than add, without --apply
    created: int = 0
    changed: int = 0
    closed: int = 0
    refused: tuple[str, ...] = ()  # quotas that the ledger did not change because somebody else did meanwhile
    openings: tuple[str, ...] = ()  # new openings with a waiting room
    # reservations in quotas outside the file, and in quotas whose window changes or moves
    booked: tuple[Booked, ...] = ()


def reason_of(outside: Outside) -> str:
    """Why the import closes a quota, for the journal and messages."""
    terms = outside.quota.terms
    return REASONS[outside.why].format(
        office=terms.office, service=terms.service, channel=terms.channel, date=terms.date
    )


async def import_program(
    operations: Operations,
    program: Program,
    first: dt.date,
    last: dt.date,
    *,
    open_now: bool,
    quiet: bool,
    apply: bool = False,
    later_dates: bool = False,
) -> Import:
    """Store the program and bring its quotas of these dates to the file's terms.

    Without `apply` it only adds: if it would change or close anything, it stops and returns the plan. `later_dates`:
    later dates that already have quotas are compared as well.

    Raises:
        ConfigurationError: another import of the program is running, the range is too long for one import, the program
            would have more quotas than allowed, or its reservation ids would have the tag of another program; nothing
            was changed.
        LedgerFenced: the program's ledger sells nothing now; no quota was changed, and no stored program.
    """
    async with operations.records.importing(program.id) as turn:
        if not await turn.take():  # two at once would create overlapping windows, each by a file of its own
            raise ConfigurationError(
                f"{program.id}: another import of it is running; run the command again when it has ended. Nothing was "
                "imported"
            )
        return await _import(
            operations, program, first, last, open_now=open_now, quiet=quiet, apply=apply, later_dates=later_dates
        )


async def _import(
    operations: Operations,
    program: Program,
    first: dt.date,
    last: dt.date,
    *,
    open_now: bool,
    quiet: bool,
    apply: bool,
    later_dates: bool,
) -> Import:
    commands = expand(program, first, last, open_now=open_now)
    stored = await operations.records.programs()
    _refuse_shared_tag(program, stored)
    former = next((other for other in stored if other.id == program.id), None)
    is_stored = former is not None
    if not is_stored:  # only the ledger of a stored program can be owned, and a new one is empty
        await operations.records.save_program(program)
    if await operations.records.begins_anew(program.id):
        async with open_remover(operations, program.id) as remover:
            await remover.begin_anew()
    async with open_program(operations, program.id) as group:
        snapshot = await require_snapshot(operations, program.id)
        dates = _later_dates(snapshot, first, last) if later_dates else []
        commands += expand_dates(program, dates, open_now=open_now)
        existing = [quota for quota in snapshot.quotas if _is_compared(quota, first, last, dates)]
        plan = compare(program, commands, existing, snapshot.openings, snapshot.now_ms)
        moved = moved_by_zone(former, program, snapshot.quotas, snapshot.now_ms)
        channels = changed_channels(former, program, snapshot.quotas, snapshot.now_ms)
        plan = msgspec.structs.replace(plan, moved=moved, channels=channels)
        _refuse_too_many(program, plan, snapshot)
        booked = await booked_in(operations, program.id, _affected(plan))
        planned = Import(program=program.id, first=first, last=last, plan=plan, stopped=True, booked=tuple(booked))
        if not (apply or plan.only_adds):
            return planned
        if is_stored:
            await operations.records.save_program(program)
        done = await _carry_out(group, planned, quiet=quiet)
        openings = await create_announced(
            operations,
            group,
            program,
            await require_snapshot(operations, program.id),
            commands,
        )
    return msgspec.structs.replace(done, openings=tuple(openings))


def _later_dates(snapshot: Snapshot, first: dt.date, last: dt.date) -> list[dt.date]:
    """Later dates that already have quotas, within the length of one import."""
    dates = {dt.date.fromisoformat(quota.terms.date) for quota in snapshot.quotas}
    return sorted(day for day in dates if day > last and (day - first).days < EXPAND_DAYS_MAX)


def _is_compared(quota: Quota, first: dt.date, last: dt.date, later: Collection[dt.date]) -> bool:
    day = dt.date.fromisoformat(quota.terms.date)
    return first <= day <= last or day in later


def _affected(plan: Plan) -> set[str]:
    """The quotas whose people should be informed about the import."""
    moved = {
        each.quota.id
        for each in plan.changed
        if (each.moves_window or each.shortens) and each.quota.counts.held + each.quota.counts.confirmed
    }
    return moved | {quota.id for quota in plan.moved} | {each.quota.id for each in plan.outside if each.people}


def _refuse_shared_tag(program: Program, stored: list[Program]) -> None:
    """Refuse a program whose reservation ids have the tag of another one: no front could serve it."""
    for other in stored:
        if other.id != program.id and program_tag(other.id) == program_tag(program.id):
            raise ConfigurationError(
                f"{program.id}: its reservation ids would start with {program_tag(program.id)!r}, as those of the "
                f"program {other.id} do; give it another id. Nothing was imported"
            )


def _refuse_too_many(program: Program, plan: Plan, snapshot: Snapshot) -> None:
    """A program's quotas must fit into one snapshot, including those of earlier imports."""
    existing = len(snapshot.quotas)
    total = existing + len(plan.new)
    if total > model.QUOTAS_MAX:
        raise ConfigurationError(
            f"{program.id}: it has {existing} quotas and would have {total}, but a program may have "
            f"{model.QUOTAS_MAX} at a time (a quota leaves `retire_quotas_after_h` after its window); import fewer "
            "days. Nothing was imported"
        )


async def _carry_out(group: GroupCommit, planned: Import, *, quiet: bool) -> Import:
    """Close first, then change, then create, so that two overlapping windows of one line are never open."""
    plan = planned.plan
    closing = [_close(each) for each in plan.closing]
    total = len(closing) + len(plan.changed) + len(plan.new)
    created = changed = closed = 0
    refused: list[str] = []
    with progress(f"quotas of {planned.program}", total, quiet=quiet) as advance:
        for close_part in _parts(closing):
            answers = await asyncio.gather(*map(group.submit, close_part))
            closed += sum(answer.outcome is Outcome.QUOTA_SET for answer in answers)
            advance(len(close_part))
        for change_part in _parts(plan.changed):
            answers = await asyncio.gather(*(_change(group, each) for each in change_part))
            for each, answer in zip(change_part, answers, strict=True):
                if answer.outcome in (Outcome.QUOTA_SET, Outcome.EXISTS):
                    changed += answer.outcome is Outcome.QUOTA_SET
                else:
                    refused.append(each.quota.id)
            advance(len(change_part))
        for new_part in _parts(plan.new):
            answers = await asyncio.gather(*map(group.submit, new_part))
            created += sum(answer.outcome is Outcome.QUOTA_SET for answer in answers)
            advance(len(new_part))
    return msgspec.structs.replace(
        planned, stopped=False, created=created, changed=changed, closed=closed, refused=tuple(refused)
    )


def _parts(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[at : at + AT_ONCE] for at in range(0, len(items), AT_ONCE)]


def _close(outside: Outside) -> SetQuota:
    return SetQuota(quota=outside.quota.id, closed=True, actor=IMPORT_ACTOR, reason=reason_of(outside))


async def _change(group: GroupCommit, changed: Changed) -> Answer:
    """Change a quota as planned; a capacity is not lowered below the places taken."""
    command = changed.command(IMPORT_ACTOR, CHANGE_REASON)
    answer = await group.submit(command)
    for _ in range(TRIES_MAX):
        if answer.outcome is not Outcome.BELOW_TAKEN:
            break
        terms = msgspec.structs.replace(changed.terms, capacity=answer.taken)
        command = msgspec.structs.replace(command, terms=terms)
        answer = await group.submit(command)
    return answer
