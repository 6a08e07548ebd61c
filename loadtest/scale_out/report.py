"""A run's medians as a table for people, as Markdown to paste, and as JSON."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.scale_out.experiments import Result
from loadtest.scale_out.measuring import Case

Column = tuple[str, Callable[[Result, Case], str]]


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
LEGEND = (
    "Medians. Each figure is for one claim or confirmation; times are processor time in microseconds. Valkey: all "
    "primaries together; of the first: against the first line, in the same round (least and greatest); busiest: the "
    "primary that worked most; a second: how many would fill that primary's core, reckoned and not measured; front: "
    "group commit and connections, no HTTP; replica, follower: one of them; file: append-only file; link: to each "
    "replica; journal: in memory until it is recorded and trimmed."
)


def markdown(results: Sequence[Result], environment: dict[str, Any]) -> str:
    """Everything, ready to paste."""
    return "\n".join(_markdown(results, environment)) + "\n"


def _markdown(results: Sequence[Result], environment: dict[str, Any]) -> Iterator[str]:
    yield ground(environment)
    for result in results:
        yield f"\n**{result.experiment.title}**\n"
        kept = _filled(result)
        yield "| |" + "".join(f" {name} |" for name, _ in kept)
        yield "|---|" + "---:|" * len(kept)
        for case in result.experiment.cases:
            yield f"| {case.name} |" + "".join(f" {cell(result, case)} |" for _, cell in kept)
    yield f"\n{LEGEND}"


def show(console: Console, results: Sequence[Result], environment: dict[str, Any]) -> None:
    """Everything, as tables."""
    for result in results:
        table = Table(title=result.experiment.title, title_justify="left")
        table.add_column("")
        kept = _filled(result)
        for name, _ in kept:
            table.add_column(name, justify="right")
        for case in result.experiment.cases:
            table.add_row(case.name, *(cell(result, case) for _, cell in kept))
        console.print(table)
    console.print(LEGEND)
    console.print(ground(environment))


def ground(environment: dict[str, Any]) -> str:
    """Where and how it was measured, in a sentence."""
    return (
        f"{environment['date']}: `python -m loadtest.scale_out` {environment['arguments']}".rstrip() + f", "
        f"{environment['rounds']} rounds of about {environment['claims']:,} claims in {environment['quotas']} quotas a "
        f"program; {environment['processor']}, Python {environment['python']}, {environment['store']}, appendfsync "
        f"always, fsync {environment['fsync_us']:.0f} us; load before and after {environment['load_before']:.1f} and "
        f"{environment['load_after']:.1f}."
    )


def as_json(results: Sequence[Result], environment: dict[str, Any]) -> dict[str, Any]:
    """The whole run."""
    return {
        "environment": environment,
        "experiments": {result.experiment.name: _experiment(result) for result in results},
    }


def _experiment(result: Result) -> dict[str, Any]:
    return {
        "title": result.experiment.title,
        "cases": {case.name: _case(result, case) for case in result.experiment.cases},
    }


def _case(result: Result, case: Case) -> dict[str, Any]:
    middle, least, most = result.ratio(case, "valkey_us")
    return {
        "case": asdict(case),
        "medians": result.medians(case),
        "valkey_ratio": {"median": middle, "min": least, "max": most},
        "front_ratio": result.ratio(case, "front_us")[0],
        "rounds": [asdict(works[case.name]) for works in result.rounds],
    }


def _filled(result: Result) -> list[Column]:
    """The columns in which some case has something to say."""
    return [
        (name, cell) for name, cell in COLUMNS if any(cell(result, case) != "-" for case in result.experiment.cases)
    ]
