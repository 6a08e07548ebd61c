"""A journal written by the test, which decides what the ledger accepted; records and recorders for it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import asyncpg
import msgpack
import pytest
from prometheus_client import REGISTRY

from loadtest.stage.program import open_terms
from reservasi.events import (
    AnyEvent,
    Confirmed,
    Ended,
    Held,
    JournalEntry,
    NamedEvent,
    OpeningRetired,
    OpeningSet,
    QuotaRetired,
    QuotaSet,
    Returned,
    Unreadable,
    chain_hash,
)
from reservasi.ledger import keys
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.topology.clients import open_client
from reservasi.ledger.wire.openings import encode_opening
from reservasi.model import Opening, Position, QuotaTerms, State
from reservasi.records import Records
from reservasi.worker.recorder import Recorder
from tests import any_server
from tests.integration.checked_run import Run, open_run
from tests.proxy import Proxy, open_proxy

valkey_url = any_server.valkey_url

DEADLINE_S = 60
AT_MS = 1_780_000_000_000
LETTERS = {State.RELEASED: "r", State.EXPIRED: "x", State.CANCELLED: "k", State.RETIRED: "t"}


def quota_terms(capacity: int) -> QuotaTerms:
    return open_terms(capacity=capacity, end="09:00")


def packed(event: AnyEvent) -> list[object]:
    """An event as the ledger packs it."""
    fields = _packed(event)
    if isinstance(event, NamedEvent) and (event.actor or event.reason):
        fields.append([event.actor, event.reason])
    return fields


def _packed(event: AnyEvent) -> list[object]:
    match event:
        case Held():
            sealed = [event.fingerprint, event.sealed, list(event.persons)]
            return ["h", event.reservation_id, event.quota, event.deadline_ms, *sealed]
        case Confirmed():
            return ["c", event.reservation_id, event.quota, event.places, event.payment_reference]
        case Ended():
            return ["e", LETTERS[event.state], event.reservation_id, event.quota, event.places, event.returns_at_ms]
        case Returned():
            return ["r", event.quota, event.places]
        case QuotaRetired():
            return ["t", event.quota]
        case Unreadable():
            unpacked: list[object] = msgpack.unpackb(event.packed)
            return unpacked
        case OpeningSet():
            return ["o", *encode_opening(event.opening)]
        case OpeningRetired():
            return ["u", event.opening]
        case QuotaSet():
            terms = [getattr(event.terms, name) for name in QuotaTerms.__struct_fields__]
            imported = [list(event.imported)] if event.imported else []
            return [
                "q",
                event.quota,
                event.version,
                [int(term) if term is False else term for term in terms] + imported,
            ]


@dataclass
class JournalWriter:
    """Writes a journal as the ledger would; nothing checks that the ledger would accept it."""

    epoch: int = 1
    position: Position | None = None
    versions: dict[str, int] = field(default_factory=dict)
    claims: dict[str, tuple[str, int]] = field(default_factory=dict)
    events: list[AnyEvent] = field(default_factory=list)

    @property
    def seq(self) -> int:
        return (self.position.seq if self.position else 0) + len(self.events) + 1

    def quota_set(self, quota: str, capacity: int) -> None:
        self.versions[quota] = self.versions.get(quota, 0) + 1
        self.events.append(
            QuotaSet(seq=self.seq, quota=quota, version=self.versions[quota], terms=quota_terms(capacity))
        )

    def opening_set(self, opening: Opening) -> None:
        self.events.append(OpeningSet(seq=self.seq, opening=opening))

    def held(self, reservation_id: str, quota: str, *persons: str) -> None:
        self.claims[reservation_id] = (quota, len(persons))
        self.events.append(
            Held(
                seq=self.seq,
                reservation_id=reservation_id,
                quota=quota,
                deadline_ms=AT_MS + 7_200_000,
                fingerprint=f"fingerprint of {reservation_id}",
                sealed=f"sealed {reservation_id}",
                persons=persons,
            )
        )

    def confirmed(self, reservation_id: str) -> None:
        quota, places = self.claims.get(reservation_id, ("q", 1))
        self.events.append(
            Confirmed(seq=self.seq, reservation_id=reservation_id, quota=quota, places=places, payment_reference="paid")
        )

    def ended(self, reservation_id: str, state: State) -> None:
        quota, places = self.claims.get(reservation_id, ("q", 1))
        self.events.append(
            Ended(
                seq=self.seq,
                state=state,
                reservation_id=reservation_id,
                quota=quota,
                places=places,
                returns_at_ms=AT_MS + self.seq,
            )
        )

    def returned(self, quota: str, places: int) -> None:
        self.events.append(Returned(seq=self.seq, quota=quota, places=places))

    def entry(self) -> JournalEntry:
        """Close the batch: all events since the last one."""
        first_seq = self.seq - len(self.events)
        payload: bytes = msgpack.packb([packed(event) for event in self.events], use_bin_type=False)
        at_ms = AT_MS + first_seq
        chain = chain_hash(self.position.chain if self.position else "", self.epoch, first_seq, at_ms, payload)
        entry = JournalEntry(
            epoch=self.epoch,
            first_seq=first_seq,
            at_ms=at_ms,
            chain=chain,
            payload=payload,
            events=tuple(self.events),
        )
        self.position, self.events = entry.position, []
        return entry


@pytest.fixture
async def proxy(valkey_url: str) -> AsyncIterator[Proxy]:
    """A network in front of the server that can be held up and cut."""
    async with open_proxy(valkey_url) as opened:
        yield opened


class Tables:
    """What the database holds, read past the code under test."""

    ORDERS: ClassVar[dict[str, str]] = {
        "quotas": "program, id",
        "openings": "program, id",
        "holds": "reservation_id",
        "bookings": "reservation_id, held_seq",
        "applicants": "reservation_id, held_seq, position",
        "journal": "first_seq",
    }

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def everything(self) -> dict[str, list[tuple[object, ...]]]:
        """All that recording writes, but for the times of the database's own clock."""
        rows = {name: await self.rows(f"SELECT * FROM {name} ORDER BY {by}") for name, by in self.ORDERS.items()}
        rows["positions"] = await self.rows("SELECT program, epoch, seq, chain FROM positions")
        rows["dead"] = await self.rows("SELECT seq, reservation_id, event::text FROM dead_letters ORDER BY seq")
        return rows

    async def empty(self) -> None:
        await self.rows(f"TRUNCATE {', '.join(self.ORDERS)}, positions, dead_letters")


@pytest.fixture
def tables(database: str) -> Tables:
    """The tables of this test's database."""
    return Tables(database)


@pytest.fixture
def writer() -> JournalWriter:
    """An empty journal."""
    return JournalWriter()


@pytest.fixture
async def records(database: str, program: str) -> AsyncIterator[Records]:
    """Records in a database of their own, with room for the programs of these tests."""
    opened = await Records.open(database, 4)
    for each in (program, "surabaya", "batam"):
        await opened.make_room(each)
    yield opened
    await opened.close()


@dataclass
class Stage:
    """One program's journal and records, and recorders started on them."""

    program: str
    writer: JournalWriter
    records: Records
    client: Any  # redis-py types replies too widely to take them apart
    valkey_url: str
    tables: Tables

    def journal(self) -> Journal:
        return Journal(self.client, self.program)

    async def append(self) -> JournalEntry:
        """Put the writer's events into the stream, as the ledger does."""
        entry = self.writer.entry()
        fields = {"first": entry.first_seq, "at": entry.at_ms, "chain": entry.chain, "events": entry.payload}
        await self.client.xadd(
            keys.journal(self.program),
            {name.encode(): value if isinstance(value, bytes) else str(value) for name, value in fields.items()},
            id=f"{entry.epoch}-{entry.position.seq}",
        )
        return entry

    async def book(self, first: int, last: int) -> None:
        """One confirmed booking an entry."""
        for number in range(first, last):
            self.writer.held(f"r{number}", "q", f"person {number}")
            self.writer.confirmed(f"r{number}")
            await self.append()

    def recorder(self, journal: Journal | None = None, *, events_max: int = 100) -> Recorder:
        return Recorder(
            self.program,
            self.records,
            journal or self.journal(),
            booking_code=str.upper,
            events_max=events_max,
            block_ms=20,
        )

    @contextlib.asynccontextmanager
    async def running(self, recorder: Recorder) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(recorder.run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, DEADLINE_S)

    async def recorded(self) -> bool:
        return await self.records.position(self.program) == self.writer.position

    async def published(self) -> bool:
        position = self.writer.position
        assert position is not None
        stored = await self.client.hget(keys.recorded(self.program), keys.RECORDED_FIELD)
        if stored is None:
            return False
        recorded = json.loads(stored)
        return (recorded["epoch"], recorded["seq"]) == (position.epoch, position.seq)

    async def halted(self) -> bool:
        return self.metric("reservasi_recorder_halted") == 1

    async def going_on(self) -> bool:
        return not await self.halted()

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not await condition():
            assert time.monotonic() < deadline_s, f"waited too long: {what}"
            await asyncio.sleep(0.01)

    def metric(self, name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"program": self.program, **labels}) or 0.0

    async def assert_exactly_once(self, bookings: int) -> None:
        assert await self.tables.rows("SELECT count(*), count(DISTINCT reservation_id) FROM bookings") == [
            (bookings, bookings)
        ]
        assert [quota.booked for quota in await self.records.quota_rows(self.program)] == [bookings]
        gaps = """
            SELECT first_seq FROM (
              SELECT first_seq, lag(last_seq, 1, 0) OVER (ORDER BY epoch, first_seq) AS before FROM journal
            ) AS entries WHERE first_seq <> before + 1
        """
        assert await self.tables.rows(gaps) == []
        assert self.writer.position is not None
        assert await self.tables.rows("SELECT max(last_seq) FROM journal") == [(self.writer.position.seq,)]


@pytest.fixture
async def stage(
    program: str, writer: JournalWriter, records: Records, valkey_url: str, tables: Tables
) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        client = open_client(valkey_url)
        stack.push_async_callback(client.aclose)
        built = Stage(program, writer, records, client, valkey_url, tables)
        writer.quota_set("q", 10_000)
        await built.append()
        yield built


@pytest.fixture
async def run(program: str, valkey_url: str, database: str) -> AsyncIterator[Run]:
    """A run that went well, in which a test may plant a violation."""
    async with open_run(program, valkey_url, database) as opened:
        yield opened
