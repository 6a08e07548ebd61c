"""What fronts cost while nothing happens: each asks how far every program is, the more often the more it matters."""

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from loadtest.scale_out.cluster import LocalCluster
from loadtest.scale_out.followers import following
from loadtest.scale_out.measuring import Case, Sizes, clear, opened
from loadtest.scale_out.offices import new_names

NAME = "idle"
TITLE = "Nobody claims: processor time in microseconds a second, six programs on one primary"
CASE = Case(name="idle")
FRONTS = 16
REST, WANTED = "at rest", "sold out and still wanted"
WAYS = {REST: False, WANTED: True}  # and whether somebody could be refused from memory all the time


@dataclass(frozen=True, kw_only=True)
class Idle:
    """What one measurement showed, a second."""

    valkey_us: float  # followed by nobody
    valkey_more_us: float  # for each program that each further front follows
    follower_us: float  # of a front, for each program that it follows


@dataclass(frozen=True, kw_only=True)
class IdleResult:
    """What the rounds showed."""

    rounds: tuple[dict[str, Idle], ...]  # by way

    def median(self, way: str, figure: str) -> float:
        """The middle one of a figure's values."""
        return float(statistics.median(getattr(idle[way], figure) for idle in self.rounds))


async def run(cluster: LocalCluster, sizes: Sizes, say: Callable[[str], None]) -> IdleResult:
    """Measure it round by round."""
    rounds = []
    for number in range(1, sizes.rounds + 1):
        say(f"{NAME}: round {number} of {sizes.rounds}")
        rounds.append({way: await _measure(cluster, sizes, wanted) for way, wanted in WAYS.items()})
    return IdleResult(rounds=tuple(rounds))


async def _measure(cluster: LocalCluster, sizes: Sizes, wanted: bool) -> Idle:
    names = list(islice(new_names(len(cluster.primaries)), len(CASE.shares)))
    try:
        async with opened(cluster, CASE, sizes, names, [sizes.quotas] * len(names)):
            (alone_us,) = await _a_second(sizes.idle_s, _valkey(cluster))
            async with following(cluster.url, names, FRONTS, wanted=wanted) as followers:
                valkey_us, followers_us = await _a_second(sizes.idle_s, _valkey(cluster), followers.cpu_s)
    finally:
        await clear(cluster)
    followed = FRONTS * len(names)
    return Idle(
        valkey_us=alone_us, valkey_more_us=(valkey_us - alone_us) / followed, follower_us=followers_us / followed
    )


def _valkey(cluster: LocalCluster) -> Callable[[], float]:
    return lambda: sum(node.cpu_s() for node in cluster.primaries)


async def _a_second(seconds: float, *used_s: Callable[[], float]) -> list[float]:
    """What is used in a second, in microseconds."""
    loop = asyncio.get_running_loop()
    since, before = loop.time(), [used() for used in used_s]
    await asyncio.sleep(seconds)
    took_s = loop.time() - since
    return [(used() - earlier) / took_s * 1e6 for used, earlier in zip(used_s, before, strict=True)]
