"""What a run showed: medians over the measures that count, as tables for people and as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.bench import targets
from loadtest.bench.figures import Figure
from loadtest.bench.measuring import DRIFT_MAX, Bracketed, Measured, Round
from loadtest.bench.reads import TITLES
from loadtest.bench.variants import COMPARED, Bare, Variant

BUSY = ("front", "load", "valkey", "worker", "postgres")  # the processes whose time is shown
NUMBERS = ("per second", "of bare", "min-max", "by cpu", "p50 ms", "p99 ms", "max ms", "refused", "share", *BUSY)


@dataclass
class Suite:
    """What was measured with so many connections."""

    connections: int
    claims: list[Round] = field(default_factory=list)
    reads: dict[str, list[Round]] = field(default_factory=dict)

    @property
    def figures(self) -> list[Figure]:
        """What is held against a target."""
        return targets.figures(self.claims, self.reads)

    @property
    def rounds(self) -> list[Round]:
        """All of them."""
        return [*self.claims, *(done for rounds in self.reads.values() for done in rounds)]


@dataclass
class Run:
    """Everything that a run found out."""

    environment: dict[str, Any] = field(default_factory=dict)
    answer_bytes: int = 0
    suites: list[Suite] = field(default_factory=list)
    experiments: dict[str, list[Figure]] = field(default_factory=dict)  # by title


def summarise(rounds: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """Each variant's medians; ratios are those of single measures, so that the machine's mood cancels out.

    Measures on shaky ground are left out, unless a variant has no others.
    """
    if not rounds:
        return {}
    brackets = {name: [done.compared[name] for done in targets.firm(rounds, name)] for name in rounds[0].compared}
    # A measurement of the bare handler is the end of one bracket and the beginning of the next.
    bare = {id(one): one for kept in brackets.values() for bracket in kept for one in (bracket.before, bracket.after)}
    summary = {Bare.name: _medians(list(bare.values()), [1.0])}
    for name, kept in brackets.items():
        summary[name] = _medians([bracket.measured for bracket in kept], [bracket.ratio for bracket in kept])
    bare_us = summary[Bare.name]["busy_us"]["front"]
    for medians in summary.values():
        front_us = medians["busy_us"]["front"]
        # A handful of claims may use less than one tick of the kernel's clock: that is no measurement.
        medians["ratio_by_processor"] = bare_us / front_us if bare_us and front_us else None
    return summary


def _medians(measured: Sequence[Measured], ratios: Sequence[float]) -> dict[str, Any]:
    rates = [one.claims_per_s for one in measured]
    return {
        "claims_per_s": statistics.median(rates),
        "claims_per_s_min": min(rates),
        "claims_per_s_max": max(rates),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "p50_ms": statistics.median(one.p50_ms for one in measured),
        "p99_ms": statistics.median(one.p99_ms for one in measured),
        "max_ms": max(one.max_ms for one in measured),
        "claimed": sum(one.claimed for one in measured),
        "refused": sum(one.refused for one in measured),
        "front_share": statistics.median(one.front_share for one in measured),
        "busy_us": {name: statistics.median(one.busy_us[name] for one in measured) for name in measured[0].busy_us},
    }


def as_json(run: Run) -> dict[str, Any]:
    """The whole run."""
    return {
        "environment": run.environment,
        "answer_bytes": run.answer_bytes,
        "drift_max": DRIFT_MAX,
        "suites": [_suite(suite) for suite in run.suites],
        "experiments": {title: [targets.as_row(figure) for figure in kept] for title, kept in run.experiments.items()},
    }


def _suite(suite: Suite) -> dict[str, Any]:
    return {
        "connections": suite.connections,
        "targets": [targets.as_row(figure) for figure in suite.figures],
        "variants": summarise(suite.claims),
        "reads": {name: summarise(rounds) for name, rounds in suite.reads.items()},
        "rounds": [_round(done) for done in suite.claims],
        "read_rounds": {name: [_round(done) for done in rounds] for name, rounds in suite.reads.items()},
    }


def _round(done: Round) -> dict[str, Any]:
    compared = {name: _bracket(bracket) for name, bracket in done.compared.items()}
    return {"counts": done.counts, "compared": compared, "left_out": [_bracket(bracket) for bracket in done.left_out]}


def _bracket(bracket: Bracketed) -> dict[str, Any]:
    return {**asdict(bracket), "ratio": bracket.ratio, "drift": bracket.drift, "counts": bracket.counts}


def show(console: Console, run: Run) -> None:
    """The tables, with what they were measured on."""
    for suite in run.suites:
        _show_suite(console, suite)
    if run.suites:
        console.print(f"  {', '.join(BUSY)}: processor time of each in microseconds a request, background included;")
        console.print("  by cpu: the same ratio from the front's processor time, which a busy machine disturbs less;")
        console.print("  share: how much of its core the front used; well below 1, something else set the speed")
    for title, figures in run.experiments.items():
        show_figures(console, title, figures)
    _show_ground(console, run)


def _show_suite(console: Console, suite: Suite) -> None:
    among = f"one front process, {suite.connections} connections"
    if suite.claims:
        _show_rates(console, f"successful claims through HTTP, {among}", {"": suite.claims})
        kinds: tuple[type[Variant], ...] = (Bare, *COMPARED)
        for kind in kinds:
            if kind is Bare or kind.name in suite.claims[0].compared:
                console.print(f"  [dim]{kind.name:<15}[/] {kind.title}")
    if suite.reads:
        _show_rates(console, f"answers from memory through HTTP, {among}", suite.reads)
        for name in suite.reads:
            console.print(f"  [dim]{name:<15}[/] {TITLES[name]}")
    if suite.rounds:
        show_figures(console, f"held against the targets, {suite.connections} connections", suite.figures)


def _show_rates(console: Console, title: str, suites: Mapping[str, Sequence[Round]]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for name in NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    for suite, rounds in suites.items():
        for name, medians in summarise(rounds).items():
            table.add_row(f"{name} {suite}".strip() if name == Bare.name else name, *_cells(medians))
    console.print(table)


def _cells(medians: Mapping[str, Any]) -> list[str]:
    by_processor = medians["ratio_by_processor"]
    return [
        f"{medians['claims_per_s']:,.0f}",
        f"{medians['ratio']:.2f}",
        f"{medians['ratio_min']:.2f}-{medians['ratio_max']:.2f}",
        "-" if by_processor is None else f"{by_processor:.2f}",
        *(f"{medians[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
        str(medians["refused"]),
        f"{medians['front_share']:.2f}",
        *(f"{medians['busy_us'].get(process, 0.0):.0f}" for process in BUSY),
    ]


def show_figures(console: Console, title: str, figures: Sequence[Figure]) -> None:
    """Each figure with its target, and whether it is met."""
    table = Table(title=title, title_justify="left")
    for name in ("figure", "measured", "target", "", "what"):
        table.add_column(name, justify="right" if name in ("measured", "target") else "left")
    for figure in figures:
        unit = f" {figure.unit}" if figure.unit else ""
        target = "-" if figure.target is None else f"{figure.sense} {number(figure.target)}{unit}"
        met = {None: "", True: "met", False: "[bold]not met[/]"}[figure.met]
        what = f"{figure.title} ({figure.note})" if figure.note else figure.title
        table.add_row(figure.name, f"{number(figure.value)}{unit}", target, met, what)
    console.print(table)


def number(value: float) -> str:
    """Two digits after the point where they say something."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.2f}"


def _show_ground(console: Console, run: Run) -> None:
    environment = run.environment
    rounds = [done for suite in run.suites for done in suite.rounds]
    kept = [bracket for done in rounds for bracket in done.compared.values()]
    counted, repeated = sum(bracket.counts for bracket in kept), sum(len(done.left_out) for done in rounds)
    if kept:
        console.print(
            f"{counted} of {len(kept)} measures count (bare moved by at most {DRIFT_MAX:.0%} around them); "
            f"{repeated} were repeated."
        )
    console.print(
        f"Python {environment['python']} ({environment['executable']}, {environment['compiler']}), aiohttp "
        f"{environment['packages']['aiohttp']}, {environment['store']}, fsync {environment['fsync_us']:.0f} us, "
        f"{environment['machine']}"
    )
    if kept and not counted:
        console.print("[bold]Nothing was on firm ground: something else used the machine. The ratios are shaky.[/]")
