"""Fronts and worker as processes, the ledgers of their programs spread over a real cluster, the records in PostgreSQL."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.checker.check import Finding, check
from loadtest.crowd.crowd import Crowd
from loadtest.crowd.scenario import Plan, Result
from loadtest.stage.cluster import LocalCluster, local_cluster
from loadtest.stage.processes import Process, running, until
from loadtest.stage.program import program_file
from reservasi.bootstrap.commands import open_operations
from reservasi.cli.importing import import_program
from reservasi.ledger.topology.cluster import slot_of
from reservasi.programs.files import read_program
from reservasi.settings import Settings

PROGRAMS = ("alfa", "beta", "gamma", "delta")  # of the three primaries, two share one
QUOTAS, PLACES = 3, 10
PEOPLE, AT_ONCE = 40, 5  # of a program, for its 30 places
HELD_BEFORE = 8  # places of the program whose primary is killed
HOLD_S = 7200
HEAL_TIMEOUT_S = 60.0
OWNED, EPOCH = "reservasi_ledger_owned", "reservasi_ledger_epoch"


@dataclass(kw_only=True)
class Service:
    """What runs, and who comes."""

    cluster: LocalCluster
    settings: Settings
    worker: Process
    crowds: dict[str, Crowd]

    def come(self) -> list[asyncio.Task[None]]:
        """Let a crowd come to each program."""
        return [asyncio.create_task(crowd.run()) for crowd in self.crowds.values()]

    async def until_owned(self, program: str, epoch: int) -> None:
        """Wait until the worker says that it owns the program's ledger, under that epoch or a later one."""

        async def is_owned() -> bool:
            owned, now = [await self.worker.metric(name, program) for name in (OWNED, EPOCH)]
            return owned == 1 and (now or 0) >= epoch

        await until(is_owned, f"the owner of {program}", HEAL_TIMEOUT_S)

    async def judged(self, program: str) -> Finding:
        """What the checker sees in the program's own primary, in the records, and in what its people were told."""
        node = await self.cluster.node_of(slot_of(program))
        (finding,) = await check(
            f"redis://127.0.0.1:{node.port}",
            self.settings.postgres_dsn,
            self.crowds[program].history,
            [program],
            recorded_timeout_s=HEAL_TIMEOUT_S,
        )
        return finding

    def assert_all_were_answered(self) -> None:
        """Nobody was left without a definite answer, and none was surprised by one."""
        for crowd in self.crowds.values():
            assert crowd.results.total() == PEOPLE
            assert not crowd.results.keys() & {Result.SURPRISED, Result.UNANSWERED, Result.CONFIRMING}


@asynccontextmanager
async def serving(cluster: LocalCluster, database: str, data_dir: Path, **changes: int) -> AsyncIterator[Service]:
    """A front and a worker on the cluster, with every program imported and owned."""
    settings = Settings(redis_url=cluster.url, postgres_dsn=database, data_dir=data_dir).model_copy(update=changes)
    await _import(settings, PROGRAMS)
    async with running("worker", settings, **changes) as worker, running("api", settings, **changes) as front:
        crowds = {
            program: Crowd(front.url, Plan(program=program, people=PEOPLE, think_s_max=0.5), at_once=AT_ONCE)
            for program in PROGRAMS
        }
        service = Service(cluster=cluster, settings=settings, worker=worker, crowds=crowds)
        for program in PROGRAMS:
            await service.until_owned(program, 1)
        yield service


async def _import(settings: Settings, programs: Sequence[str]) -> None:
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)
    async with open_operations(settings) as operations:
        for program in programs:
            file = settings.data_dir / f"{program}.toml"
            file.write_text(program_file(QUOTAS, PLACES, day, HOLD_S, program))
            await import_program(operations, read_program(file), day, day, open_now=True, quiet=True)


def _held(crowd: Crowd) -> int:
    return sum(exchange.call == "claim" and exchange.outcome == 201 for exchange in crowd.history)


async def test_what_was_promised_over_http_outlives_a_primary_that_is_killed_under_load(
    database: str, data_dir: Path
) -> None:
    acks = {"replicas_min_ack": 1, "replicas_ack_timeout_ms": 200}
    async with local_cluster() as cluster, serving(cluster, database, data_dir, **acks) as service:
        primaries = {program: await cluster.node_of(slot_of(program)) for program in PROGRAMS}
        assert len({node.port for node in primaries.values()}) == len(cluster.primaries)
        killed = primaries["alfa"]
        visits = service.come()

        async def is_under_load() -> bool:
            return _held(service.crowds["alfa"]) >= HELD_BEFORE

        await until(is_under_load, f"{HELD_BEFORE} held places", HEAL_TIMEOUT_S)
        killed.kill()
        await asyncio.gather(*visits)

        service.assert_all_were_answered()
        for program, primary in primaries.items():
            await service.until_owned(program, 2 if primary is killed else 1)
            finding = await service.judged(program)
            assert finding.violations == ()
            assert finding.capacity == QUOTAS * PLACES
            assert finding.booked == finding.confirmed > 0
