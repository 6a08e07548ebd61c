"""The mark moves at the configured rate, by one controller at a time, and never back."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from loadtest.stage.processes import running, started
from reservasi.availability import Availability
from reservasi.events import OpeningSet
from reservasi.ledger import command_queue, keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.opening_watch import FRESH_MS, OpeningWatch, Seen
from reservasi.model import Join, MoveOpening, Opening, Outcome, SetOpening, SetQuota
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.settings import Settings
from reservasi.waiting_room import admission
from reservasi.waiting_room.admission import LEASE_MS, AdmissionController
from reservasi.waiting_room.delays import DelayReporter
from tests.ledgers import Ledger, claim, eventually, open_group, open_ledger, opening_terms, quota_set
from tests.proxy import open_proxy

TIMEOUT_S = 60.0
HOUR_S = 3600.0
RATE = 6000  # ten a tenth of a second
SURABAYA = Path(__file__).parents[2] / "config/programs/surabaya.toml"


class CountedWatch(OpeningWatch):
    """What controllers look through; knows how often they did."""

    looks = 0

    async def read(self) -> Seen:
        result = await super().read()
        self.looks += 1
        return result


class CountedReporter(DelayReporter):
    """A front's reporter; knows how often it reported, or saw that there was nothing to report."""

    reports = 0

    async def _report(self) -> None:
        await super()._report()
        self.reports += 1


class Stage:
    """A program with an opening that is about to open, and what controllers need."""

    def __init__(self, url: str, ledger: Ledger, group: GroupCommit) -> None:
        self.url = url
        self.ledger = ledger
        self.group = group
        self.id = f"{ledger.program}-1"
        self.opens_at_ms = 0
        self.views = 0  # opened and not closed again
        self.watch = OpeningWatch(ledger.client, ledger.program)
        self.controllers_watch = CountedWatch(ledger.client, ledger.program)

    async def announce(
        self, *, people: int = 2000, ahead_ms: int = 300, capacity: int = 5000, **changes: object
    ) -> None:
        """An opening with people who joined already."""
        now_ms = (await self.ledger.snapshot()).now_ms
        self.opens_at_ms = now_ms + ahead_ms
        terms = opening_terms(
            **{"opens_at_ms": self.opens_at_ms, "joins_from_ms": now_ms - 1, "rate_per_min": RATE} | changes
        )
        await self.ledger.run(
            quota_set(f"{self.ledger.program}.kanim", capacity, opens_at_ms=self.opens_at_ms),
            SetOpening(opening=self.id, terms=terms),
        )
        await self.join(range(people))

    async def join(self, people: range) -> None:
        answers = await self.ledger.run(*(Join(opening=self.id, ticket_id=f"ticket-{each}") for each in people))
        assert {answer.outcome for answer in answers} <= {Outcome.JOINED}

    async def now(self) -> Opening:
        (opening,) = (await self.watch.read()).openings
        return opening

    async def passed(self, mark: int) -> None:
        async def there() -> bool:
            return (await self.now()).admitted_through >= mark

        await eventually(there, TIMEOUT_S)

    async def until(self, condition: Callable[[Opening], bool]) -> Opening:
        opening = await self.now()

        async def met() -> bool:
            nonlocal opening
            opening = await self.now()
            return condition(opening)

        await eventually(met, TIMEOUT_S)
        return opening

    async def looked(self) -> None:
        """Until the controller has seen all that there is now, and has acted on it.

        One look may be under way; what follows from the next one is done when the third is over.
        """
        looks = self.controllers_watch.looks + 3

        async def enough() -> bool:
            return self.controllers_watch.looks >= looks

        await eventually(enough, TIMEOUT_S)

    async def marks(self) -> list[tuple[int, int]]:
        """Every mark that the journal has, with the milliseconds since the opening."""
        return [
            (entry.at_ms - self.opens_at_ms, event.opening.admitted_through)
            for entry in await self.ledger.entries()
            for event in entry.events
            if isinstance(event, OpeningSet)
        ]

    async def change(self, **changes: object) -> None:
        answer = await self.ledger.one(SetOpening(opening=self.id, **changes))  # type: ignore[arg-type]
        assert answer.outcome is Outcome.OPENING_SET

    def open_view(self) -> Availability:
        self.views += 1
        view = Availability(
            lambda name: LedgerConnection(self.url, name, read_library()),
            lambda name: Journal(self.ledger.client, name),
            stale_ms=1000,
        )
        close = view.close

        async def closing() -> None:
            self.views -= 1
            await close()

        view.close = closing  # type: ignore[method-assign]
        return view

    def controller(self) -> AdmissionController:
        return AdmissionController(
            self.ledger.program, self.group, self.controllers_watch, self.open_view, delay_target_ms=100
        )

    @asynccontextmanager
    async def controlled(self) -> AsyncIterator[AdmissionController]:
        stop = asyncio.Event()
        controller = self.controller()
        task = asyncio.create_task(controller.run(stop))
        try:
            yield controller
        finally:
            stop.set()
            await asyncio.wait_for(task, TIMEOUT_S)

    def gauge(self, name: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"program": self.ledger.program, "opening": self.id})


@pytest.fixture
async def stage(valkey_url: str, program: str) -> AsyncIterator[Stage]:
    async with open_ledger(valkey_url, program) as ledger, open_group(valkey_url, program) as group:
        yield Stage(valkey_url, ledger, group)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten looks a second, so that a rate that changes once a look does so within a test's patience."""
    monkeypatch.setattr(admission, "LOOK_INTERVAL_S", 0.1)


def assert_never_back(marks: list[tuple[int, int]]) -> None:
    assert [mark for _, mark in marks] == sorted(mark for _, mark in marks)


def assert_at_rate(marks: list[tuple[int, int]], rate: int = RATE) -> None:
    """No mark is ahead of the rate, by the ledger's own clock; the step that is under way may be rounded."""
    for since_ms, mark in marks:
        assert mark <= max(0, since_ms) * rate / 60_000 + 1


async def test_the_mark_moves_at_its_rate_and_ends_at_the_last(stage: Stage) -> None:
    await stage.announce(people=100)
    async with stage.controlled():
        done = await stage.until(lambda opening: opening.arrived > 0 and opening.admitted_through == opening.arrived)
        assert done.drawn
        assert done.joined == done.arrived
        marks = await stage.marks()
        assert_never_back(marks)
        assert_at_rate(marks)
        moved = [(since_ms, mark) for since_ms, mark in marks if 0 < mark < done.arrived]
        assert len(moved) > 2
        for since_ms, mark in moved:
            assert mark >= since_ms * RATE / 60_000 - 1
        # Whoever comes late is reached as well, from where the mark stands.
        await stage.join(range(1000, 1010))
        later = await stage.until(lambda opening: opening.admitted_through > done.admitted_through)
        assert later.admitted_through <= later.arrived
        assert later.joined == done.joined


async def test_nobody_is_admitted_before_it_opens(stage: Stage) -> None:
    await stage.announce(people=50, ahead_ms=60_000)
    async with stage.controlled():
        counted = await stage.until(lambda opening: opening.joined > 0)
        assert counted.arrived == counted.joined
        assert (counted.drawn, counted.admitted_through) == (False, 0)
        assert stage.views == 1
    assert stage.views == 0


async def test_an_opening_that_ended_while_no_controller_ran_is_drawn_by_the_next(stage: Stage) -> None:
    await stage.announce(people=20, ahead_ms=50)

    async def passed(moment_ms: int) -> None:
        async def is_over() -> bool:
            return (await stage.ledger.snapshot()).now_ms > moment_ms

        await eventually(is_over, TIMEOUT_S)

    await passed(stage.opens_at_ms)
    ends_at_ms = (await stage.ledger.snapshot()).now_ms + 50
    answer = await stage.ledger.one(MoveOpening(opening=stage.id, ends_at_ms=ends_at_ms))
    assert answer.outcome is Outcome.OPENING_SET
    await passed(ends_at_ms)
    assert not (await stage.now()).drawn
    async with stage.controlled():
        drawn = await stage.until(lambda opening: opening.drawn)
        assert (drawn.joined, drawn.admitted_through) == (20, 0)
        await stage.looked()
        assert stage.views == 0


async def test_staff_pause_resume_and_set_the_rate(stage: Stage) -> None:
    await stage.announce()
    async with stage.controlled():
        await stage.passed(10)
        await stage.change(paused=True)
        stopped = await stage.now()
        since_ms = stopped.advanced_at_ms
        still = await stage.until(lambda opening: opening.advanced_at_ms >= since_ms + 500)  # two moves at least
        assert still.admitted_through == stopped.admitted_through
        await stage.change(rate_per_min=60)
        await stage.change(paused=False)
        await stage.passed(stopped.admitted_through + 1)
        resumed = await stage.now()
        passed_ms = resumed.advanced_at_ms - still.advanced_at_ms
        assert resumed.admitted_through <= stopped.admitted_through + passed_ms * 60 / 60_000 + 1
        assert_never_back(await stage.marks())


async def test_another_controller_goes_on_from_the_same_mark(stage: Stage) -> None:
    await stage.announce()
    first = asyncio.create_task(stage.controller().run(asyncio.Event()))
    await stage.passed(1)
    async with stage.controlled():
        first.cancel()  # as a kill does: nobody gives the lease back
        with contextlib.suppress(asyncio.CancelledError):
            await first
        left = await stage.now()
        await stage.passed(left.admitted_through + 1)
        marks = await stage.marks()
        assert_never_back(marks)
        assert_at_rate(marks)
        at_ms = next(since_ms for since_ms, mark in marks if mark > left.admitted_through)
        assert at_ms >= left.advanced_at_ms - stage.opens_at_ms + LEASE_MS // 2  # only once the lease was over


async def test_two_controllers_do_not_move_it_twice_as_fast(stage: Stage) -> None:
    await stage.announce()
    async with stage.controlled(), stage.controlled(), stage.controlled():
        await stage.passed(100)
    marks = await stage.marks()
    assert_never_back(marks)
    assert_at_rate(marks)


@pytest.mark.parametrize("way", ["sold out", "closed"])
async def test_the_mark_stops_where_nothing_remains_and_goes_on_when_a_place_returns(stage: Stage, way: str) -> None:
    await stage.announce(people=2000, capacity=5, rate_per_min=600)
    quota = f"{stage.ledger.program}.kanim"
    async with stage.controlled():
        await stage.passed(1)
        if way == "closed":
            answers = await stage.ledger.run(SetQuota(quota=quota, closed=True))
        else:
            answers = await stage.ledger.run(*(claim(quota=quota) for _ in range(5)))
        assert {answer.outcome for answer in answers} <= {Outcome.HELD, Outcome.QUOTA_SET}
        sold_out_ms = answers[-1].now_ms

        async def stands() -> bool:
            before = await stage.now()
            await stage.ledger.until(before.advanced_at_ms + 1000)
            return await stage.now() == before

        await eventually(stands, TIMEOUT_S)
        stood = await stage.now()
        assert stood.advanced_at_ms < sold_out_ms + 5000
        await stage.ledger.one(SetQuota(quota=quota, capacity=6, closed=False))
        await stage.passed(stood.admitted_through + 1)


@pytest.mark.usefixtures("quick")
async def test_an_adaptive_rate_grows_while_claims_do_not_wait_and_halves_when_they_do(stage: Stage) -> None:
    await stage.announce(adaptive=True, rate_per_min=600, rate_max_per_min=900)

    async def say(delay_ms: float) -> None:
        await stage.watch.report_delay("front", delay_ms, (await stage.ledger.snapshot()).now_ms)

    await stage.ledger.client.hset(keys.queue_delays(stage.ledger.program), "of another version", "?")
    await say(1.0)
    async with stage.controlled():
        grown = await stage.until(lambda opening: opening.rate_per_min > 600)
        assert grown.rate_per_min == 660
        await say(1.0)
        await stage.until(lambda opening: opening.rate_per_min == 900)
        await say(75.0)  # neither: the rate stands
        await stage.watch.report_delay("other", 5000.0, (await stage.ledger.snapshot()).now_ms - FRESH_MS - 1)
        await stage.looked()
        assert (await stage.now()).rate_per_min == 900
        await stage.watch.report_delay("other", 150.0, (await stage.ledger.snapshot()).now_ms)  # the worst counts
        await stage.until(lambda opening: opening.rate_per_min < 100)
        await stage.watch.withdraw("other")
        await stage.change(rate_per_min=300)
        await say(1.0)
        await stage.looked()
        fixed = await stage.now()
        assert (fixed.rate_per_min, fixed.rate_fixed) == (300, True)
        await stage.change(rate_per_min=0)
        await say(1.0)
        await stage.until(lambda opening: opening.rate_per_min > 600)
    rates = [
        event.opening.rate_per_min
        for entry in await stage.ledger.entries()
        for event in entry.events
        if isinstance(event, OpeningSet)
    ]
    assert {450, 225} <= set(rates)


@pytest.mark.usefixtures("quick")
async def test_a_live_opening_is_measured_and_forgotten_when_it_ends(stage: Stage) -> None:
    await stage.announce(people=30)
    async with stage.controlled():
        await stage.passed(5)
        assert stage.gauge("reservasi_admission_rate") == RATE
        assert 25 <= (stage.gauge("reservasi_opening_joined") or 0) <= 35
        now_ms, version = (await stage.ledger.snapshot()).now_ms, (await stage.now()).version
        terms = (await stage.now()).terms
        ended = opening_terms(
            **{name: getattr(terms, name) for name in terms.__struct_fields__} | {"ends_at_ms": now_ms}
        )
        assert (
            await stage.ledger.one(SetOpening(opening=stage.id, terms=ended, version=version))
        ).outcome is Outcome.OPENING_SET

        async def forgotten() -> bool:
            return stage.gauge("reservasi_admitted_through") is None and stage.views == 0

        await eventually(forgotten, TIMEOUT_S)
        assert stage.gauge("reservasi_opening_joined") is None


@pytest.mark.usefixtures("quick")
async def test_nothing_is_asked_of_the_ledger_while_no_opening_is_near(stage: Stage) -> None:
    far = opening_terms(joins_from_ms=3_900_000_000_000)
    await stage.ledger.run(SetOpening(opening=stage.id, terms=far))
    async with stage.controlled():
        await stage.looked()
        assert stage.views == 0
    assert len(await stage.ledger.entries()) == 1


async def test_a_front_says_its_delay_while_an_opening_is_live(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reservasi.waiting_room.delays.SAY_INTERVAL_S", 0.05)
    delays_key = keys.queue_delays(stage.ledger.program)
    view = stage.open_view()
    view.follow(stage.ledger.program)
    reporter = CountedReporter(stage.ledger.program, stage.group, stage.watch, view)
    reporting = asyncio.create_task(reporter.run())
    try:
        assert await view.wait_ready(TIMEOUT_S)
        quiet = reporter.reports + 3

        async def reported() -> bool:
            return reporter.reports >= quiet

        await eventually(reported, TIMEOUT_S)
        assert not await stage.ledger.client.exists(delays_key)
        await stage.announce(people=1, ahead_ms=60_000)

        async def is_published() -> bool:
            return (await stage.watch.read()).delay_ms == 0.0

        await eventually(is_published, TIMEOUT_S)
    finally:
        reporting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reporting
        await view.close()
    assert not await stage.ledger.client.exists(delays_key)


async def test_a_worker_that_is_killed_is_followed_by_another(
    valkey_url: str, database: str, data_dir: Path, program: str
) -> None:
    """Two real processes; the one that leads is killed, and the other goes on from its mark."""
    records = await Records.open(database, 1)
    file = data_dir / "program.toml"
    file.write_text(SURABAYA.read_text().replace('id = "surabaya"', f'id = "{program}"'))
    await records.save_program(read_program(file))
    await records.close()
    settings = Settings(data_dir=data_dir, redis_url=valkey_url, postgres_dsn=database)
    async with (
        running("worker", settings) as first,
        open_ledger(valkey_url, program, owned=False) as ledger,
        open_group(valkey_url, program) as group,
    ):
        await eventually(lambda: _owned(ledger), 60)
        stage = Stage(valkey_url, ledger, group)
        await stage.announce(rate_per_min=600)
        await stage.passed(1)
        async with started("worker", settings):
            await first.kill()
            left = await stage.now()
            await eventually(lambda: _moved(stage, left.admitted_through), 60)
        assert_never_back(await stage.marks())
        assert_at_rate(await stage.marks(), 600)


async def _owned(ledger: Ledger) -> bool:
    return (await ledger.connection.meta(TIMEOUT_S)).owned


async def _moved(stage: Stage, mark: int) -> bool:
    return (await stage.now()).admitted_through > mark


async def test_a_group_knows_how_long_claims_wait(
    valkey_url: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, ahead_s = time.monotonic, 0.0  # hours go by only here, so that no slow machine is taken for a queue
    monkeypatch.setattr(command_queue, "time", SimpleNamespace(monotonic=lambda: real() + ahead_s))
    async with (
        open_ledger(valkey_url, program) as ledger,
        open_proxy(valkey_url) as proxy,
        open_group(proxy.url, program) as group,
    ):
        await ledger.one(quota_set(capacity=100))
        assert group.take_queue_delay_s() == 0.0
        assert (await group.submit(claim())).outcome is Outcome.HELD
        assert 0.0 <= group.take_queue_delay_s() < HOUR_S
        proxy.held.clear()
        sent = asyncio.create_task(group.submit(claim()))

        async def is_sent() -> bool:
            return proxy.waiting == 1

        await eventually(is_sent)
        group.take_queue_delay_s()
        waiting = asyncio.create_task(group.submit(claim()))

        async def is_waiting() -> bool:
            return len(group._queue) == 1

        await eventually(is_waiting)
        ahead_s = HOUR_S
        assert HOUR_S <= group.take_queue_delay_s() < 2 * HOUR_S  # of one that still waits
        ahead_s = 2 * HOUR_S
        proxy.held.set()
        await asyncio.gather(sent, waiting)
        assert group.take_queue_delay_s() >= 2 * HOUR_S
        assert group.take_queue_delay_s() == 0.0
