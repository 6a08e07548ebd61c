"""A run's medians as a table for people, as Markdown to paste, and as JSON."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from loadtest.scale_out import idle, recording, sizing
from loadtest.scale_out.experiments import Result
from loadtest.scale_out.idle import IdleResult
from loadtest.scale_out.measuring import Case
from loadtest.scale_out.recording import RecordingResult
from loadtest.scale_out.sizing import Costs, Found

Column: TypeAlias = tuple[str, Callable[[Result, Case], str]]


def _microseconds(figure: str) -> Callable[[Result, Case], str]:
    def cell(result: Result, case: Case) -> str:
        value = result.median(case, figure)
        return f"{value:.1f}" if value else "-"

    return cell


def _bytes(figure: str) -> Callable[[Result, Case], str]:
    def cell(result: Result, case: Case) -> str:
        value = result.median(case, figure)
        return f"{value:.0f}" if value else "-"

    return cell


def _ratio(figure: str) -> Callable[[Result, Case], str]:
    def cell(result: Result, case: Case) -> str:
        middle, least, most = result.ratio(case, figure)
        return f"{middle:.2f} ({least:.2f}-{most:.2f})"

    return cell


COLUMNS: Sequence[Column] = (
    ("a call", lambda result, case: f"{result.median(case, 'per_call'):.0f}"),
    ("Valkey us", _microseconds("valkey_us")),
    ("of the first", _ratio("valkey_us")),
    ("busiest us", _microseconds("busiest_us")),
    ("a second", lambda result, case: f"{result.median(case, 'capacity_per_s'):,.0f}"),
    ("front us", _microseconds("front_us")),
    ("front of the first", _ratio("front_us")),
    ("replica us", _microseconds("replica_us")),
    ("follower us", _microseconds("follower_us")),
    ("file B", _bytes("file_bytes")),
    ("link B", _bytes("link_bytes")),
    ("journal B", _bytes("journal_bytes")),
)
RECORDED_COLUMNS = (
    ("worker us", "recorder_us"),
    ("PostgreSQL us", "postgres_us"),
    ("Valkey us", "valkey_us"),
    ("log B", "log_bytes"),
    ("rows B", "row_bytes"),
)
IDLE_COLUMNS = (
    ("Valkey, followed by nobody", "valkey_us"),
    ("more for each program of each further front", "valkey_more_us"),
    ("a front, for each program", "follower_us"),
)
LEGEND = (
    "Medians. Each figure is for one claim or confirmation; times are processor time in microseconds. Valkey: all "
    "primaries together; of the first: against the first line, in the same round (least and greatest); busiest: the "
    "primary that worked most; a second: how many would fill that primary's core, reckoned and not measured; front: "
    "group commit and connections, no HTTP; replica, follower: one of them; file: append-only file; link: to each "
    "replica; journal: in memory until it is recorded and trimmed; log: PostgreSQL's write-ahead log; rows: "
    "by how much the files of its tables and indexes grew."
)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table, whatever it is shown as."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # each begins with its name


def sheet(result: Found) -> Sheet:
    """One experiment's figures; columns in which nothing has anything to say are left out."""
    if isinstance(result, RecordingResult):
        return Sheet(
            title=recording.TITLE,
            head=tuple(name for name, _ in RECORDED_COLUMNS),
            rows=tuple(
                (way, *(f"{result.median(way, figure):,.1f}" for _, figure in RECORDED_COLUMNS))
                for way in result.rounds[0]
            ),
        )
    if isinstance(result, IdleResult):
        return Sheet(
            title=idle.TITLE,
            head=tuple(name for name, _ in IDLE_COLUMNS),
            rows=tuple(
                (way, *(f"{result.median(way, figure):,.1f}" for _, figure in IDLE_COLUMNS)) for way in idle.WAYS
            ),
        )
    cases = result.experiment.cases
    kept = [(name, cell) for name, cell in COLUMNS if any(cell(result, case) != "-" for case in cases)]
    return Sheet(
        title=result.experiment.title,
        head=tuple(name for name, _ in kept),
        rows=tuple((case.name, *(cell(result, case) for _, cell in kept)) for case in cases),
    )


def sheets(results: Sequence[Found], costs: Costs | None) -> list[Sheet]:
    """All experiments, and what follows from them for an opening, where they are all there."""
    found = [sheet(result) for result in results]
    if costs:
        head = tuple(opening.name for opening in sizing.OPENINGS)
        found.append(Sheet(title=sizing.TITLE, head=head, rows=tuple(sizing.rows(costs))))
    return found


def markdown(found: Sequence[Sheet], environment: dict[str, Any]) -> str:
    """Everything, ready to paste."""
    return "\n".join(_markdown(found, environment)) + "\n"


def _markdown(found: Sequence[Sheet], environment: dict[str, Any]) -> Iterator[str]:
    yield ground(environment)
    for each in found:
        yield f"\n**{each.title}**\n"
        yield f"| | {' | '.join(each.head)} |"
        yield "|---|" + "---:|" * len(each.head)
        yield from (f"| {' | '.join(row)} |" for row in each.rows)
    yield f"\n{LEGEND}"


def show(console: Console, found: Sequence[Sheet], environment: dict[str, Any]) -> None:
    """Everything, as tables."""
    for each in found:
        table = Table(title=each.title, title_justify="left")
        table.add_column("")
        for name in each.head:
            table.add_column(name, justify="right")
        for row in each.rows:
            table.add_row(*row)
        console.print(table)
    console.print(LEGEND)
    console.print(ground(environment))


def ground(environment: dict[str, Any]) -> str:
    """Where and how it was measured, in a sentence."""
    return (
        f"{environment['date']}: `python -m loadtest.scale_out --rounds {environment['rounds']} --claims "
        f"{environment['claims']}`, {environment['quotas']} quotas a program; {environment['processor']}, Python "
        f"{environment['python']}, {environment['store']}, appendfsync always, fsync {environment['fsync_us']:.0f} us; "
        f"load before and after {environment['load_before']:.1f} and {environment['load_after']:.1f}."
    )


def as_json(results: Sequence[Found], costs: Costs | None, environment: dict[str, Any]) -> dict[str, Any]:
    """The whole run."""
    return {
        "environment": environment,
        "experiments": dict(map(_experiment, results)),
        "costs": asdict(costs) if costs else None,
    }


def _experiment(result: Found) -> tuple[str, dict[str, Any]]:
    if isinstance(result, RecordingResult):
        rounds = [{way: asdict(recorded) for way, recorded in found.items()} for found in result.rounds]
        return recording.NAME, {"title": recording.TITLE, "rounds": rounds}
    if isinstance(result, IdleResult):
        rounds = [{way: asdict(measured) for way, measured in found.items()} for found in result.rounds]
        return idle.NAME, {"title": idle.TITLE, "rounds": rounds}
    cases = {case.name: _case(result, case) for case in result.experiment.cases}
    return result.experiment.name, {"title": result.experiment.title, "cases": cases}


def _case(result: Result, case: Case) -> dict[str, Any]:
    middle, least, most = result.ratio(case, "valkey_us")
    return {
        "case": asdict(case),
        "medians": result.medians(case),
        "valkey_ratio": {"median": middle, "min": least, "max": most},
        "front_ratio": result.ratio(case, "front_us")[0],
        "rounds": [asdict(works[case.name]) for works in result.rounds],
    }
