"""`make overload`: three times of what the service takes, and still as many places are given, the rest refused at once.

So that one machine can offer so much, the ledger is slowed on purpose, or with `--short processor` the front has to
share its core. Meanwhile others confirm, read and cancel what they hold. Exit code 0: all bounds were kept.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from loadtest.bench.ground import describe
from loadtest.checker.check import show as show_findings
from loadtest.openloop import commands
from loadtest.openloop.others import HOLDERS_PER_S, Others, holders, staff
from loadtest.openloop.outcomes import HELD, OVERLOADED, Outcomes
from loadtest.openloop.scene import Scene, open_scene
from loadtest.stage import verdicts
from loadtest.stage.cores import Cores
from loadtest.stage.verdicts import Verdict

FACTOR = 3.0
GOODPUT_LEAST = 0.9  # of the peak
REFUSAL_P99_MS = 100.0
STATUS_P99_MS = 500.0  # of those who hold a place already; a confirmation waits for the recorder as well
MEMORY_MIB = 64.0  # that the front may grow by


@dataclass(frozen=True, kw_only=True)
class Overload:
    peak: float  # places a second
    before_mib: float
    outcomes: Outcomes
    staff: Others  # and monitoring
    holders: Others

    @property
    def share(self) -> float:
        return self.outcomes.goodput / self.peak

    @property
    def growth_mib(self) -> float:
        """The most memory that the front took beyond what it had before."""
        return max(self.staff.front_mib) - self.before_mib


async def overload(scene: Scene, *, seconds: float, peak_s: float, seed: int = 0) -> Overload:
    """Measure the peak, then offer `FACTOR` times of it.

    The same others are there in both: what they cost the front, an exposition of its metrics and a list of quotas
    several times a second, is no part of what too many claims cost it.
    """
    async with staff(scene), holders(scene):
        peak = await scene.peak(peak_s)
    before_mib = scene.front_mib()
    async with staff(scene) as others, holders(scene, int(seconds * HOLDERS_PER_S)) as holding:
        outcomes = await scene.offer(peak * FACTOR, seconds, seed)
    return Overload(
        peak=peak,
        before_mib=before_mib,
        outcomes=outcomes,
        staff=others,
        holders=holding,
    )


def judge(result: Overload) -> list[Verdict]:
    outcomes, counts = result.outcomes, result.outcomes.counts
    strange = {name: count for name, count in counts.items() if name not in (HELD, OVERLOADED)}
    refusals_ms = outcomes.latency_ms(OVERLOADED).get("p99", float("inf"))
    slowest_ms, holders_ms = result.staff.quantile_ms(1.0), result.holders.quantile_ms(0.99)
    return [
        Verdict(
            "goodput, share of the peak",
            f"{result.share:.2f} ({outcomes.goodput:,.0f} of {result.peak:,.0f}/s)",
            f">= {GOODPUT_LEAST}",
            result.share >= GOODPUT_LEAST,
        ),
        Verdict(
            "everything else is 503 overloaded",
            f"{counts[HELD]} held, {counts[OVERLOADED]} refused, else {strange or 'nothing'}",
            "nothing else",
            not strange and counts[OVERLOADED] > 0,
        ),
        Verdict("refusals without Retry-After", str(outcomes.hasty), "0", not outcomes.hasty),
        Verdict("p99 of refusals, ms", f"{refusals_ms:.1f}", f"< {REFUSAL_P99_MS:g}", refusals_ms < REFUSAL_P99_MS),
        Verdict(
            "the front's memory grows by, MiB",
            f"{result.growth_mib:.0f} (from {result.before_mib:.0f})",
            f"<= {MEMORY_MIB:g}",
            result.growth_mib <= MEMORY_MIB,
        ),
        Verdict(
            "admin port and staff, slowest ms",
            _times(slowest_ms),
            "all answered",
            not result.staff.failed and bool(slowest_ms),
            wrong=result.staff.failed,
        ),
        Verdict(
            "confirm, status and cancel, p99 ms",
            _times(holders_ms),
            f"all answered, status <= {STATUS_P99_MS:g}",
            not result.holders.failed and holders_ms.get("status", float("inf")) <= STATUS_P99_MS,
            wrong=result.holders.failed,
        ),
        Verdict("held claims, ms", _times(outcomes.latency_ms(HELD))),
        Verdict("load generator late, p99 ms", f"{outcomes.lag_p99_ms:.1f}"),
    ]


def _times(by_name: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {ms:,.0f}" for name, ms in by_name.items())


async def run(cores: Cores, console: Console, options: argparse.Namespace) -> int:
    slowness = commands.slowness_of(options)
    async with open_scene(cores, slowness) as scene:
        environment = await describe(scene.ground)
        peak_s = min(options.seconds, 3.0)
        result = await overload(scene, seconds=options.seconds, peak_s=peak_s, seed=options.seed)
        wrong = show_findings(await scene.check())
    title = f"{FACTOR:g} times of the peak; {slowness.title}"
    # `make bench ARGS="--against REV"` compares these facts with what another revision's command writes.
    facts = {"seconds": result.outcomes.seconds, "outcomes": result.outcomes.counts}
    kept = verdicts.report(console, title, judge(result), options.json, environment, **facts)
    return 0 if kept and not wrong else 1


if __name__ == "__main__":
    parser = commands.parser_of("loadtest.openloop.overload", __doc__, seconds=20.0, slowed=True)
    sys.exit(commands.start(run, parser))
