"""The tables of a run: what each case costs, and what follows for one ledger."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtest.scale_out.cases import ALONE, BASE, CASES, CONFIRMED_ALONE, IDLE_FRONTS, REST, WANTED, Case
from loadtest.scale_out.measuring import Idle, Work
from loadtest.stage.tables import Table

TITLE = "Work of a claim, by programs, primaries, batches, replicas and fronts"
COLUMNS: Sequence[tuple[str, str, str]] = (
    ("claims a call", "per_call", ".0f"),
    ("Valkey us", "valkey_us", ".1f"),
    ("busiest primary us", "busiest_us", ".1f"),
    ("front us", "front_us", ".1f"),
    ("replica us", "replica_us", ".1f"),
    ("follower us", "follower_us", ".1f"),
    ("file bytes", "file_bytes", ".0f"),
    ("link bytes", "link_bytes", ".0f"),
    ("journal bytes", "journal_bytes", ".0f"),
)
NOTES = (
    "Medians of the rounds, for one claim or confirmation; us are microseconds of processor time.",
    "Of the base: Valkey's time against the first line in the same round, with the least and the greatest ratio.",
    "Front: group commit and connections, without HTTP. Replica, follower: one of them. File: append-only file.",
    "Link: sent to each replica. Journal: in memory until it is recorded and trimmed.",
)


@dataclass
class Found:
    """What a run found out, round by round."""

    works: list[dict[str, Work]] = field(default_factory=list)  # by case
    idle: list[dict[str, Idle]] = field(default_factory=list)  # by how wanted the places are

    def work(self, case: Case, figure: str) -> float:
        return float(statistics.median(getattr(works[case.name], figure) for works in self.works))

    def idle_us(self, way: str, figure: str) -> float:
        return float(statistics.median(getattr(idle[way], figure) for idle in self.idle))


def tables(found: Found) -> list[Table]:
    named = [case for case in CASES if found.works and case.name in found.works[0]]
    made = [_work(found, named)] if named else []
    if found.idle:
        made.append(_idle(found))
    if found.idle and ALONE in named:
        made.append(_carried(found))
    return made


def _work(found: Found, cases: Sequence[Case]) -> Table:
    def cell(case: Case, figure: str, form: str) -> str:
        return format(value, form) if (value := found.work(case, figure)) else "-"

    rows = [
        (case.name, *(cell(case, figure, form) for _, figure, form in COLUMNS), _of_base(found, case)) for case in cases
    ]
    return Table(
        title=TITLE, columns=("", *(name for name, _, _ in COLUMNS), "of the base"), rows=tuple(rows), notes=NOTES
    )


def _of_base(found: Found, case: Case) -> str:
    ratios = [works[case.name].valkey_us / works[BASE.name].valkey_us for works in found.works]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _idle(found: Found) -> Table:
    return Table(
        title="Nobody claims: work a second for each program that a front follows",
        columns=("", "Valkey us", "front us"),
        rows=tuple(
            (way, f"{found.idle_us(way, 'valkey_us'):.1f}", f"{found.idle_us(way, 'front_us'):.1f}")
            for way in found.idle[0]
        ),
        notes=(f"{len(BASE.shares)} programs on one primary, followed by {IDLE_FRONTS} fronts.",),
    )


def _carried(found: Found) -> Table:
    """How many of each would fill one core, reckoned from the medians."""
    lines: Sequence[tuple[str, Callable[[], float]]] = (
        (f"a primary: claims a second, {BASE.batch} a call", lambda: found.work(BASE, "valkey_us")),
        ("a primary: claims a second, each alone in its call", lambda: found.work(ALONE, "valkey_us")),
        ("a primary: confirmations a second, each alone", lambda: found.work(CONFIRMED_ALONE, "valkey_us")),
        ("a primary: programs times fronts, at rest", lambda: found.idle_us(REST, "valkey_us")),
        ("a primary: programs times fronts, sold out and asked for", lambda: found.idle_us(WANTED, "valkey_us")),
        ("a front: programs that it follows, at rest", lambda: found.idle_us(REST, "front_us")),
        ("a front: programs that it follows, sold out and asked for", lambda: found.idle_us(WANTED, "front_us")),
    )
    return Table(
        title="What fills one core",
        columns=("", "as many as"),
        rows=tuple((name, f"{1e6 / used_us():,.0f}" if used_us() > 0 else "-") for name, used_us in lines),
        notes=("Reckoned from the tables above, not measured; half of a core is what may be planned for.",),
    )
