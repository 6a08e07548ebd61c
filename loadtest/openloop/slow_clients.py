"""`make slow-clients`: thousands of connections that send a byte a second, and what everybody else notices of them.

They never get to the end of a request's head, or of its body. The same timetable is run without and with them. Exit
code 0: all bounds were kept.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rich.console import Console

from loadtest.bench.ground import describe
from loadtest.checker.check import show as show_findings
from loadtest.openloop import commands
from loadtest.openloop.outcomes import HELD, Outcomes
from loadtest.openloop.scene import Scene, Slowness, open_scene
from loadtest.stage import verdicts
from loadtest.stage.cores import Cores
from loadtest.stage.http import HOST, Answer, Connection, UnreadableAnswer
from loadtest.stage.verdicts import Verdict

CONNECTIONS = 5000
RATE_PER_S = 500.0
CLOSING_SLACK_S = 1.0  # the service looks now and then, and a busy machine is late
OPENING_TIMEOUT_S = 60.0
P99_FACTOR = 2.0  # how much longer the others may take,
P99_SLACK_MS = 20.0  # beyond what this adds
PACE_S = 1.0
LEFT_S = 10.0  # beyond the service's own bound, until what is still open counts as left open
_BEGINNING = (
    b"POST /v1/reservations HTTP/1.1\r\nHost: slow.example\r\nContent-Type: application/json\r\n"
    b"Idempotency-Key: slow-slow-slow-slow\r\n"
)
HEADS, BODIES = "heads", "bodies"
SLOW = {  # what is sent at once, and what is sent slowly
    HEADS: (_BEGINNING[:1], _BEGINNING[1:] + b"X-Patience: " + b"a" * 4096),
    BODIES: (_BEGINNING + b"Content-Length: 4096\r\n\r\n{", b" " * 4000),
}


class Drips:
    """A number of slow connections: for each that the service closes another one is opened, until told to stop."""

    def __init__(self, port: int, slow: str) -> None:
        self.closed_after_s: list[float] = []  # since the first byte, by the service
        self.answers: Counter[int] = Counter()
        self.refused = 0  # connections that were not taken at all
        self.left_open = 0
        self.slow = slow
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def add(self) -> None:
        drip = await self._connect()
        self._tasks.add(asyncio.create_task(self._keep(drip)))

    async def _connect(self) -> "_Drip | None":
        try:
            _, drip = await asyncio.get_running_loop().create_connection(lambda: _Drip(self), HOST, self._port)
        except OSError:
            self.refused += 1
            return None
        return drip

    async def _keep(self, drip: "_Drip | None") -> None:
        try:
            while drip is not None:
                await drip.closed.wait()
                self.closed_after_s.append(time.monotonic() - drip.since_s)
                drip = None if self._stopping else await self._connect()
        finally:
            if drip is not None:
                drip.close()

    async def stop(self, bound_s: float) -> None:
        """Open no more, and wait whether the service ends those that are open."""
        self._stopping = True
        _, left = await asyncio.wait(self._tasks, timeout=bound_s + LEFT_S)
        self.left_open = len(left)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Drip(Connection):
    def __init__(self, drips: Drips) -> None:
        super().__init__()
        self.closed = asyncio.Event()
        self.since_s = time.monotonic()
        self._answers = drips.answers
        self._at_once, rest = SLOW[drips.slow]
        self._rest = iter(rest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.write(self._at_once)
        asyncio.get_running_loop().call_later(random.uniform(0, PACE_S), self._send_byte)  # not all at once

    def _send_byte(self) -> None:
        byte = next(self._rest, None)
        if self.transport is not None and not self.transport.is_closing() and byte is not None:
            self.transport.write(bytes((byte,)))
            asyncio.get_running_loop().call_later(PACE_S, self._send_byte)

    def answered(self, answer: Answer) -> None:
        self._answers[answer.status] += 1

    def lost(self, error: UnreadableAnswer) -> None:
        self.closed.set()


@asynccontextmanager
async def dripping(port: int, connections: int, timeout_s: float, slow: str = HEADS) -> AsyncIterator[Drips]:
    """Open all slow connections before the block begins, and keep them sending slowly until it ends."""
    drips = Drips(port, slow)
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(connections):
                await drips.add()
        yield drips
    finally:
        await drips.close()


@dataclass(frozen=True, kw_only=True)
class SlowClients:
    without: Outcomes
    beside: Outcomes
    drips: Drips
    bound_s: float  # the service's own time limit of a head, or of a body


async def slow_clients(
    scene: Scene, connections: int, *, rate_per_s: float, seconds: float, seed: int = 0, slow: str = HEADS
) -> SlowClients:
    """Claims by the same timetable without and with slow connections; at the end the service must have ended these."""
    settings = scene.ground.settings
    bound_s = (settings.head_timeout_ms if slow == HEADS else settings.body_timeout_ms) / 1000
    await scene.offer(rate_per_s, min(seconds, 2.0), seed)  # warm
    without = await scene.offer(rate_per_s, seconds, seed)
    async with dripping(scene.ours.port, connections, OPENING_TIMEOUT_S, slow) as drips:
        beside = await scene.offer(rate_per_s, seconds, seed)
        await drips.stop(bound_s)
    return SlowClients(without=without, beside=beside, drips=drips, bound_s=bound_s)


def judge(result: SlowClients) -> list[Verdict]:
    drips, others = result.drips, result.beside.latency_ms(HELD)
    before = result.without.latency_ms(HELD)
    p99_most = before["p99"] * P99_FACTOR + P99_SLACK_MS
    longest_s = max(drips.closed_after_s, default=0.0)
    most_s = result.bound_s + CLOSING_SLACK_S
    return [
        Verdict(
            "claims of others that got their place",
            f"{result.beside.counts[HELD]} of {result.beside.offered}",
            "all",
            result.beside.counts[HELD] == result.beside.offered,
        ),
        Verdict(
            "their latency, ms",
            ", ".join(f"{name} {before[name]:.1f} -> {ms:.1f}" for name, ms in others.items()),
            f"p99 <= {p99_most:.1f}",
            others.get("p99", float("inf")) <= p99_most,
        ),
        Verdict(
            "slow connections closed by the service",
            f"{len(drips.closed_after_s)}; left open {drips.left_open}",
            "all",
            drips.left_open == 0 and bool(drips.closed_after_s),
        ),
        Verdict("the longest of them, s", f"{longest_s:.2f}", f"<= {most_s:g}", 0 < longest_s <= most_s),
        Verdict("load generator late, p99 ms", f"{result.without.lag_p99_ms:.1f} -> {result.beside.lag_p99_ms:.1f}"),
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
        result = await slow_clients(
            scene,
            options.connections,
            rate_per_s=options.rate_per_s,
            seconds=options.seconds,
            seed=options.seed,
            slow=options.slow,
        )
        wrong = show_findings(await scene.check())
    kept = verdicts.report(
        console,
        f"{options.connections} connections that send {options.slow} a byte a second, "
        f"{options.rate_per_s:g} claims a second beside them",
        judge(result),
        options.json,
        environment,
    )
    return 0 if kept and not wrong else 1


if __name__ == "__main__":
    parser = commands.parser_of("loadtest.openloop.slow_clients", __doc__, seconds=15.0)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="that are slow, at a time")
    parser.add_argument("--rate-per-s", type=float, default=RATE_PER_S, help="claims of others a second")
    parser.add_argument("--slow", choices=tuple(SLOW), default=HEADS, help="what comes a byte a second")
    sys.exit(commands.start(run, parser))
