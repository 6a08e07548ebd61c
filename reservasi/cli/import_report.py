"""Reports what an import did or would do, as text and JSON."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from reservasi.cli.importing import Import, reason_of
from reservasi.cli.moments import for_people, local_moment
from reservasi.cli.output import counted, moment, out, print_json, show, show_rows
from reservasi.programs.comparison import AffectedOpening, Changed, ChangedChannel, Kept, Outside, TermChange, Why

ROWS_SHOWN = 20  # of a list on a terminal; JSON has all
WHY = {
    Why.OFFICE: "the file has no such office",
    Why.NOT_OFFERED: "the office does not offer this in the file",
    Why.DATE: "the file has no windows on these dates",
    Why.WINDOW: "the file has other hours on these dates",
}


def report(done: Import, zone: str, *, as_json: bool) -> None:
    """Print the report."""
    summary = summarised(done)
    if as_json:
        print_json({**summary, **detailed(done)} if done.plan.says_more else summary)
        return
    show(summary, as_json=False)
    if done.plan.past:
        out.print(f"{done.plan.past} windows of the file have already ended: no quotas are created for them")
    if done.plan.says_more:
        _print_plan(done, zone)


def summarised(done: Import) -> dict[str, Any]:
    """The part of every report."""
    plan = done.plan
    return {
        "program": done.program,
        "first": done.first,
        "last": done.last,
        "created": done.created,
        "unchanged": plan.unchanged,
        "kept": len(plan.kept),
        "past": plan.past,
        "openings": list(done.openings),
        "total": plan.total,
    }


def detailed(done: Import) -> dict[str, Any]:
    """The additional part of an import that does more than add."""
    plan = done.plan
    report: dict[str, Any] = {
        "applied": not done.stopped,
        "changed": done.changed,
        "closed": done.closed,
        "plan": {
            "new": len(plan.new),
            "new_closed": [each.quota for each in plan.new_closed],
            "changed": [_changed_row(each) for each in plan.changed],
            "kept": [_kept_row(each) for each in plan.kept],
            "outside": [_outside_row(each) for each in plan.outside],
            "openings": [_opening_row(each) for each in plan.openings],
            "moved_by_time_zone": [quota.id for quota in plan.moved],
            "channels": [msgspec.structs.asdict(each) for each in plan.channels],
        },
        "booked": [msgspec.structs.asdict(each) for each in done.booked],
        "refused": list(done.refused),
    }
    if done.stopped:
        report["error"] = why_stopped(done)
    elif done.refused:
        report["error"] = why_refused(done)
    return report


def why_stopped(done: Import) -> str:
    """What an import that did nothing would have done."""
    plan = done.plan
    closing = plan.closing
    people = sum(each.people for each in plan.outside)
    moved = sum(quota.counts.held + quota.counts.confirmed for quota in plan.moved)
    elsewhen = f" The file's time zone gives {moved} held or booked places to another moment." if moved else ""
    to_public = "".join(f" {_channel_words(each)}." for each in plan.channels)
    return (
        f"{done.program}: nothing was changed. {len(plan.changed)} quotas would change, and {len(closing)} that the "
        f"file does not have would be closed; {people} places are held or booked in quotas that are not in the file."
        f"{elsewhen}{to_public} Read the plan, then run the command again with --apply; it cancels no reservation"
    )


def _channel_words(changed: ChangedChannel) -> str:
    who = "be open to the public" if changed.public else "only be for staff"
    return (
        f"{counted(changed.quotas, 'quota')} of the channel {changed.channel} would {who} "
        f"({changed.held + changed.booked} places are held or booked)"
    )


def left_as_it_is(done: Import, file: Path, *, open_now: bool) -> str:
    """Why `up --demo` did not import a program."""
    plan = done.plan
    flags = " --open-now --apply" if open_now else " --apply"
    return (
        f"the program {done.program} is left unchanged: by its file {len(plan.changed)} of its quotas would change and "
        f"{len(plan.closing)} be closed. To see them: reservasi program import {file}; to do it, with{flags}"
    )


def why_refused(done: Import) -> str:
    """What an import could not change."""
    return (
        f"{done.program}: {len(done.refused)} quotas were not changed: somebody changed them meanwhile, or the file "
        "contradicts terms that staff set. See quota show, then run the command again"
    )


def _changed_row(changed: Changed) -> dict[str, Any]:
    counts = changed.quota.counts
    row = {"quota": changed.quota.id, "held": counts.held, "booked": counts.confirmed}
    row["changes"] = [_term_row(each, to=getattr(changed.terms, each.term)) for each in changed.changes]
    if changed.terms.capacity > changed.capacity_wanted:
        row["capacity_in_file"] = changed.capacity_wanted  # more places are taken; the capacity decreases with them
    return row


def _term_row(change: TermChange, to: int | bool | str) -> dict[str, Any]:
    return {"term": _name(change.term), "from": _value(change.term, change.ledger), "to": _value(change.term, to)}


def _kept_row(kept: Kept) -> dict[str, Any]:
    terms = [
        {"term": _name(each.term), "is": _value(each.term, each.ledger), "file": _value(each.term, each.file)}
        for each in kept.terms
    ]
    return {"quota": kept.quota.id, "terms": terms}


def _outside_row(outside: Outside) -> dict[str, Any]:
    counts = outside.quota.counts
    return {
        "quota": outside.quota.id,
        "why": outside.why.value,
        "reason": reason_of(outside),
        "held": counts.held,
        "booked": counts.confirmed,
        "state": "open" if outside.closes else "reopened-by-hand" if outside.by_hand else "closed",
    }


def _opening_row(affected: AffectedOpening) -> dict[str, Any]:
    opening = affected.opening
    return {
        "opening": opening.id,
        "opens_at": moment(opening.terms.opens_at_ms),
        "joined": opening.arrived,
        "quotas": affected.quotas,
        "elsewhere_in_file": affected.elsewhere,
        "file_opens_at": [moment(at_ms) or "at once" for at_ms in affected.moments_ms],
        "outside": affected.outside,
        "split_off": affected.split_off,
        "waiting_room": [{"term": each.term, "is": each.ledger, "file": each.file} for each in affected.room],
    }


def _name(term: str) -> str:
    return term.removesuffix("_ms") if term.endswith(("_at_ms", "_until_ms")) else term


def _value(term: str, value: int | bool | str) -> int | bool | str | None:
    return moment(int(value)) if term.endswith(("_at_ms", "_until_ms")) else value


def _print_plan(done: Import, zone: str) -> None:
    plan, would = done.plan, " (planned)" if done.stopped else ""
    _print_list(f"new{would}: {counted(len(plan.new), 'quota')}", [])
    if plan.new_closed:
        out.print(f"of these created closed{would}, since staff closed their time: {len(plan.new_closed)}")
    _print_list(f"changed{would}: {counted(len(plan.changed), 'quota')}", _changed_groups(plan.changed))
    _print_list(
        f"changed by staff, kept as staff set them: {counted(len(plan.kept), 'quota')}",
        [_flat(each, zone) for each in plan.kept],
    )
    _print_list(f"not in the file, closed{would}: {counted(len(plan.closing), 'quota')}", _outside_groups(plan.closing))
    reopened = [each for each in plan.outside if each.by_hand]
    _print_list(
        f"not in the file, reopened by staff, stay open: {counted(len(reopened), 'quota')}", _outside_groups(reopened)
    )
    closed = [each for each in plan.outside if not each.is_open]
    _print_list(f"not in the file, already closed: {counted(len(closed), 'quota')}", _outside_groups(closed))
    openings = [for_people(_opening_words(each, zone), zone) for each in plan.openings]
    _print_list(f"openings that differ from the file, not changed by an import: {len(openings)}", openings)
    for each in plan.openings:
        if each.split_off:
            out.print(_split_words(each, zone))
    _print_list(
        f"channels that are opened to the public, or closed to it{would}: {len(plan.channels)}",
        [{**msgspec.structs.asdict(each), "public": _words(each.public)} for each in plan.channels],
    )
    booked = [msgspec.structs.asdict(each) for each in done.booked]
    places = sum(each.places for each in done.booked)
    if plan.moved:
        out.print(
            f"\nat another moment, by the file's time zone{would}: {counted(len(plan.moved), 'quota')} with people",
            style="bold",
        )
    _print_list(f"places in quotas that are closed or get other hours or deadlines, none cancelled: {places}", booked)


def _print_list(heading: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows and not heading.startswith("new"):
        return
    out.print(f"\n{heading}", style="bold")
    if rows:
        show_rows(rows[:ROWS_SHOWN], as_json=False)
    if len(rows) > ROWS_SHOWN:
        out.print(f"... and {len(rows) - ROWS_SHOWN} more lines; --json has all")


def _changed_groups(changed: Iterable[Changed]) -> list[dict[str, Any]]:
    """One row for all quotas of a line with the same changes."""
    groups: defaultdict[tuple[str, ...], list[Changed]] = defaultdict(list)
    for each in changed:
        words = ", ".join(_change_words(change, each) for change in each.changes)
        groups[(*_line(each), words)].append(each)
    return [
        {**_where(line), **_dates(each.quota.terms.date for each in group), **_counts(group), "change": words}
        for (*line, words), group in groups.items()
    ]


def _change_words(change: TermChange, changed: Changed) -> str:
    """A change as text; moments differ for each date, so that only the change is mentioned."""
    name = _name(change.term)
    if change.term.endswith("_ms") and name != change.term:
        return name
    to = getattr(changed.terms, change.term)
    taken = f" (the file says {changed.capacity_wanted}; more are taken)"
    over = taken if change.term == "capacity" and to > changed.capacity_wanted else ""
    return f"{name} {_words(change.ledger)} -> {_words(to)}{over}"


def _words(value: int | bool | str) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _flat(kept: Kept, zone: str) -> dict[str, Any]:
    terms = (
        f"{_name(each.term)} {_term_words(each.term, each.ledger, zone)} (file: "
        f"{_term_words(each.term, each.file, zone)})"
        for each in kept.terms
    )
    return {"quota": kept.quota.id, "terms": ", ".join(terms)}


def _term_words(term: str, value: int | bool | str, zone: str) -> str:
    """A term as text: yes or no, and times in the program's zone."""
    if not term.endswith(("_at_ms", "_until_ms")):
        return _words(value)
    return local_moment(moment(int(value)), ZoneInfo(zone)) or "-"


def _outside_groups(outside: Iterable[Outside]) -> list[dict[str, Any]]:
    groups: defaultdict[tuple[str, ...], list[Outside]] = defaultdict(list)
    for each in outside:
        groups[(*_line(each), WHY[each.why])].append(each)
    return [
        {**_where(line), **_dates(each.quota.terms.date for each in group), **_counts(group), "why": words}
        for (*line, words), group in groups.items()
    ]


def _line(each: Changed | Outside) -> tuple[str, str, str]:
    terms = each.quota.terms
    return terms.office, terms.service, terms.channel


def _where(line: Sequence[str]) -> dict[str, str]:
    return dict(zip(("office", "service", "channel"), line, strict=True))


def _dates(dates: Iterable[str]) -> dict[str, str]:
    ordered = sorted(dates)
    return {"from": ordered[0], "to": ordered[-1]}


def _counts(group: Sequence[Changed | Outside]) -> dict[str, int]:
    return {
        "quotas": len(group),
        "held": sum(each.quota.counts.held for each in group),
        "booked": sum(each.quota.counts.confirmed for each in group),
    }


def _opening_words(affected: AffectedOpening, zone: str) -> dict[str, Any]:
    row = {name: value for name, value in _opening_row(affected).items() if name != "split_off"}  # a sentence follows
    room = ", ".join(f"{each.term} {_words(each.ledger)} (file: {_words(each.file)})" for each in affected.room)
    return {**row, "file_opens_at": _moments(affected.moments_ms, zone) or None, "waiting_room": room or None}


def _split_words(affected: AffectedOpening, zone: str) -> str:
    opening = affected.opening
    return (
        f"{counted(affected.split_off, 'new quota')} will open as the file says "
        f"({_moments(affected.split_off_ms, zone)}), not with {opening.id} "
        f"({_moments([opening.terms.opens_at_ms], zone)}): dates of one opening are now split between two"
    )


def _moments(moments_ms: Iterable[int], zone: str) -> str:
    return ", ".join(local_moment(moment(at_ms), ZoneInfo(zone)) or "at once" for at_ms in moments_ms)
