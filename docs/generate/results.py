"""docs/benchmarks.md, docs/faults.md and a table of README.md, from the JSON that runs wrote into docs/results/."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.generate.markdown import document, table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results"
COPIED_ROWS_MAX = 8
COPIED_COLUMNS = ("per second", "of bare", "p50 ms", "p99 ms")
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
COPIED = re.compile(rf"(?<={BEGIN}\n).*?(?={END})", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What one file of docs/results/ holds."""

    name: str  # of the file, without its ending
    title: str
    about: str
    command: str  # that writes it anew

    @property
    def path(self) -> Path:
        return RESULTS / f"{self.name}.json"


BENCHMARKS = (
    Kind(
        name="benchmarks",
        title="Beside simpler designs",
        about="Claims, refusals and reads of one front, measured by turns with simpler designs on the same machine.",
        command='make bench ARGS="--json docs/results/benchmarks.json"',
    ),
    Kind(
        name="against",
        title="Beside an earlier revision",
        about="The processor time of each operation, measured by turns with an earlier revision of this service. "
        "Revision b7cf8b4 is release 0.1.0.",
        command='make bench ARGS="--against REVISION --json docs/results/against.json"',
    ),
    Kind(
        name="scale-out",
        title="With more primaries, replicas and fronts",
        about="The work of a claim while an installation grows.",
        command='make scale-out ARGS="--json docs/results/scale-out.json"',
    ),
    Kind(
        name="latency",
        title="Latency against offered load",
        about="Load that is offered by a timetable. A latency counts from the moment at which a request was due.",
        command='make latency ARGS="--json docs/results/latency.json"',
    ),
    Kind(
        name="overload",
        title="Three times too much load",
        about="Claims are offered at three times the rate that the ledger takes, which is slowed on purpose.",
        command='make overload ARGS="--json docs/results/overload.json"',
    ),
    Kind(
        name="waiting",
        title="A waiting room",
        about="People join before an opening, wait for the draw, and claim when their number is admitted.",
        command='make waiting ARGS="--json docs/results/waiting.json"',
    ),
)
FAULTS = (
    Kind(
        name="faults",
        title="Faults of one installation",
        about="Each fault strikes while a crowd claims, confirms, cancels and repeats. Then the service has to recover "
        "by itself, and a checker compares every answer with the ledger and the database.",
        command='make faults ARGS="--json docs/results/faults.json"',
    ),
    Kind(
        name="failover",
        title="Failover to a replica",
        about="A primary with two replicas dies or is cut off while people claim, confirm and cancel. Places are lost "
        "where an answer waits for too few replicas.",
        command=".venv/bin/python -m loadtest.ha --json docs/results/failover.json",
    ),
)
ABOUT_BENCHMARKS = """\
Figures differ between machines, and between hours on one machine. Ratios of what was measured by turns differ less. The
other documents have no figures but those of settings and limits; README.md copies one table of this page."""
ABOUT_FAULTS = """\
*Lost* counts what was promised and is missing afterwards: a hold while its ledger lives, and a confirmation or
cancellation that was answered 200, whatever was destroyed. *Oversold* counts places that were given twice. A control
runs with a setting that may lose promises, and must lose some: it shows that the checker notices losses."""


def benchmarks() -> str:
    return document("Benchmarks", "docs/results/", ABOUT_BENCHMARKS, *_sections(BENCHMARKS))


def faults() -> str:
    return document("Faults", "docs/results/", ABOUT_FAULTS, *_sections(FAULTS))


def readme() -> str:
    """README.md with the first table of the benchmarks between its marks."""
    copied, count = COPIED.subn(lambda _: _for_readme(), (ROOT / "README.md").read_text())
    if count != 1:
        raise ValueError(f"README.md needs {BEGIN} and {END} once")
    return copied


def _for_readme() -> str:
    if not BENCHMARKS[0].path.exists():
        return ""
    run = _read(BENCHMARKS[0])
    first, where = run["tables"][0], run["environment"]
    if len(first["rows"]) > COPIED_ROWS_MAX:
        raise ValueError(f"the first table of {BENCHMARKS[0].path} has more than {COPIED_ROWS_MAX} rows")
    kept = [at for at, column in enumerate(first["columns"]) if not at or column in COPIED_COLUMNS]
    columns = ["design", *(first["columns"][at] for at in kept[1:])]
    titles = dict(note.removesuffix(".").split(": ", 1) for note in first["notes"] if ": " in note)
    rows = [[titles.get(row[0], row[0]), *(row[at] for at in kept[1:])] for row in first["rows"]]
    return f"{first['title']} ({where['date']}, {where['machine']}):\n\n{_table(columns, rows)}\n"


def _sections(kinds: Sequence[Kind]) -> list[str]:
    return [part for kind in kinds if kind.path.exists() for part in _section(kind, _read(kind))]


def _read(kind: Kind) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(kind.path.read_text())
    return run


def _section(kind: Kind, run: dict[str, Any]) -> list[str]:
    return [
        f"## {kind.title}",
        kind.about,
        _provenance(run),
        f"To replace these results: `{kind.command}`, then `make docs`.",
        *(part for each in run["tables"] for part in _part(each)),
    ]


def _part(each: dict[str, Any]) -> list[str]:
    notes = "\n".join(f"- {note}" for note in each["notes"])
    return [f"### {each['title']}", _table(each["columns"], each["rows"]), *([notes] if notes else [])]


def _provenance(run: dict[str, Any]) -> str:
    """Where the figures come from, without which they say nothing."""
    where = run["environment"]
    commit = where["commit"].removesuffix("+")
    changed = " with uncommitted changes" if where["commit"].endswith("+") else ""
    disk = f", {where['fsync_us']:.0f} us for an fsync" if "fsync_us" in where else ""
    return (
        f"Measured on {where['date']} with {where['machine']}, Python {where['python']}{disk}, "
        f"at commit {commit}{changed}, by `{run['command']}`."
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a column that has no sentence is one of numbers."""
    numbers = [at > 0 and all(len(row[at].split()) <= 1 for row in rows) for at in range(len(columns))]
    headers = [f"{column}:" if number else column for column, number in zip(columns, numbers, strict=True)]
    return table(headers, rows)
