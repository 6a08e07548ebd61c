"""Ten years of weekly imports of every program that we ship: what is kept stays as large as in the first year.

The ledger's clock is set, as in the simulation. What expands, imports, retires and sweeps is the service's own; people
book and confirm each week, some cancel, and others let their hold run out.
"""

import asyncio
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import redis.asyncio as redis_asyncio

from reservasi.availability import Availability, ProgramView
from reservasi.availability.follower import Follower
from reservasi.front.views.answer_cache import AnswerCache
from reservasi.front.views.filters import quotas_matching
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.stream import START, Journal
from reservasi.ledger.lua.library import Library
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.ledger.topology.clients import open_client
from reservasi.ledger.wire.messages import decode_reply, encode_frame
from reservasi.model import Cancel, Command, Confirm, Join, Outcome, Sweep
from reservasi.programs import Program
from reservasi.programs.expansion import expand
from reservasi.programs.files import read_program
from reservasi.worker.retirement import OpeningRetirement, Retirement
from tests.ledgers import TIMEOUT_S, TOMBSTONE_MS, claim, opening_set
from tests.simulation.server import CLOCK_KEYS, running_valkey, simulated_library

PROGRAMS = sorted((Path(__file__).parents[2] / "config" / "programs").glob("*.toml"))
WEEKS, YEAR = 520, 52
FIRST_MONDAY = dt.date(2027, 1, 4)
DAY_MS = 86_400_000
SHARES_MAX = 2  # services of a program's first office: the others are like them, and take as long
AHEAD_DAYS = 8  # an import reaches into the days of the next one
BATCH = 256  # imported in one call
VISITORS = 12  # a week
JOINERS = 3  # of its opening
OPENINGS_KEPT_DAYS = 100
GROWTH_MAX, SLACK = 1.02, 8  # of the most in a year; holidays fall otherwise each year
BYTES_GROWTH_MAX, BYTES_SLACK = 1.35, 1024  # a sorted set's levels are drawn


@pytest.fixture
def valkey() -> Iterator[str]:
    with running_valkey() as url:
        yield url


class Years:
    """One program through the years."""

    def __init__(self, url: str, client: redis_asyncio.Redis, program: Program, library: Library) -> None:
        self.program = program
        self._client = client
        self._connection, self._importing = (LedgerConnection(url, program.id, library) for _ in range(2))
        self._journal = Journal(client, program.id, envelopes=False)
        self._group = GroupCommit(
            self._connection,
            batch_items_max=1000,
            queue_items_max=10_000,
            command_timeout_ms=60_000,
            queue_delay_target_ms=5000,
            tombstone_ms=TOMBSTONE_MS,
        )
        self.view = ProgramView()
        self.now_ms = 0
        self.week = 0
        self.sizes: list[dict[str, int]] = []  # a week each of the first and of the last year
        self._opening_retirement = OpeningRetirement(
            program.id,
            self._group,
            OpeningWatch(client, program.id),
            after_ms=OPENINGS_KEPT_DAYS * DAY_MS,
            leads=lambda: True,
            clock_ms=lambda: self.now_ms,
        )
        self._retirement = Retirement(
            program.id,
            self._group,
            self._journal,
            after_ms=DAY_MS,
            zone=lambda: program.zone,
            leads=lambda: True,
            clock_ms=lambda: self.now_ms,
        )

    async def live(self) -> None:
        """All of them; the others have their turn meanwhile."""
        await self._set_clock(FIRST_MONDAY)
        meta = await self._connection.meta(TIMEOUT_S)
        assert await self._connection.own(meta.position, 1, TIMEOUT_S) == "owned"
        self._group.start()
        for self.week in range(WEEKS):
            await self._week(FIRST_MONDAY + dt.timedelta(weeks=self.week))
        await self._group.close()
        await self._connection.drop()
        await self._importing.drop()

    async def _week(self, monday: dt.date) -> None:
        await self._set_clock(monday)
        await self._retirement.retire_due()
        await self._opening_retirement.retire_due()
        while (await self._group.submit(Sweep(items_max=5000))).dropped:
            pass
        commands = expand(self.program, monday, monday + dt.timedelta(days=AHEAD_DAYS), open_now=True)
        for first in range(0, len(commands), BATCH):
            frame = encode_frame(commands[first : first + BATCH], TOMBSTONE_MS)
            (raw,) = await self._importing.call([frame], TIMEOUT_S)
            assert isinstance(raw, bytes), raw
            assert {answer[0] for answer in decode_reply(raw).answers} <= {Outcome.QUOTA_SET, Outcome.EXISTS}
        await self._open(monday)
        await self._visit([command.quota for command in commands[: VISITORS * 5 : 5]])
        await self._follow()
        if not YEAR <= self.week < WEEKS - YEAR:
            self.sizes.append(await self._measured(monday))

    async def _open(self, monday: dt.date) -> None:
        """The week's opening: a few people join."""
        opening = f"{self.program.id}-{monday:%Y%m%d}"
        created = opening_set(opening, opens_at_ms=self.now_ms + DAY_MS, ends_at_ms=self.now_ms + 2 * DAY_MS)
        assert (await self._group.submit(created)).outcome is Outcome.OPENING_SET
        for number in range(JOINERS):
            assert (await self._group.submit(Join(opening=opening, ticket_id=str(number)))).outcome is Outcome.JOINED

    async def _visit(self, quotas: list[str]) -> None:
        claims = [claim([f"person-{self.week % 4}-{number}"], quota) for number, quota in enumerate(quotas)]
        held = await asyncio.gather(*(self._group.submit(each) for each in claims))
        assert {answer.outcome for answer in held} <= {Outcome.HELD, Outcome.SOLD_OUT}
        ids = [each.reservation_id for each, answer in zip(claims, held, strict=True) if answer.outcome is Outcome.HELD]
        later: list[Command] = [Confirm(reservation_id=id_) for id_ in ids[2:]]
        await asyncio.gather(*(self._group.submit(each) for each in later))
        await self._group.submit(Cancel(reservation_id=ids[-1], by_staff=True))

    async def _follow(self) -> None:
        """What a front and the recorder do with the journal."""
        position = self.view.position if self.view.position.seq else START
        while entries := await self._journal.read(position, 100_000, 0):
            for entry in entries:
                self.view.apply(entry, self.week)
            position = self.view.position
        await self._journal.trim(position, margin=0)

    async def _set_clock(self, monday: dt.date) -> None:
        at = dt.datetime.combine(monday, dt.time(6), self.program.zone)
        self.now_ms = int(at.timestamp() * 1000)
        await self._client.mset({CLOCK_KEYS[0]: self.now_ms // 1000, CLOCK_KEYS[1]: 0})

    async def _measured(self, monday: dt.date) -> dict[str, int]:
        """How large each key is, and what a front keeps and answers."""
        sizes = {"quotas": len(self.view.quotas)}
        names = [key.removeprefix(f"{{{self.program.id}}}:") for key in keys.program_keys(self.program.id)]
        pipeline = self._client.pipeline(transaction=False)
        for key in keys.program_keys(self.program.id):
            pipeline.memory_usage(key, samples=0)
        sizes |= {f"bytes of {name}": size or 0 for name, size in zip(names, await pipeline.execute(), strict=True)}
        for name in ("quotas", "facts", "reservations", "persons", "names", "openings"):
            sizes[f"fields of {name}"] = int(await cast(Any, self._client.hlen(f"{{{self.program.id}}}:{name}")))
        for name in ("due", "timers", "tombstones"):
            sizes[f"fields of {name}"] = int(await cast(Any, self._client.zcard(f"{{{self.program.id}}}:{name}")))
        sizes |= {f"view's {name}": len(value) for name, value in vars(self.view).items() if hasattr(value, "__len__")}
        sizes["keys"] = int(await self._client.dbsize())
        sizes["answer"] = self._answer_bytes(monday) if monday.day <= 7 else 0
        return sizes

    def _answer_bytes(self, monday: dt.date) -> int:
        availability = Availability(lambda _: self._connection, lambda _: self._journal, stale_ms=0)
        follower = type("_", (), {"view": self.view, "clock_offset_ms": 0.0})()
        availability._followers = {self.program.id: cast(Follower, follower)}
        quotas = quotas_matching(availability, {}, lambda _: monday.isoformat())
        cache = AnswerCache(availability)
        return sum(len(cache.fragment(quota, self.now_ms)) for quota in quotas)


async def _lived(url: str, path: Path, library: Library) -> Years:
    client = open_client(url)
    program = read_program(path)
    office = msgspec.structs.replace(program.offices[0], quotas=program.offices[0].quotas[:SHARES_MAX])
    program = msgspec.structs.replace(program, offices=(office,))
    years = Years(url, client, program, library)
    await years.live()
    await client.aclose()
    return years


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
async def test_sizes_stay_flat_for_ten_years(path: Path, valkey: str) -> None:
    library = simulated_library()
    client = open_client(valkey)
    await client.function_load(library.source)
    years = await _lived(valkey, path, library)
    numbers = int(await cast(Any, client.hget(keys.meta(years.program.id), "numbers")))
    await client.aclose()
    assert numbers > 10 * max(size["quotas"] for size in years.sizes), "imports came and went"
    first, last = years.sizes[:YEAR], years.sizes[-YEAR:]
    for what in first[0]:
        before, after = (max(size[what] for size in of_year) for of_year in (first, last))
        of_bytes = what.startswith("bytes")
        growth_max, slack = (BYTES_GROWTH_MAX, BYTES_SLACK) if of_bytes else (GROWTH_MAX, SLACK)
        assert after <= before * growth_max + slack, f"{what}: {before} in the first year, {after} in the tenth"
