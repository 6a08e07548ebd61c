"""Latency and goodput against offered load, in shares of what the service takes: table, JSON and picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")  # before pyplot: no display is looked for
from matplotlib import pyplot as plt

from loadtest.openloop.outcomes import HELD, NONE, OVERLOADED, SHARES, Outcomes
from loadtest.openloop.scene import Scene
from loadtest.stage.tables import Table

LOADS = (10, 25, 50, 75, 90, 100, 125, 150, 200, 300)
LAG_MS_MAX = 50.0  # past it the load generator, not the service, is what a point shows
LEAST_MS = 0.5  # of the picture's scale


@dataclass(frozen=True, kw_only=True)
class Point:
    """One load."""

    percent: int  # of saturation
    outcomes: Outcomes

    @property
    def honest(self) -> bool:
        """Whether the load generator kept to its timetable."""
        return self.outcomes.lag_p99_ms <= LAG_MS_MAX


@dataclass
class Curve:
    """A whole run; filled as it goes on."""

    title: str
    saturation: float = 0.0  # places a second, closed loop
    saturation_front_us: float = 0.0  # of the front's processor time for each
    points: list[Point] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "saturation_per_s": self.saturation,
            "saturation_front_us_per_place": self.saturation_front_us,
            "points": [
                {"percent": point.percent, "generator_kept_up": point.honest, **point.outcomes.facts()}
                for point in self.points
            ],
        }


async def measure(
    curve: Curve, scene: Scene, loads: Sequence[int], *, seconds: float, seed: int, say: Callable[[str], None]
) -> None:
    """Find saturation, then offer one load after the other; each begins when the last one is recorded."""
    curve.saturation = await scene.peak(seconds)
    curve.saturation_front_us = scene.peak_front_us
    say(f"saturation: {curve.saturation:,.0f} places a second, {curve.saturation_front_us:,.0f} us of the front each")
    for percent in loads:
        say(f"{percent} % of it for {seconds:g} s")
        outcomes = await scene.offer(curve.saturation * percent / 100, seconds, seed + percent)
        await scene.ours.settle()
        curve.points.append(Point(percent=percent, outcomes=outcomes))


def table(curve: Curve) -> Table:
    columns = ("load %", "offered/s", "goodput/s", "of peak", "front us", *SHARES, "503/s", "503 p50", "503 p99")
    late = f"! the load generator was more than {LAG_MS_MAX:g} ms late: read such a line as a lower bound"
    return Table(
        title=f"{curve.title}; saturation {curve.saturation:,.0f}/s, {curve.saturation_front_us:,.0f} us of the front "
        "for each; latency from the intended start, ms",
        columns=(*columns, "others", "late p99"),
        rows=tuple(_row(curve, point) for point in curve.points),
        notes=() if all(point.honest for point in curve.points) else (late,),
    )


def _row(curve: Curve, point: Point) -> tuple[str, ...]:
    found = point.outcomes
    held, refused = found.latency_ms(HELD), found.latency_ms(OVERLOADED)
    others = found.counts.total() - found.counts[HELD] - found.counts[OVERLOADED]
    return (
        str(point.percent),
        f"{found.offered_per_s:,.0f}",
        f"{found.goodput:,.0f}",
        f"{found.goodput / curve.saturation:.2f}",
        f"{found.front_us:,.0f}",
        *(_ms(held.get(name)) for name in SHARES),
        f"{found.counts[OVERLOADED] / found.seconds:,.0f}",
        _ms(refused.get("p50")),
        _ms(refused.get("p99")),
        f"{others} ({found.counts[NONE]} none)" if others else "0",
        _ms(found.lag_p99_ms) + ("" if point.honest else " !"),
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def draw(curve: Curve, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    points = [(point.percent, point.outcomes) for point in curve.points]
    with plt.rc_context({"svg.hashsalt": "reservasi", "svg.fonttype": "none", "font.size": 9}):
        figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 7), layout="constrained")
        above.set(yscale="log", ylabel="ms from the intended start", title=curve.title)
        for outcome, name, style in (*((HELD, name, "o-") for name in SHARES), (OVERLOADED, "p99", "x--")):
            there = [(percent, found.latency_ms(outcome)[name]) for percent, found in points if found.counts[outcome]]
            if there:
                above.plot(*zip(*there, strict=True), style, label=f"{outcome}, {name}")
        above.set_ylim(bottom=LEAST_MS)
        percents = [percent for percent, _ in points]
        below.plot(percents, [found.goodput for _, found in points], "o-", label="goodput")
        below.plot(percents, [found.counts[OVERLOADED] / found.seconds for _, found in points], "x--", label=OVERLOADED)
        below.axhline(curve.saturation, color="grey", linewidth=0.8, label="saturation (closed loop)")
        below.set(ylabel="a second", xlabel="offered load, % of saturation")
        for axes in (above, below):
            axes.grid(visible=True, alpha=0.3)
            axes.legend(loc="best", fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
