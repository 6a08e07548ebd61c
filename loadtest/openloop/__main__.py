"""`make latency`: how long a claim takes at 10 to 300 % of what the service can do, from its intended moment.

By default the ledger is slowed on purpose, so that the load generator, which shares the machine, can offer three times
of it; `--fsync-ms 0` shows the unslowed service as far as the generator reaches.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from rich.console import Console

mpl.use("svg")  # before pyplot: no display is looked for
from matplotlib import pyplot as plt

from loadtest.bench.ground import describe
from loadtest.checker.check import show as show_findings
from loadtest.openloop import commands
from loadtest.openloop.outcomes import HELD, NONE, OVERLOADED, SHARES, Outcomes
from loadtest.openloop.scene import open_scene
from loadtest.stage.cores import Cores
from loadtest.stage.tables import Table, write_run
from loadtest.stage.verdicts import command

LOADS = (10, 25, 50, 75, 90, 100, 125, 150, 200, 300)
LAG_MS_MAX = 50.0  # past it a row shows the load generator, not the service
LEAST_MS = 0.5  # of the picture's scale
COLUMNS = (
    *("load %", "offered/s", "goodput/s", "of peak", *SHARES, "503/s", "503 p50", "503 p99"),
    *("others", "late p99"),
)
LATE = f"! the load generator was more than {LAG_MS_MAX:g} ms late: read such a line as a lower bound"
Curve = Mapping[int, Outcomes]  # by load, in percent of saturation


async def run(cores: Cores, console: Console, options: argparse.Namespace) -> int:
    """Find saturation, then offer one load after the other; each begins when the last one is recorded."""
    slowness, curve = commands.slowness_of(options), dict[int, Outcomes]()
    try:
        async with open_scene(cores, slowness) as scene:
            environment = await describe(scene.ground)
            peak = await scene.peak(options.seconds)
            title = f"{slowness.title}; saturation {peak:,.0f}/s"
            console.print(title)
            for percent in options.loads:
                console.print(f"{percent} % of it for {options.seconds:g} s")
                outcomes = await scene.offer(peak * percent / 100, options.seconds, options.seed + percent)
                await scene.ours.settle()
                curve[percent] = outcomes
            exit_code = show_findings(await scene.check())
    finally:
        if curve:  # what was measured before a failure is not lost
            measured = table(title, curve, peak)
            measured.show(console)
            draw(slowness.title, curve, peak, options.svg)
            if options.json:
                write_run(options.json, command(), environment, [measured])
            console.print(f"picture: {options.svg}")
    return exit_code


def table(title: str, curve: Curve, peak: float) -> Table:
    return Table(
        title=f"{title}; latency from the intended start, ms",
        columns=COLUMNS,
        rows=tuple(_row(percent, point, peak) for percent, point in curve.items()),
        notes=(LATE,) if any(point.lag_p99_ms > LAG_MS_MAX for point in curve.values()) else (),
    )


def _row(percent: int, outcomes: Outcomes, peak: float) -> tuple[str, ...]:
    held, refused = outcomes.latency_ms(HELD), outcomes.latency_ms(OVERLOADED)
    others = outcomes.counts.total() - outcomes.counts[HELD] - outcomes.counts[OVERLOADED]
    return (
        str(percent),
        f"{outcomes.offered_per_s:,.0f}",
        f"{outcomes.goodput:,.0f}",
        f"{outcomes.goodput / peak:.2f}",
        *(_ms(held.get(name)) for name in SHARES),
        f"{outcomes.counts[OVERLOADED] / outcomes.seconds:,.0f}",
        _ms(refused.get("p50")),
        _ms(refused.get("p99")),
        f"{others} ({outcomes.counts[NONE]} none)" if others else "0",
        _ms(outcomes.lag_p99_ms) + (" !" if outcomes.lag_p99_ms > LAG_MS_MAX else ""),
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def draw(title: str, curve: Curve, peak: float, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "reservasi", "svg.fonttype": "none", "font.size": 9}):
        figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 7), layout="constrained")
        above.set(yscale="log", ylabel="ms from the intended start", title=title)
        for outcome, name, style in (*((HELD, name, "o-") for name in SHARES), (OVERLOADED, "p99", "x--")):
            there = [(load, point.latency_ms(outcome)[name]) for load, point in curve.items() if point.counts[outcome]]
            if there:
                above.plot(*zip(*there, strict=True), style, label=f"{outcome}, {name}")
        above.set_ylim(bottom=LEAST_MS)
        below.plot(list(curve), [point.goodput for point in curve.values()], "o-", label="goodput")
        refused = [point.counts[OVERLOADED] / point.seconds for point in curve.values()]
        below.plot(list(curve), refused, "x--", label=OVERLOADED)
        below.axhline(peak, color="grey", linewidth=0.8, label="saturation (closed loop)")
        below.set(ylabel="a second", xlabel="offered load, % of saturation")
        for axes in (above, below):
            axes.grid(visible=True, alpha=0.3)
            axes.legend(loc="best", fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)


def _loads(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    parser = commands.parser_of("loadtest.openloop", __doc__, seconds=10.0, slowed=True)
    parser.add_argument("--loads", type=_loads, default=LOADS, metavar="PERCENT,...", help="of saturation")
    parser.add_argument("--svg", type=Path, default=Path("reports/latency.svg"), help="where the picture is drawn")
    sys.exit(commands.start(run, parser))
