"""One failover under load: what was promised, and what of it the ledger still has when it is over.

A promise is a claim's answer `held` or `exists`. Whoever gets no definite answer asks again with the same
reservation id, as a person does with the same Idempotency-Key; nobody counts on what was not promised.
"""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from loadtest.checker import check
from loadtest.evidence import read_ledger
from loadtest.ha.servers import Servers, running_servers
from loadtest.program import PROGRAM, program_file
from loadtest.rules import Rule
from reservasi.bootstrap import Operations, open_operations, open_worker
from reservasi.cli.programs import import_program
from reservasi.errors import ReservasiError, Unavailable
from reservasi.ledger.acknowledging import Acks, acks_wanted
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.library import read_library
from reservasi.model import Claim, Outcome
from reservasi.programs import read_program
from reservasi.records.upgrades import upgrade
from reservasi.settings import Settings

QUOTAS, PLACES = 10, 2000
CLIENTS = 24
WARM_UP = 200  # promises before the fault
PAUSE_S = 0.03
RETRY_S = 0.1
HEAL_TIMEOUT_S = 30.0
LAG_S = 0.3
PARTED_S = 1.5  # how long claims go on at the primary that was cut off
TOMBSTONE_MS = 86_400_000


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer waits for."""

    name: str
    replicas: int = 0
    aof: str = "off"
    promises: bool = False  # that nothing promised is lost

    @property
    def settings(self) -> dict[str, object]:
        """As the service is given them."""
        return {"replicas_min_ack": self.replicas, "aof_ack": self.aof, "replicas_ack_timeout_ms": self.timeout_ms}

    @property
    def timeout_ms(self) -> int:
        """A replica tells of its file once a second, where the question came with the change."""
        return 1500 if self.aof == "replicas" else 300


ASYNC = Mode(name="nobody (default)")
ONE = Mode(name="1 replica", replicas=1)
ALL = Mode(name="both replicas", replicas=2, promises=True)
SYNCED = Mode(name="both replicas, synced", replicas=2, aof="replicas", promises=True)
MODES = (ASYNC, ONE, ALL, SYNCED)


class Outcomes(msgspec.Struct, kw_only=True):
    """What a run showed."""

    promised: int = 0
    lost: int = 0
    refused: int = 0  # answers that were not definite
    promised_apart: int = 0  # promises that the old primary's front gave after it was cut off
    oversold: int = 0
    others: list[str] = []  # what else the checker found, the loss of unpromised changes apart
    outage_s: float = 0.0  # from the fault to the next promise of those who follow the sentinels


@dataclass(kw_only=True)
class Scene:
    """Servers, worker and two fronts: one follows the sentinels, one knows only the first primary."""

    servers: Servers
    operations: Operations
    front: GroupCommit
    old_front: GroupCommit
    quotas: list[str]
    promised: dict[str, float] = field(default_factory=dict)  # reservation id -> when
    outcomes: Outcomes = field(default_factory=Outcomes)
    moved: asyncio.Event = field(default_factory=asyncio.Event)  # set: people come to the front that follows
    parted: bool = False
    stop: bool = False
    number: int = 0

    async def person(self, *, stays: bool = False) -> None:
        """One person after another, until it is over; with `stays` they keep to the old primary's front."""
        while not self.stop:
            self.number += 1
            claim = Claim(
                reservation_id=f"ha-{self.number}",
                quota=self.quotas[self.number % len(self.quotas)],
                fingerprint="f",
                sealed="k1.sealed",
                persons=(f"person-{self.number}",),
            )
            await self._claim(claim, stays=stays)
            await asyncio.sleep(PAUSE_S)

    async def _claim(self, claim: Claim, *, stays: bool) -> None:
        while not self.stop:
            at_old = stays or not self.moved.is_set()
            try:
                answer = await (self.old_front if at_old else self.front).submit(claim)
            except Unavailable:
                self.outcomes.refused += 1
                await asyncio.sleep(RETRY_S)
                continue
            if answer.outcome in (Outcome.HELD, Outcome.EXISTS):
                self.promised[claim.reservation_id] = time.monotonic()
                self.outcomes.promised_apart += self.parted and at_old
            return

    async def warm(self) -> None:
        """Wait until so many have been served."""
        await self.servers.until(self._is_warm, "the first promises")

    async def _is_warm(self) -> bool:
        return len(self.promised) >= WARM_UP

    async def owned_again(self) -> None:
        """Wait until the ledger that the sentinels name sells."""

        async def sells() -> bool:
            try:
                return await read_ledger_position(self) is not None
            except (ReservasiError, OSError):
                return False

        await self.servers.until(sells, "an owned ledger")


async def read_ledger_position(scene: Scene) -> object:
    """Anything of the ledger, None while it is fenced."""
    connection = scene.operations.ledgers.connection(PROGRAM)
    try:
        return await connection.snapshot(2.0)
    finally:
        await connection.drop()


Fault = Callable[[Scene], Coroutine[Any, Any, None]]


async def kill(scene: Scene) -> None:
    """SIGKILL of the primary."""
    await scene.servers.kill(scene.servers.primary)


async def lag_and_kill(scene: Scene) -> None:
    """The network holds back what the primary says to its replicas; then the primary is killed."""
    scene.servers.gate.hold()
    await asyncio.sleep(LAG_S)
    await scene.servers.kill(scene.servers.primary)
    scene.servers.gate.shut()


async def partition(scene: Scene) -> None:
    """The primary is cut off from replicas, sentinels and worker, and one front stays with it."""
    scene.servers.gate.shut()
    scene.parted = True
    stayed = [asyncio.create_task(scene.person(stays=True)) for _ in range(CLIENTS // 4)]
    await scene.servers.until_promoted()
    await asyncio.sleep(PARTED_S)
    for task in stayed:
        task.cancel()
    await asyncio.gather(*stayed, return_exceptions=True)
    scene.servers.gate.open()
    await scene.servers.until_replica(scene.servers.primary)


FAULTS: dict[str, Fault] = {"kill -9": kill, "slow link, kill -9": lag_and_kill, "partition": partition}


@asynccontextmanager
async def open_scene(servers: Servers, dsn: str, directory: Path, mode: Mode) -> AsyncIterator[Scene]:
    """A program with more places than people, its worker and both fronts."""
    settings = Settings(redis_url=servers.url, postgres_dsn=dsn, data_dir=directory, **mode.settings)  # type: ignore[arg-type]
    await upgrade(dsn)
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)
    file = directory / "program.toml"
    file.write_text(program_file(QUOTAS, PLACES, day, 7200, PROGRAM))
    async with AsyncExitStack() as stack:
        operations = await stack.enter_async_context(open_operations(settings))
        await import_program(operations, read_program(file), day, day, open_now=True, quiet=True)
        await stack.enter_async_context(open_worker(settings))
        front = operations.ledgers.group(PROGRAM)
        acks = acks_wanted(replicas=mode.replicas, timeout_ms=mode.timeout_ms, aof=mode.aof)  # type: ignore[arg-type]
        old_front = _front_of_old(servers, acks)
        for group in (front, old_front):
            group.start()
            stack.push_async_callback(group.close)
        ledger = await read_ledger(servers.url, PROGRAM)
        assert ledger is not None
        yield Scene(
            servers=servers, operations=operations, front=front, old_front=old_front, quotas=sorted(ledger.quotas)
        )


def _front_of_old(servers: Servers, acks: Acks | None) -> GroupCommit:
    return GroupCommit(
        LedgerConnection(servers.direct_url, PROGRAM, read_library(), acks),
        batch_items_max=256,
        queue_items_max=5000,
        command_timeout_ms=3000,
        tombstone_ms=TOMBSTONE_MS,
        queue_delay_target_ms=1000,
    )


async def run(fault: Fault, mode: Mode, dsn: str, directory: Path) -> Outcomes:
    """A fault in the middle of claims; who was served by then, and afterwards, must still have it."""
    async with running_servers() as servers, open_scene(servers, dsn, directory, mode) as scene:
        people = [asyncio.create_task(scene.person()) for _ in range(CLIENTS)]
        try:
            await scene.warm()
            if fault is kill:  # everybody follows the sentinels from the start
                scene.moved.set()
                await asyncio.sleep(LAG_S)
            strike = asyncio.create_task(fault(scene))
            begun_s = time.monotonic()
            if fault is not partition:
                await strike
            scene.moved.set()
            await servers.until_promoted()
            await scene.owned_again()
            await strike
            if fault is not partition:  # the dead one comes back, believes to be the primary, and is made a replica
                servers.gate.open()
                await servers.start_ledger(servers.primary)
                await servers.until_replica(servers.primary)
            served = len(scene.promised)
            await servers.until(_more_than(scene, served), "promises after it")
        finally:
            scene.stop = True
            await asyncio.wait(people, timeout=HEAL_TIMEOUT_S)
            for task in people:
                task.cancel()
        outcomes = scene.outcomes
        outcomes.outage_s = _outage_s(scene, begun_s)
        outcomes.promised = len(scene.promised)
        await _judge(scene, dsn)
        return outcomes


def _more_than(scene: Scene, served: int) -> Callable[[], Awaitable[bool]]:
    async def more() -> bool:
        return len(scene.promised) > served + CLIENTS

    return more


def _outage_s(scene: Scene, begun_s: float) -> float:
    """The longest time between two promises after the fault, those of the old primary's front included."""
    times = sorted(at for at in scene.promised.values() if at >= begun_s)
    return max((later - before for before, later in zip([begun_s, *times], times, strict=False)), default=0.0)


async def _judge(scene: Scene, dsn: str) -> None:
    (finding,) = await check(scene.servers.url, dsn, programs=[PROGRAM])
    ledger = await read_ledger(scene.servers.url, PROGRAM)
    assert ledger is not None
    scene.outcomes.lost = len(scene.promised.keys() - ledger.reservations.keys())
    oversold = (Rule.OVERSOLD, Rule.TWO_LIVE, Rule.BOOKING_DOUBLED)
    scene.outcomes.oversold = sum(violation.rule in oversold for violation in finding.violations)
    scene.outcomes.others = [str(violation) for violation in finding.violations if violation.rule not in oversold][:5]
