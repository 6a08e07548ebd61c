"""A journal with entries of a later version, or damaged ones: readable events are recorded, others are named."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reservasi.errors import RebuildRefused
from reservasi.health import Health
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.loading import Loader
from reservasi.ledger.lua.library import read_library
from reservasi.metrics import VIEW_RESYNCS
from reservasi.model import Confirm, Release
from reservasi.records import Records
from reservasi.worker.ledger_owner import Owner, Ownership, compare_ledger
from reservasi.worker.recorder import Recorder
from tests.integration.conftest import Tables
from tests.integration.test_rebuild import own, rebuild
from tests.integration.test_reconcile import reconcile
from tests.ledgers import QUOTA, Ledger, claim, eventually, open_ledger, quota_set
from tests.views import caught_up, open_view, says_sold_out

FUTURE = ["z", "future-kind", 1]


@pytest.fixture
async def ledger(valkey_url: str, program: str, records: Records) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program, owned=False) as opened:
        await own(opened, records)
        yield opened


async def record(ledger: Ledger, records: Records) -> list[int]:
    """What the recorder would do with all that is there; the events that became dead letters."""
    dead: list[int] = []
    while entries := await ledger.journal.read(await records.position(ledger.program), 100_000, 0):
        expected = await records.position(ledger.program)
        done = await records.record(ledger.program, expected, entries, booking_code=str.upper)
        dead += [letter.seq for letter in done.dead]
    return dead


async def letters(tables: Tables, program: str) -> list[dict[str, Any]]:
    rows = await tables.rows("SELECT program, event::text, error FROM dead_letters ORDER BY seq")
    return [json.loads(str(event)) | {"error": error} for of, event, error in rows if of == program]


async def test_an_event_of_a_later_version_is_a_dead_letter_and_the_rest_is_recorded(
    ledger: Ledger, records: Records, tables: Tables
) -> None:
    first, second = claim(), claim()
    await ledger.run(quota_set(), first)
    unknown = await ledger.append(FUTURE)
    await ledger.run(Confirm(reservation_id=first.reservation_id, payment_reference="paid"), second)
    assert await record(ledger, records) == [unknown]
    assert await records.position(ledger.program) == (await ledger.connection.meta(5.0)).position
    assert (await records.count_bookings(ledger.program), await records.count_holds(ledger.program)) == (1, 1)
    (letter,) = await letters(tables, ledger.program)
    assert (letter["kind"], letter["letter"]) == ("Unreadable", "z")
    assert "kind is not known" in letter["error"]


async def test_unknown_events_between_known_ones_cost_those_nothing(ledger: Ledger, records: Records) -> None:
    held = claim()
    await ledger.run(quota_set(), held)
    seq = await ledger.append(*[FUTURE] * 500, ["c", held.reservation_id, QUOTA, 1, "paid"], *[FUTURE] * 500)
    assert await record(ledger, records) == [*range(seq - 1000, seq - 500), *range(seq - 499, seq + 1)]
    assert await records.count_bookings(ledger.program) == 1
    assert await records.dead_letter_count(ledger.program) == 1000


async def test_what_rebuilds_and_compares_survives_them(ledger: Ledger, records: Records) -> None:
    held = claim()
    await ledger.run(quota_set(), held)
    await ledger.append(["z", "future-kind", 1], "no array", ["e"], ["h", 1])
    await record(ledger, records)
    comparison = await reconcile(ledger, records)
    assert comparison.kinds == {"dead-letters": 1}
    assert (await rebuild(ledger, records, force=True, discard=True)).rebuilt
    assert (await reconcile(ledger, records)).kinds == {"dead-letters": 1}
    assert (await ledger.counts()) == (1, 0, 0)


async def test_a_view_that_meets_one_takes_the_ledgers_word_anew(ledger: Ledger) -> None:
    quota = f"{ledger.program}.kanim.baru.20261201.0800.online"
    await ledger.run(quota_set(quota, 3), claim(quota=quota))
    async with open_view(ledger.url, ledger.program) as view:
        await caught_up(view, ledger)
        before = float(VIEW_RESYNCS.labels(ledger.program)._value.get())
        for _ in range(3):
            await ledger.append(FUTURE, FUTURE)
            await ledger.one(claim(quota=quota))
        await caught_up(view, ledger)
        await says_sold_out(view, quota)
        assert float(VIEW_RESYNCS.labels(ledger.program)._value.get()) > before


@pytest.mark.parametrize(
    "damage",
    [{"payload": b"\xc1"}, {"payload": b"\x93\x92\xa1r"}, {"payload": b""}, {"payload": b"\x90"}, {"without": "at"}],
    ids=repr,
)
async def test_an_entry_that_cannot_be_read_fences_its_program_and_says_why(
    damage: dict[str, Any], ledger: Ledger, records: Records
) -> None:
    await ledger.run(quota_set(), claim())
    await record(ledger, records)
    late = claim()
    await ledger.one(late)
    await ledger.append(FUTURE, **damage)
    await ledger.run(claim(), claim(2))
    health = Health(clock=lambda: 0.0)
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    owner = Owner(ledger.program, connection, ledger.journal, records, health=health)
    stop = asyncio.Event()
    running = asyncio.create_task(owner.run(stop))
    try:

        async def is_fenced() -> bool:
            return not (await ledger.connection.meta(5.0)).owned

        await eventually(is_fenced)
    finally:
        stop.set()
        await running
    comparison = await compare_ledger(ledger.program, ledger.connection, ledger.journal, records)
    assert comparison.verdict is Ownership.DIVERGED
    assert "cannot be read" in comparison.cause
    done = await rebuild(ledger, records, discard=True)
    assert (done.rebuilt, done.recorded_first, done.lost) == (True, 1, 3), "what lies before it is recorded first"
    assert (done.lost_counted, done.lost_held, done.lost_confirmed, done.lost_ended) == (True, 2, 0, 0)
    assert await ledger.counts() == (2, 0, 0)
    assert (await reconcile(ledger, records)).drift == ()


async def test_what_is_discarded_with_a_ledger_is_counted_by_kind(ledger: Ledger, records: Records) -> None:
    paid, left, kept = claim(), claim(2), claim()
    await ledger.run(quota_set(), paid, left, kept)
    await record(ledger, records)
    await ledger.append(FUTURE, payload=b"\xc1")
    await ledger.run(
        Confirm(reservation_id=paid.reservation_id), Release(reservation_id=left.reservation_id), claim(), claim()
    )
    await Loader(ledger.connection).fence()
    with pytest.raises(RebuildRefused, match="1 confirmed bookings"):
        await rebuild(ledger, records, discard=True)
    done = await rebuild(ledger, records, discard=True, discard_confirmed=True)
    assert (done.lost, done.lost_confirmed, done.lost_held, done.lost_ended) == (5, 1, 2, 1)
    assert await ledger.counts() == (4, 0, 0)


async def test_a_ledger_whose_recorder_met_an_unreadable_entry_is_fenced_at_the_next_look(
    ledger: Ledger, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reservasi.worker.ledger_owner.FOLLOW_LOOKS", 10**9)
    await ledger.run(quota_set(), claim())
    health = Health()
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    owner = Owner(ledger.program, connection, ledger.journal, records, health=health)
    recorder = Recorder(
        ledger.program, records, ledger.journal, booking_code=str.upper, events_max=100, block_ms=20, health=health
    )
    await owner._check()
    await ledger.append(FUTURE, payload=b"\xc1")
    stop = asyncio.Event()
    running = [asyncio.create_task(each.run(stop)) for each in (owner, recorder)]
    try:

        async def is_fenced() -> bool:
            return not (await ledger.connection.meta(5.0)).owned

        await eventually(is_fenced)
    finally:
        stop.set()
        await asyncio.gather(*running)
