"""`make overload` of both trees: how many people are refused a second at three times of what a front takes."""

import json
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadtest.bench.against.checkout import Build
from loadtest.bench.figures import Figure

RUNS = 3  # of each tree, by turns
TIMEOUT_S = 300
HELD, OVERLOADED = "201", "503 overloaded"  # outcomes, as either tree's command writes them


def compare(here: Build, there: Build, seconds: float, directory: Path, say: Callable[[str], None]) -> list[Figure]:
    """Refusals and places a second, and the front's time for each place, by the trees' own open loops."""
    seen: dict[str, list[dict[str, Any]]] = {here.name: [], there.name: []}
    for number in range(RUNS):
        for build in (here, there) if number % 2 else (there, here):
            say(f"overload: {build.name}")
            facts = _run(build, seconds, directory / f"overload-{number}.json")
            if facts is None:
                say(f"overload: left out, since it does not run in {build.name}")
                return []
            seen[build.name].append(facts)
    return figures(seen[here.name], seen[there.name])


def figures(here: list[dict[str, Any]], there: list[dict[str, Any]]) -> list[Figure]:
    """What the runs of both say."""
    return [
        _figure("refusals a second, three times the load", here, there, OVERLOADED, target=1.0),
        _figure("places a second, three times the load", here, there, HELD, target=None),
    ]


def _figure(
    name: str, here: list[dict[str, Any]], there: list[dict[str, Any]], outcome: str, *, target: float | None
) -> Figure:
    here_per_s, there_per_s = (statistics.median(_per_s(facts, outcome) for facts in side) for side in (here, there))
    return Figure(
        name=name,
        title="of the other revision's; each tree is offered three times of its own peak",
        value=here_per_s / there_per_s,
        target=target,
        note=f"{there_per_s:,.0f} -> {here_per_s:,.0f}",
    )


def _per_s(facts: dict[str, Any], outcome: str) -> float:
    return float(facts["outcomes"].get(outcome, 0)) / float(facts["seconds"])


def _run(build: Build, seconds: float, written: Path) -> dict[str, Any] | None:
    """What one run wrote; None where it wrote nothing. That it judged itself badly is no matter here."""
    subprocess.run(
        (str(build.python), "-m", "loadtest.openloop.overload", "--seconds", str(seconds), "--json", str(written)),
        cwd=build.root,
        env=build.environment(),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if not written.exists():
        return None
    facts: dict[str, Any] = json.loads(written.read_text())
    written.unlink()
    return facts
