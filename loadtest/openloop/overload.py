"""`make overload`: three times of what the service takes, and still as many places are given, the rest refused at once.

So that one machine can offer so much, the ledger is slowed on purpose, or with `--short processor` the front has to
share its core. Meanwhile others confirm, read and cancel what they hold. Exit code 0: all bounds were kept. To see what
the limit on the queue's delay is worth, take it away with `--queue-delay-target-ms 5000`: places are given nearly as
fast, but people wait for seconds, also for a refusal.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from loadtest.bench.ground import describe
from loadtest.openloop import commands
from loadtest.openloop.bystanders import Bystanders, bystanders
from loadtest.openloop.commands import Verdict
from loadtest.openloop.holders import RATE_PER_S, Holders, holders
from loadtest.openloop.outcomes import HELD, OVERLOADED, Outcomes
from loadtest.openloop.scene import Scene, open_scene
from loadtest.stage.cores import Cores

FACTOR = 3.0
GOODPUT_LEAST = 0.9  # of the peak
REFUSAL_P99_MS = 100.0
STATUS_P99_MS = 500.0  # of those who hold a place already; a confirmation waits for the recorder as well
MEMORY_MIB = 64.0  # that the front may grow by


@dataclass(frozen=True, kw_only=True)
class Overload:
    """What was seen."""

    peak: float  # places a second
    peak_front_us: float  # of the front's processor time for each
    rss_before_mib: float
    outcomes: Outcomes
    beside: Bystanders
    holders: Holders

    @property
    def share(self) -> float:
        """Goodput as a share of the peak."""
        return self.outcomes.goodput / self.peak

    @property
    def growth_mib(self) -> float:
        """The most memory that the front took beyond what it had before."""
        return max(self.beside.rss_mib) - self.rss_before_mib


async def overload(scene: Scene, *, factor: float, seconds: float, peak_s: float, seed: int = 0) -> Overload:
    """Measure the peak, then offer `factor` times of it.

    The same others are there in both: what they cost the front, an exposition of its metrics and a list of quotas
    several times a second, is no part of what too many claims cost it.
    """
    async with bystanders(scene), holders(scene):
        peak = await scene.peak(peak_s)
    before_mib = scene.front_rss_mib()
    async with bystanders(scene) as beside, holders(scene, int(seconds * RATE_PER_S)) as holding:
        outcomes = await scene.offer(peak * factor, seconds, seed)
    return Overload(
        peak=peak,
        peak_front_us=scene.peak_front_us,
        rss_before_mib=before_mib,
        outcomes=outcomes,
        beside=beside,
        holders=holding,
    )


def judge(seen: Overload) -> list[Verdict]:
    """Every figure beside its bound."""
    counts = seen.outcomes.counts
    strange = {name: count for name, count in counts.items() if name not in (HELD, OVERLOADED)}
    refusals = seen.outcomes.latency_ms(OVERLOADED)
    p99 = refusals.get("p99", float("inf"))
    held = ", ".join(f"{name} {ms:,.0f}" for name, ms in seen.outcomes.latency_ms(HELD).items())
    slowest = ", ".join(f"{name} {ms:,.0f}" for name, ms in seen.beside.slowest_ms().items())
    holding = seen.holders.p99_ms()
    before_claims = ", ".join(f"{name} {ms:,.0f}" for name, ms in holding.items())
    return [
        Verdict(
            name="goodput, share of the peak",
            value=f"{seen.share:.2f} ({seen.outcomes.goodput:,.0f} of {seen.peak:,.0f}/s)",
            bound=f">= {GOODPUT_LEAST}",
            met=seen.share >= GOODPUT_LEAST,
        ),
        Verdict(
            name="everything else is 503 overloaded",
            value=f"{counts[HELD]} held, {counts[OVERLOADED]} refused, else {strange or 'nothing'}",
            bound="nothing else",
            met=not strange and counts[OVERLOADED] > 0,
        ),
        Verdict(
            name="refusals without Retry-After",
            value=str(seen.outcomes.hasty),
            bound="0",
            met=not seen.outcomes.hasty,
        ),
        Verdict(
            name="p99 of refusals, ms", value=f"{p99:.1f}", bound=f"< {REFUSAL_P99_MS:g}", met=p99 < REFUSAL_P99_MS
        ),
        Verdict(
            name="the front's memory grows by, MiB",
            value=f"{seen.growth_mib:.0f} (from {seen.rss_before_mib:.0f})",
            bound=f"<= {MEMORY_MIB:g}",
            met=seen.growth_mib <= MEMORY_MIB,
        ),
        Verdict(
            name="admin port and staff, slowest ms",
            value=f"{slowest}; failed: {seen.beside.failed or 'none'}",
            bound="all answered",
            met=not seen.beside.failed and bool(slowest),
        ),
        Verdict(
            name="confirm, status and cancel, p99 ms",
            value=f"{before_claims}; failed: {seen.holders.failed or 'none'}",
            bound=f"all answered, status <= {STATUS_P99_MS:g}",
            met=not seen.holders.failed and holding.get("status", float("inf")) <= STATUS_P99_MS,
        ),
        Verdict(
            name="the front's processor time for a place, us",
            value=f"{seen.peak_front_us:,.0f} at the peak, {seen.outcomes.front_us:,.0f} here",
            bound="(said, not judged)",
            met=True,
        ),
        Verdict(name="held claims, ms", value=held, bound="(said, not judged)", met=True),
        Verdict(
            name="load generator late, p99 ms",
            value=f"{seen.outcomes.lag_p99_ms:.1f}",
            bound="(said, not judged)",
            met=True,
        ),
    ]


async def run(cores: Cores, console: Console, options: argparse.Namespace) -> int:
    slowness = commands.slowness_of(options)
    target = options.queue_delay_target_ms
    settings = {} if target is None else {"queue_delay_target_ms": target}
    async with open_scene(cores, slowness, **settings) as scene:
        environment = await describe(scene.ground)
        peak_s = min(options.seconds, 3.0)
        seen = await overload(scene, factor=options.factor, seconds=options.seconds, peak_s=peak_s, seed=options.seed)
        wrong = await commands.violations(scene)
    verdicts = judge(seen)
    kept = commands.show_verdicts(console, f"{options.factor:g} times of the peak; {slowness.title}", verdicts)
    facts = {
        "environment": environment,
        "slowed": slowness.title,
        "queue_delay_target_ms": scene.ground.settings.queue_delay_target_ms,
        "peak_per_s": seen.peak,
        "peak_front_us_per_place": seen.peak_front_us,
        "front_rss_mib": {"before": seen.rss_before_mib, "most": max(seen.beside.rss_mib)},
        "bystanders_slowest_ms": seen.beside.slowest_ms(),
        "bystanders_failed": seen.beside.failed,
        "holders_p99_ms": seen.holders.p99_ms(),
        "holders_failed": seen.holders.failed,
        **seen.outcomes.facts(),
    }
    commands.write_json(options.json, facts)
    return 0 if kept and not wrong else 1


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = commands.parser_of("loadtest.openloop.overload", __doc__, seconds=20.0)
    commands.add_slowness(parser)
    parser.add_argument("--queue-delay-target-ms", type=int, help="the service's setting; its default unless given")
    parser.add_argument("--factor", type=float, default=FACTOR, help="times the peak")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    return commands.start(run, read_options(arguments))


if __name__ == "__main__":
    sys.exit(main())
