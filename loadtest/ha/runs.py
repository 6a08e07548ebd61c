"""Failovers under a crowd that comes over HTTP, and what is left of its promises when they are over.

Promised is what got a definite answer: a place (201), a confirmation or a cancellation (200). An answer that says "on
its way" (202) promises nothing; whoever gets it, or 503, or none, asks again, as the crowd does. The checker judges:
what was promised must be in the new primary's ledger, and what was confirmed in PostgreSQL as well.
"""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec

from loadtest.checker.check import check
from loadtest.checker.history import Exchange
from loadtest.checker.rules import LOST, OVERSOLD, Violation
from loadtest.crowd.scenario import Result
from loadtest.ha.gates import Gates, open_gates
from loadtest.ha.scene import Scene, answered, is_promise, now_ms, open_scene
from loadtest.ha.servers import OpenNetwork, running_servers
from loadtest.stage.program import PROGRAM

MEANWHILE = 12  # claims answered between a fault's first half and its second
VISITS_TIMEOUT_S = 90.0
ACCEPTED, UNAVAILABLE = 202, 503
UNEXPECTED = frozenset({Result.UNANSWERED, Result.SURPRISED, Result.CONFIRMING})
SHOWN_MAX = 5


# -- what happens to the primary while people claim, confirm and cancel ------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    strike: Callable[[Scene], Awaitable[None]]
    safe_from: int = 1  # replicas that must acknowledge for nothing promised to be lost
    by_gates: bool = False  # no other network can do it


async def _kill(scene: Scene) -> None:
    await scene.servers.kill(scene.servers.first)
    await _came_back(scene)


async def _lag_and_kill(scene: Scene) -> None:
    gates, first = scene.servers.network, scene.servers.first
    assert isinstance(gates, Gates), "a kernel still sends what a killed server wrote"
    gates.hold_back(first)
    scene.some_stay()
    await answered(scene.staying, MEANWHILE)
    await scene.servers.kill(first)
    await gates.forget(first)
    scene.rejoin()
    await _came_back(scene)


async def _came_back(scene: Scene) -> None:
    """The dead one is started again, believes to be the primary, and is made a replica.

    Not before the sentinels name the new one: the worker could record what the old one alone has.
    """
    await scene.servers.until_promoted()
    await scene.servers.until_announced()
    await scene.servers.start_ledger(scene.servers.first)
    await scene.servers.until_replica(scene.servers.first)


async def _part(staying: int, scene: Scene) -> None:
    """Some people, their front and replicas stay with the first primary; records, worker and sentinels do not."""
    servers = scene.servers
    servers.part(*servers.replicas[:staying])
    scene.some_stay()
    await servers.until_promoted()
    await answered(scene.crowd, MEANWHILE)
    scene.rejoin()
    await servers.until_replica(servers.first)


KILL = Fault(name="kill -9 of the primary", strike=_kill)
LAG_AND_KILL = Fault(name="kill -9 behind a slow link", strike=_lag_and_kill, by_gates=True)
PART_ALONE = Fault(name="partition, the old primary alone", strike=partial(_part, 0))
PART_WITH_REPLICA = Fault(name="partition, a replica with the old primary", strike=partial(_part, 1), safe_from=2)
FAULTS = (KILL, LAG_AND_KILL, PART_ALONE, PART_WITH_REPLICA)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What an answer waits for before it is given."""

    name: str
    replicas: int = 0
    aof: str = "off"

    @property
    def settings(self) -> dict[str, object]:
        timeout_ms = 1500 if self.aof == "replicas" else 300
        return {"replicas_min_ack": self.replicas, "aof_ack": self.aof, "replicas_ack_timeout_ms": timeout_ms}


NOBODY = Mode(name="nobody (default)")
ONE = Mode(name="1 of 2 replicas", replicas=1)
ALL = Mode(name="both replicas", replicas=2)
SYNCED = Mode(name="both replicas, synced", replicas=2, aof="replicas")
MODES = (NOBODY, ONE, ALL, SYNCED)


# -- one run -----------------------------------------------------------------------------------------------------------


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    promised: int  # places
    confirmed: int  # of them, by the answers
    apart: int  # places promised by the old primary's front after it was cut off
    refused: int  # answers 503
    lost: int  # promised, and not there
    oversold: int
    outage_s: float  # from the strike, the longest time between two places promised by the fronts on the far side
    others: tuple[str, ...]  # what else was found: wrong where nothing may be lost


async def run(
    fault: Fault, mode: Mode, postgres_dsn: str, *, open_network: OpenNetwork = open_gates, hasty: bool = False
) -> Outcomes:
    """Let a fault strike in the middle of a sale, whose records are a database of its own on that server."""
    with tempfile.TemporaryDirectory(prefix="rv-ha-") as directory:
        async with (
            _own_database(postgres_dsn) as dsn,
            running_servers(open_network, hasty=hasty) as servers,
            open_scene(servers, dsn, Path(directory), **mode.settings) as scene,
        ):
            return await _run(scene, fault, dsn)


async def _run(scene: Scene, fault: Fault, dsn: str) -> Outcomes:
    scene.come()
    await scene.warm()
    begun_ms = now_ms()
    await fault.strike(scene)
    async with asyncio.timeout(VISITS_TIMEOUT_S):
        await asyncio.gather(*scene.visits)
    return await _judged(scene, begun_ms, dsn)


@asynccontextmanager
async def _own_database(postgres_dsn: str) -> AsyncIterator[str]:
    """The DSN of an empty database, gone when the block ends."""
    name = f"ha_{secrets.token_hex(6)}"
    server = await asyncpg.connect(postgres_dsn)
    try:
        await server.execute(f'CREATE DATABASE "{name}"')
        yield urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
        await server.execute(f'DROP DATABASE "{name}"')
    finally:
        await server.close()


async def _judged(scene: Scene, begun_ms: float, dsn: str) -> Outcomes:
    history = scene.history
    (finding,) = await check(scene.servers.url, dsn, list(map(_as_promised, history)), programs=[PROGRAM])
    lost = {violation.subject for violation in finding.violations if violation.rule in LOST}
    results = scene.crowd.results + scene.staying.results
    others = [str(violation) for violation in finding.violations if violation.rule not in LOST | OVERSOLD]
    others += [f"{results[result]} people {result}" for result in UNEXPECTED if results[result]]
    return Outcomes(
        promised=len(_ids(filter(is_promise, history))),
        confirmed=len(_ids(e for e in history if (e.call, e.outcome) == ("confirm", 200))),
        apart=len(_ids(filter(scene.is_apart, scene.staying.history))),
        refused=sum(exchange.outcome == UNAVAILABLE for exchange in history),
        lost=len(lost),
        oversold=sum(_is_oversold(violation, lost) for violation in finding.violations),
        outage_s=_outage_s(scene.crowd.history, begun_ms),
        others=tuple(others[:SHOWN_MAX]),
    )


def _is_oversold(violation: Violation, lost: set[str]) -> bool:
    """Whether something was sold twice; a person who takes another place instead of a lost one has only one."""
    return violation.rule in OVERSOLD and not any(id_ in violation.detail for id_ in lost)


def _as_promised(exchange: Exchange) -> Exchange:
    """What is "on its way" counts as no answer."""
    on_its_way = exchange.outcome == ACCEPTED
    return msgspec.structs.replace(exchange, outcome=UNAVAILABLE, body={}) if on_its_way else exchange


def _ids(exchanges: Iterable[Exchange]) -> set[str]:
    return {exchange.reservation_id or str(exchange.body["id"]) for exchange in exchanges}


def _outage_s(history: Sequence[Exchange], begun_ms: float) -> float:
    times = sorted(e.answered_ms for e in history if is_promise(e) and e.answered_ms >= begun_ms)
    gaps = (later - before for before, later in zip([begun_ms, *times], times, strict=False))
    return max(gaps, default=0.0) / 1000
