"""Stores, worker and two fronts, and the people who come to them.

One front is on the far side of the network, the other one on the near side, with the first primary. People who stay
with the near front come through a side door, which leads to the other front once the fault is over.
"""

import asyncio
import datetime as dt
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loadtest.checker.history import NO_ANSWER, Exchange
from loadtest.crowd.crowd import Crowd
from loadtest.crowd.scenario import Plan
from loadtest.ha.gates import HOST, Gate
from loadtest.ha.servers import Servers
from loadtest.stage.processes import Process, started, until
from loadtest.stage.program import PROGRAM, program_file
from reservasi.bootstrap.commands import open_operations
from reservasi.cli.importing import import_program
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.programs.files import read_program
from reservasi.records.upgrades import upgrade
from reservasi.settings import Settings

QUOTAS, PLACES = 10, 20
PEOPLE, AT_ONCE = 240, 24
STAYING, STAYING_AT_ONCE = 60, 12
LEAVING_SHARE = 0.6  # of the people who stay; one who leaves with a hold makes room for the next claim
STAYING_FIRST = 10_000  # numbers of those who stay with the old primary
WARM_UP = 60  # reservations before the fault
WARM_UP_TIMEOUT_S = 90.0
THINK_S_MAX = 0.3
HOLD_S = 7200
DAYS_AHEAD = 2
_UPGRADING = asyncio.Lock()  # Alembic's environment is one for the whole process


@dataclass(kw_only=True)
class Scene:
    servers: Servers
    front: Process  # the one on the far side
    side_door: Gate  # for the people who stay with the old primary
    crowd: Crowd
    staying: Crowd
    visits: list[asyncio.Task[None]] = field(default_factory=list)
    parted_ms: float = 0.0
    rejoined_ms: float = 0.0  # 0: they are apart yet

    @property
    def history(self) -> list[Exchange]:
        return [*self.crowd.history, *self.staying.history]

    def come(self) -> None:
        self.visits.append(asyncio.create_task(self.crowd.run()))

    def some_stay(self) -> None:
        """From now on, some people come to the near front only."""
        self.parted_ms = now_ms()
        self.visits.append(asyncio.create_task(self.staying.run()))

    def rejoin(self) -> None:
        """Everybody reaches everybody again, and nobody comes to the near front any more."""
        self.rejoined_ms = now_ms()
        self.servers.network.join()
        self.side_door.lead_to(self.front.port)

    def is_apart(self, exchange: Exchange) -> bool:
        """Whether a place was promised by the near front while it was cut off."""
        during = self.parted_ms <= exchange.sent_ms and exchange.answered_ms <= self.rejoined_ms
        return during and is_promise(exchange)

    async def warm(self) -> None:

        async def is_warm() -> bool:
            return sum(map(is_promise, self.crowd.history)) >= WARM_UP

        try:
            await until(is_warm, "the first reservations", WARM_UP_TIMEOUT_S)
        except TimeoutError as error:
            met = Counter((exchange.call, exchange.outcome) for exchange in self.crowd.history)
            raise TimeoutError(f"{error}; people met {dict(met)}") from error


async def answered(crowd: Crowd, count: int) -> None:
    begun_ms = now_ms()

    async def are_answered() -> bool:
        later = [exchange for exchange in crowd.history if exchange.sent_ms >= begun_ms]
        return sum(exchange.call == "claim" and exchange.outcome != NO_ANSWER for exchange in later) >= count

    await until(are_answered, f"{count} answers")


def now_ms() -> float:
    return time.time() * 1000


def is_promise(exchange: Exchange) -> bool:
    return (exchange.call, exchange.outcome) == ("claim", 201)


@asynccontextmanager
async def open_scene(servers: Servers, dsn: str, directory: Path, **changes: Any) -> AsyncIterator[Scene]:
    """A program with fewer places than people, whose service is ready; nobody has come yet."""
    settings = Settings(
        redis_url=servers.url, postgres_dsn=dsn, data_dir=directory, catalogue_refresh_ms=200, log_format="json",
        **changes,
    )  # fmt: skip
    async with _UPGRADING:
        await upgrade(dsn)
    await _import(settings)
    async with AsyncExitStack() as stack:
        socket, database = _parts(dsn)
        records = await servers.network.lead_to_records(lambda: asyncio.open_unix_connection(socket))
        far_dsn = f"postgresql://{urlsplit(dsn).username}@{records}/{database}"
        worker = await stack.enter_async_context(started("worker", settings))
        front = await stack.enter_async_context(started("api", settings))
        old = await stack.enter_async_context(
            started("api", settings, servers.network.near, redis_url=servers.near_url, postgres_dsn=far_dsn)
        )
        for process in (worker, front, old):
            await process.until_ready()
        side_door = Gate.to(old.port, old.host.address)
        await side_door.start()
        stack.push_async_callback(side_door.close)
        people = Plan(program=PROGRAM, people=PEOPLE, think_s_max=THINK_S_MAX)
        staying = Plan(
            program=PROGRAM, people=STAYING, first=STAYING_FIRST, think_s_max=THINK_S_MAX, abandon_share=LEAVING_SHARE
        )
        scene = Scene(
            servers=servers,
            front=front,
            side_door=side_door,
            crowd=Crowd(front.url, people, at_once=AT_ONCE),
            staying=Crowd(f"http://{HOST}:{side_door.port}", staying, at_once=STAYING_AT_ONCE),
        )
        try:
            yield scene
        finally:
            await end_tasks(scene.visits)
            for process in (worker, front, old):  # all at once
                process.tell_to_stop()


async def _import(settings: Settings) -> None:
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=DAYS_AHEAD)
    file = settings.data_dir / "program.toml"
    file.write_text(program_file(QUOTAS, PLACES, day, HOLD_S, PROGRAM))
    promised_to_nobody = settings.model_copy(update={"replicas_min_ack": 0, "aof_ack": "off"})
    async with open_operations(promised_to_nobody) as operations:
        await import_program(operations, read_program(file), day, day, open_now=True, quiet=True)


def _parts(dsn: str) -> tuple[str, str]:
    """The socket and the database's name of a server that listens on a socket only."""
    parsed = urlsplit(dsn)
    (directory,) = parse_qs(parsed.query)["host"]
    return f"{directory}/.s.PGSQL.5432", parsed.path.removeprefix("/")
