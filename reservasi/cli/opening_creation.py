"""Creates an opening: first the opening itself, then the quotas that open with it.

In this order, since only an opening takes quotas from another one. An interrupted command can be repeated.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from reservasi.bootstrap.commands import Operations, open_program
from reservasi.cli.fences import require_snapshot
from reservasi.cli.output import moment
from reservasi.errors import ConfigurationError, ReservasiError
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.wire.messages import Snapshot
from reservasi.model import IMPORT_ACTOR, Opening, OpeningTerms, Outcome, Quota, SetOpening, SetQuota
from reservasi.programs import AnnouncedRule, Program, WaitingRoom
from reservasi.waiting_room.creation import free_id, namesakes, new_terms, places_left, until_last_closing

AT_ONCE = 500  # quotas submitted together; the group commit splits them into batches


class OpeningRefused(ReservasiError):
    """An opening cannot be created as requested; nothing was changed."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """A selection of a program's quotas; None: any."""

    first: str | None = None  # ISO dates, both included
    last: str | None = None
    offices: tuple[str, ...] = ()  # empty: any
    service: str | None = None
    channel: str | None = None

    def fits(self, quota: Quota) -> bool:
        """Whether the quota is selected."""
        terms = quota.terms
        return (
            (self.first is None or terms.date >= self.first)
            and (self.last is None or terms.date <= self.last)
            and (not self.offices or terms.office in self.offices)
            and self.service in (None, terms.service)
            and self.channel in (None, terms.channel)
        )


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """The result."""

    opening: str
    moved: int  # quotas that opened at another moment before
    left_out: int  # selected quotas that close before the opening
    taken_from: list[str]  # openings to which some of the quotas belonged


def room_of(program: Program, given: dict[str, Any]) -> WaitingRoom:
    """The waiting room of the program file, with the values of the command line.

    Raises:
        ConfigurationError: the first rate is above the largest rate.
    """
    room = program.opening.waiting_room if isinstance(program.opening, AnnouncedRule) else None
    values = {name: getattr(room or WaitingRoom(), name) for name in WaitingRoom.__struct_fields__}
    values |= {name: value for name, value in given.items() if value is not None}
    if given["rate_max_per_min"] is not None and values["rate_per_min"] > values["rate_max_per_min"]:
        raise ConfigurationError(f"--rate-max-per-min must not be below the rate ({values['rate_per_min']})")
    return WaitingRoom(**values)


async def create_opening(
    operations: Operations,
    program: str,
    opening: str,
    terms: OpeningTerms,
    selection: Selection,
    actor: str = "",
    reason: str = "",
) -> Created:
    """Create an opening and let the selected quotas open with it.

    Raises:
        OpeningRefused: it lies in the past, its window or moment is not possible, or no quota that can be claimed is
            selected.
        LedgerFenced: the program's ledger sells nothing now.
    """
    async with open_program(operations, program) as group:
        snapshot = await require_snapshot(operations, program)
        _refuse_window(terms, snapshot.now_ms)
        _refuse_taken(opening, terms, snapshot.openings)
        meant = [quota for quota in snapshot.quotas if selection.fits(quota)]
        if not meant:
            raise OpeningRefused(f"no quota of {program} is selected: see quota show {program}")
        covered = [quota for quota in meant if not 0 < quota.terms.closes_at_ms <= terms.opens_at_ms]
        if not covered:
            raise OpeningRefused(f"all {len(meant)} selected quotas close before it opens: choose later dates")
        if all(quota.terms.closed for quota in covered):
            raise OpeningRefused(
                f"all {len(covered)} selected quotas are closed: first reopen them with the same moment "
                f"(quota set QUOTA --reopen --opens-at {moment(terms.opens_at_ms)})"
            )
        elsewhere = [quota for quota in covered if quota.terms.opens_at_ms != terms.opens_at_ms]
        taken_from = _taken_from(elsewhere, snapshot)
        whole, takes = until_last_closing(terms, covered), places_left(elsewhere, terms.opens_at_ms)
        command = SetOpening(opening=opening, terms=whole, takes=takes, actor=actor, reason=reason)
        await _set(group, command)
        await _move(group, elsewhere, command, terms.opens_at_ms)
    return Created(opening=opening, moved=len(elsewhere), left_out=len(meant) - len(covered), taken_from=taken_from)


async def ids_elsewhere(operations: Operations, program: str) -> set[str]:
    """The ids of other programs' openings that one of this program could also have.

    Raises:
        LedgerFenced: the ledger of such a program sells nothing now, so that its ids are unknown.
    """
    ids: set[str] = set()
    for other in namesakes(program, [each.id for each in await operations.records.programs()]):
        ids |= {opening.id for opening in (await require_snapshot(operations, other)).openings}
    return ids


async def create_announced(
    operations: Operations, group: GroupCommit, program: Program, snapshot: Snapshot, wanted: Iterable[SetQuota]
) -> list[str]:
    """Create an opening with the file's waiting room for each future moment at which some of its quotas open.

    A quota that staff moved by hand gets none: they did not ask for a waiting room. Nor do quotas that were closed with
    a cancelled opening; other quotas of its moment get a new one. Closed quotas get one too, since they may be
    reopened.

    It is for all offices; if some have an opening at the moment already, for the others. Returns the new ids.
    """
    room = program.opening.waiting_room if isinstance(program.opening, AnnouncedRule) else None
    if room is None:
        return []
    moments = {command.quota: command.terms.opens_at_ms for command in wanted if command.terms is not None}
    announced = [quota for quota in snapshot.quotas if moments.get(quota.id) == quota.terms.opens_at_ms]
    created = []
    elsewhere = await ids_elsewhere(operations, program.id)
    for opens_at_ms, offices in sorted(_uncovered(snapshot, announced).items()):
        opening = free_id(program.id, opens_at_ms, program.zone, offices, snapshot.openings, elsewhere=elsewhere)
        terms = new_terms(operations.sealing, opening, opens_at_ms, room, offices=offices)
        covered = [quota for quota in announced if terms.covers(quota.terms)]
        whole = until_last_closing(terms, covered)
        await _set(group, SetOpening(opening=opening, terms=whole, actor=IMPORT_ACTOR))
        created.append(opening)
    return created


def _uncovered(snapshot: Snapshot, quotas: Iterable[Quota]) -> dict[int, tuple[str, ...]]:
    """The future moments at which some of these quotas open without an opening, with their offices; empty: all."""
    at_moment: defaultdict[int, list[Opening]] = defaultdict(list)
    for opening in snapshot.openings:
        at_moment[opening.terms.opens_at_ms].append(opening)
    taken = {at_ms for at_ms, openings in at_moment.items() if not all(each.cancelled for each in openings)}
    moments: dict[int, set[str]] = {}
    for quota in quotas:
        terms = quota.terms
        if terms.opens_at_ms > snapshot.now_ms and not any(
            each.covers(terms) for each in at_moment.get(terms.opens_at_ms, ())
        ):
            moments.setdefault(terms.opens_at_ms, set()).add(terms.office)
    return {at_ms: tuple(sorted(offices)) if at_ms in taken else () for at_ms, offices in moments.items()}


def _refuse_window(terms: OpeningTerms, now_ms: int) -> None:
    opens_at = moment(terms.opens_at_ms)
    if terms.opens_at_ms <= now_ms:
        raise OpeningRefused(f"{opens_at} lies in the past: it is {moment(now_ms)} by the ledger's clock")
    if terms.joins_from_ms > terms.opens_at_ms:
        raise OpeningRefused(f"people would join from {moment(terms.joins_from_ms)}, after it opens at {opens_at}")
    if terms.ends_at_ms <= terms.opens_at_ms:
        raise OpeningRefused(f"it would end at {moment(terms.ends_at_ms)}, before it opens at {opens_at}")


def _refuse_taken(opening: str, terms: OpeningTerms, existing: Sequence[Opening]) -> None:
    for other in existing:
        if other.id == opening and (other.terms.opens_at_ms, other.terms.offices) == (terms.opens_at_ms, terms.offices):
            return  # interrupted: the ledger reports whether it is the same opening
        if other.id == opening:
            raise OpeningRefused(f"an opening {opening} exists: give this one another --id")
        if other.terms.overlaps(terms) and not other.cancelled:
            opens_at = moment(terms.opens_at_ms)
            raise OpeningRefused(f"{other.id} opens at {opens_at} in the same offices: choose other --office")


def _taken_from(quotas: Sequence[Quota], snapshot: Snapshot) -> list[str]:
    """The openings that lose some of these quotas; the ledger refuses to take any from one that people can join."""
    going_on = [opening for opening in snapshot.openings if not opening.cancelled]
    return sorted(opening.id for opening in going_on if any(opening.terms.covers(quota.terms) for quota in quotas))


async def _move(group: GroupCommit, quotas: Sequence[Quota], by: SetOpening, opens_at_ms: int) -> None:
    common: dict[str, Any] = {"taker": by.opening, "actor": by.actor, "reason": by.reason}
    for at in range(0, len(quotas), AT_ONCE):
        part = [SetQuota(quota=quota.id, opens_at_ms=opens_at_ms, **common) for quota in quotas[at : at + AT_ONCE]]
        for command, answer in zip(part, await asyncio.gather(*map(group.submit, part)), strict=True):
            if answer.outcome not in (Outcome.QUOTA_SET, Outcome.EXISTS):
                raise OpeningRefused(f"{command.quota} could not be moved ({answer.outcome}): run the command again")


async def _set(group: GroupCommit, command: SetOpening) -> None:
    answer = await group.submit(command)
    if answer.outcome is Outcome.OF_OPENING:
        raise OpeningRefused(f"some of these quotas belong to {answer.opening}, which people can join: choose others")
    if answer.outcome not in (Outcome.OPENING_SET, Outcome.EXISTS):
        raise OpeningRefused(
            f"{command.opening} was not created: an opening with its id or its moment exists, with other terms or "
            "other quotas; see opening show, or choose another --opens-at or --id"
        )
