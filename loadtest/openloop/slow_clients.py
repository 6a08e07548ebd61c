"""`make slow-clients`: thousands of connections that send a byte a second, and what everybody else notices of them.

The same timetable is run without and with them. Exit code 0: all bounds were kept.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from loadtest.bench.ground import describe
from loadtest.checker.check import show as show_findings
from loadtest.openloop import commands
from loadtest.openloop.drip import BODIES, HEADS, Drips, Slow, dripping
from loadtest.openloop.outcomes import HELD, Outcomes
from loadtest.openloop.scene import Scene, Slowness, open_scene
from loadtest.stage import verdicts
from loadtest.stage.cores import Cores
from loadtest.stage.verdicts import Verdict

CONNECTIONS = 5000
RATE_PER_S = 500.0
CLOSING_SLACK_S = 1.0  # the service looks now and then, and a busy machine is late
OPENING_TIMEOUT_S = 60.0
P99_FACTOR = 2.0  # how much longer the others may take,
P99_SLACK_MS = 20.0  # beyond what this adds
SLOW = {slow.name: slow for slow in (HEADS, BODIES)}


@dataclass(frozen=True, kw_only=True)
class SlowClients:
    """What was seen."""

    without: Outcomes
    beside: Outcomes
    drips: Drips
    bound_s: float  # the service's own time limit of a head, or of a body


async def slow_clients(
    scene: Scene, connections: int, *, rate_per_s: float, seconds: float, seed: int = 0, slow: Slow = HEADS
) -> SlowClients:
    """Claims by the same timetable without and with slow connections; at the end the service must have ended these."""
    settings = scene.ground.settings
    bound_s = (settings.head_timeout_ms if slow is HEADS else settings.body_timeout_ms) / 1000
    await scene.offer(rate_per_s, min(seconds, 2.0), seed)  # warm
    without = await scene.offer(rate_per_s, seconds, seed)
    async with dripping(scene.ours.port, connections, OPENING_TIMEOUT_S, slow) as drips:
        beside = await scene.offer(rate_per_s, seconds, seed)
        await drips.stop(bound_s)
    return SlowClients(without=without, beside=beside, drips=drips, bound_s=bound_s)


def judge(seen: SlowClients) -> list[Verdict]:
    drips, others = seen.drips, seen.beside.latency_ms(HELD)
    before = seen.without.latency_ms(HELD)
    p99_most = before["p99"] * P99_FACTOR + P99_SLACK_MS
    longest_s = max(drips.closed_after_s, default=0.0)
    most_s = seen.bound_s + CLOSING_SLACK_S
    return [
        Verdict(
            "claims of others that got their place",
            f"{seen.beside.counts[HELD]} of {seen.beside.offered}",
            "all",
            seen.beside.counts[HELD] == seen.beside.offered,
        ),
        Verdict(
            "their latency, ms",
            ", ".join(f"{name} {before[name]:.1f} -> {ms:.1f}" for name, ms in others.items()),
            f"p99 <= {p99_most:.1f}",
            others.get("p99", float("inf")) <= p99_most,
        ),
        Verdict(
            "slow connections closed by the service",
            f"{len(drips.closed_after_s)}, {drips.most_open} at a time; left open {drips.left_open}",
            "all",
            drips.left_open == 0 and bool(drips.closed_after_s),
        ),
        Verdict("the longest of them, s", f"{longest_s:.2f}", f"<= {most_s:g}", 0 < longest_s <= most_s),
        Verdict("load generator late, p99 ms", f"{seen.without.lag_p99_ms:.1f} -> {seen.beside.lag_p99_ms:.1f}"),
        Verdict(
            "answers to them",
            f"{dict(drips.answers)}; not let in: {drips.refused}",
            "408",
            set(drips.answers) == {408} and not drips.refused,
        ),
    ]


async def run(cores: Cores, console: Console, options: argparse.Namespace) -> int:
    async with open_scene(cores, Slowness(fsync_ms=0)) as scene:
        environment = await describe(scene.ground)
        seen = await slow_clients(
            scene,
            options.connections,
            rate_per_s=options.rate_per_s,
            seconds=options.seconds,
            seed=options.seed,
            slow=SLOW[options.slow],
        )
        wrong = show_findings(await scene.check())
    kept = verdicts.report(
        console,
        f"{options.connections} connections that send {options.slow} a byte a second, "
        f"{options.rate_per_s:g} claims a second beside them",
        judge(seen),
        options.json,
        environment,
        without=seen.without.facts(),
        beside=seen.beside.facts(),
    )
    return 0 if kept and not wrong else 1


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = commands.parser_of("loadtest.openloop.slow_clients", __doc__, seconds=15.0)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="that are slow, at a time")
    parser.add_argument("--rate-per-s", type=float, default=RATE_PER_S, help="claims of others a second")
    parser.add_argument("--slow", choices=tuple(SLOW), default=HEADS.name, help="what comes a byte a second")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    return commands.start(run, read_options(arguments))


if __name__ == "__main__":
    sys.exit(main())
