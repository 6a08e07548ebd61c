"""`make overload` of both trees: how many people are refused a second at three times of what a front takes."""

import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.bench.against.checkout import Build
from loadtest.bench.figures import Figure
from loadtest.bench.turns import Say, by_turns

RUNS = 3  # of each tree, by turns
TIMEOUT_S = 300
# Name of a figure, its outcome as either tree's command writes it, and the target.
FIGURES = (
    ("refusals a second, three times the load", "503 overloaded", 1.0),
    ("places a second, three times the load", "201", None),
)


def compare(here: Build, there: Build, seconds: float, directory: Path, say: Say) -> list[Figure]:
    """Refusals and places a second, by the trees' own open loops; nothing where one of them does not run."""
    runs: dict[str, list[dict[str, Any]]] = {here.name: [], there.name: []}
    for _, builds in by_turns((here, there), RUNS, warm_up=False):
        for build in builds:
            say(f"overload: {build.name}")
            facts = _run(build, seconds, directory / "overload.json")
            if facts is None:
                say(f"overload: left out, since it does not run in {build.name}")
                return []
            runs[build.name].append(facts)
    return figures(runs[here.name], runs[there.name])


def figures(here: Sequence[dict[str, Any]], there: Sequence[dict[str, Any]]) -> list[Figure]:
    found = []
    for name, outcome, target in FIGURES:
        here_per_s, there_per_s = (
            statistics.median(run["outcomes"].get(outcome, 0) / run["seconds"] for run in side)
            for side in (here, there)
        )
        title = "of the other revision's; each tree is offered three times of its own peak"
        note = f"{there_per_s:,.0f} -> {here_per_s:,.0f}"
        found.append(Figure(name=name, title=title, value=here_per_s / there_per_s, target=target, note=note))
    return found


def _rates(runs: Sequence[dict[str, Any]], outcome: str) -> list[float]:
    return [run["outcomes"].get(outcome, 0) / run["seconds"] for run in runs]


def _run(build: Build, seconds: float, written: Path) -> dict[str, Any] | None:
    """What one run wrote; None where it wrote nothing. That it judged itself badly is no matter here."""
    command = (str(build.python), "-m", "loadtest.openloop.overload", "--seconds", str(seconds), "--json", str(written))
    environment = build.environment()
    subprocess.run(command, cwd=build.root, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)
    if not written.exists():
        return None
    facts: dict[str, Any] = json.loads(written.read_text())
    written.unlink()
    return facts
