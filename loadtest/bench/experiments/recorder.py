"""How fast the recorder writes bookings, beside PostgreSQL's own fastest ways, and how far behind an opening it is."""

import asyncio
import contextlib
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import redis.asyncio as redis_asyncio

from loadtest.bench.experiments.programs import group_commit, own_ledger
from loadtest.bench.experiments.rows import Rows
from loadtest.bench.figures import Figure
from loadtest.bench.ground import Ground
from loadtest.bench.stores import prepared
from loadtest.stage.cores import Cores
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.topology.clients import open_client
from reservasi.model import Claim, Command, Confirm, Outcome, Position
from reservasi.records import Records
from reservasi.worker.recorder import Recorder

NAME = "recorder"
TITLE = "Recorder: bookings a second beside raw PostgreSQL, and the delay behind an opening"
PROGRAM, LATER, OPENING = "recorder", "later", "opening"
QUOTAS = 50
SAME_TABLE_SHARE_MIN = 0.5
DELAY_MAX_S = 1.0
IN_FLIGHT = 512  # people who claim and confirm at the same time during the opening
RECORD_TIMEOUT_S = 120.0


class WatchedJournal(Journal):
    """Says when a position is recorded; keeps the entries, so that they can be recorded again."""

    def __init__(self, client: redis_asyncio.Redis, program: str) -> None:
        super().__init__(client, program)
        self.said: Position | None = None
        self._moved = asyncio.Condition()

    async def publish_recorded(
        self, position: Position, dead: Sequence[str] = (), *, epochs: Sequence[tuple[int, int]] = ()
    ) -> None:
        await super().publish_recorded(position, dead, epochs=epochs)
        async with self._moved:
            self.said = position
            self._moved.notify_all()

    async def trim(self, recorded: Position, *, margin: int | None = None) -> None:
        """Everything stays."""

    async def recorded(self, seq: int) -> None:
        """Wait until this is recorded.

        Raises:
            TimeoutError: it is not within `RECORD_TIMEOUT_S`.
        """
        async with asyncio.timeout(RECORD_TIMEOUT_S), self._moved:
            await self._moved.wait_for(lambda: self.said is not None and self.said.seq >= seq)


async def run(cores: Cores, smoke: bool, say: Callable[[str], None]) -> list[Figure]:
    """The rates against raw inserts, and the delay."""
    bookings, repeats = (500, 2) if smoke else (20_000, 5)
    async with prepared(cores) as ground:
        records = await Records.open(ground.postgres_dsn, 4)
        try:
            for program in (PROGRAM, LATER, OPENING):
                await records.make_room(program)
            figures = await _rates(ground, records, bookings, repeats, say)
            figures.append(await _rate_of_later(ground, records, bookings, repeats, say))
            say(f"recorder: an opening of {bookings} places")
            return [*figures, *await _opening(ground, records, bookings)]
        finally:
            await records.close()


# -- the rate ----------------------------------------------------------------------------------------------------


async def _rates(
    ground: Ground, records: Records, bookings: int, repeats: int, say: Callable[[str], None]
) -> list[Figure]:
    say(f"recorder: a journal of {bookings} confirmed reservations")
    await write_journal(ground, PROGRAM, bookings)
    events_max = ground.settings.record_events_max
    took: dict[str, list[float]] = {}
    async with Rows.opened(ground.postgres_dsn, PROGRAM, per_transaction=events_max // 2) as rows:
        last_seq = 2 * bookings + QUOTAS

        async def recorded() -> float:
            return await _recorded_in_s(ground, records, PROGRAM, last_seq)

        await recorded()
        await rows.read(bookings)
        ways: dict[str, Callable[[], Awaitable[float]]] = {
            "recorder": recorded,
            "unnest into all tables": rows.unnest_everywhere,
            "unnest into bookings": rows.unnest_bookings,
            "copy into bookings": rows.copy_bookings,
        }
        for repeat in range(repeats):
            say(f"recorder: repeat {repeat + 1} of {repeats}")
            for name, way in ways.items():
                await rows.clear()
                took.setdefault(name, []).append(await way())
                await rows.check(bookings)
    return _rate_figures(bookings, took)


def _rate_figures(bookings: int, took: dict[str, list[float]]) -> list[Figure]:
    rates = {name: bookings / statistics.median(times) for name, times in took.items()}
    titles = {
        "unnest into all tables": "the recorder against raw INSERT ... unnest of the same rows into the same tables",
        "unnest into bookings": "the recorder against raw INSERT ... unnest of the bookings alone",
        "copy into bookings": "the recorder against raw COPY of the bookings alone",
    }
    figures = [
        Figure(
            name="recorder",
            title=f"bookings recorded from a journal of {bookings:,} confirmed reservations",
            value=rates["recorder"],
            unit="bookings/s",
            note="the journal is read and its chain checked meanwhile; claims and confirmations lie close together",
        )
    ]
    for name, title in titles.items():
        shares = [raw / ours for raw, ours in zip(took[name], took["recorder"], strict=True)]
        figures.append(
            Figure(
                name=f"recorder/{name}",
                title=title,
                value=statistics.median(shares),
                target=SAME_TABLE_SHARE_MIN if name == "unnest into bookings" else None,
                note=f"raw {rates[name]:,.0f} bookings/s, as many a transaction, columns made beforehand",
            )
        )
    return figures


async def _rate_of_later(
    ground: Ground, records: Records, bookings: int, repeats: int, say: Callable[[str], None]
) -> Figure:
    """The rate where nobody confirms before their hold is recorded."""
    say(f"recorder: {bookings} holds that are confirmed later")
    await write_journal(ground, LATER, bookings, later=True)
    took: list[float] = []
    async with Rows.opened(ground.postgres_dsn, LATER, per_transaction=1) as rows:
        for _ in range(repeats):
            await rows.clear()
            took.append(await _recorded_in_s(ground, records, LATER, 2 * bookings + QUOTAS))
            await rows.check(bookings)
    return Figure(
        name="recorder, confirmed later",
        title=f"the same where each of {bookings:,} holds is recorded before it is confirmed",
        value=bookings / statistics.median(took),
        unit="bookings/s",
        note="every reservation is written twice: as a hold, then moved to the bookings",
    )


async def write_journal(ground: Ground, program: str, bookings: int, *, later: bool = False) -> None:
    """Batches of claims, each followed by the confirmations; or all claims first, with `later`."""
    size = ground.settings.batch_items_max
    async with own_ledger(ground.redis_url, program, QUOTAS, bookings) as ledger:
        held: list[list[Claim]] = []
        for left in range(bookings, 0, -size):
            held.append(ledger.claims(min(size, left)))
            await ledger.carry_out(held[-1], Outcome.HELD)
            if not later:
                await ledger.carry_out(_confirms(held.pop()), Outcome.CONFIRMED)
        for claims in held:
            await ledger.carry_out(_confirms(claims), Outcome.CONFIRMED)


def _confirms(claims: Sequence[Claim]) -> list[Command]:
    return [Confirm(reservation_id=claim.reservation_id, payment_reference="paid") for claim in claims]


async def _recorded_in_s(ground: Ground, records: Records, program: str, last_seq: int) -> float:
    """How long a recorder takes for everything that the journal holds."""
    async with open_client(ground.redis_url) as client:
        started_s = time.perf_counter()
        async with recording(ground, records, WatchedJournal(client, program), program) as journal:
            await journal.recorded(last_seq)
            return time.perf_counter() - started_s


@contextlib.asynccontextmanager
async def recording(
    ground: Ground, records: Records, journal: WatchedJournal, program: str
) -> AsyncIterator[WatchedJournal]:
    """A recorder as the worker has it, on this journal."""
    settings = ground.settings
    recorder = Recorder(
        program,
        records,
        journal,
        booking_code=lambda reservation_id: reservation_id[-14:],
        events_max=settings.record_events_max,
        block_ms=settings.follow_block_ms,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(recorder.run(stop))
    try:
        yield journal
    finally:
        stop.set()
        await task


# -- the delay ---------------------------------------------------------------------------------------------------


async def _opening(ground: Ground, records: Records, places: int) -> list[Figure]:
    """Everybody claims and confirms at once; how long after the last confirmation is all of it recorded."""
    async with (
        open_client(ground.redis_url) as client,
        own_ledger(ground.redis_url, OPENING, QUOTAS, places) as ledger,
        group_commit(ground.redis_url, OPENING, ground.settings.batch_items_max) as group,
        recording(ground, records, WatchedJournal(client, OPENING), OPENING) as journal,
    ):
        people = deque(ledger.claims(places))
        started_s = time.perf_counter()
        last_seq = max(await asyncio.gather(*(_people(group, people) for _ in range(min(IN_FLIGHT, places)))))
        confirmed_s = time.perf_counter()
        await journal.recorded(last_seq)
        recorded_s = time.perf_counter()
    if await records.count_bookings(OPENING) != places:
        raise RuntimeError("not every confirmed reservation is recorded")
    return [
        Figure(
            name="recorded after the opening",
            title=f"from the last confirmation of an opening of {places:,} places until all of it is recorded",
            value=recorded_s - confirmed_s,
            unit="s",
            target=DELAY_MAX_S,
            sense="at most",
            note=f"the opening took {confirmed_s - started_s:.1f} s; claims, confirmations and recorder in one process",
        )
    ]


async def _people(group: GroupCommit, people: deque[Claim]) -> int:
    """One after the other claims and confirms; the seq of the last confirmation."""
    seq = 0
    while people:
        claim = people.popleft()
        held = await group.submit(claim)
        confirmed = await group.submit(Confirm(reservation_id=claim.reservation_id, payment_reference="paid"))
        if (held.outcome, confirmed.outcome) != (Outcome.HELD, Outcome.CONFIRMED):
            raise RuntimeError(f"{held.outcome}, then {confirmed.outcome}")
        seq = max(seq, confirmed.seq)
    return seq
