"""Openings that ended long ago leave the ledger with who joined them; the records keep them, and all agree."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from loadtest.checker import judge
from loadtest.evidence import read_database
from reservasi.events import OpeningRetired
from reservasi.ledger import keys
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.metrics import RETIRED
from reservasi.model import Admit, Command, Join, MoveOpening, Outcome, RetireOpening, SetOpening
from reservasi.records import Records
from reservasi.retirement import OpeningRetirement
from tests.integration.conftest import Tables
from tests.integration.test_rebuild import evidence, forget_all, own, rebuild, record, regardless_of_epoch
from tests.integration.test_reconcile import reconcile
from tests.ledgers import Ledger, open_group, open_ledger, opening_set, quota_set
from tests.views import caught_up, open_view

pytestmark = pytest.mark.any_server

ENDED = {"opens_at_ms": 1000, "ends_at_ms": 2000}
DAY_MS = 86_400_000


@pytest.fixture
async def ledger(valkey_url: str, program: str, records: Records) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program, owned=False) as opened:
        await own(opened, records)
        yield opened


@pytest.fixture
async def group(valkey_url: str, program: str, ledger: Ledger) -> AsyncIterator[GroupCommit]:
    async with open_group(valkey_url, program) as opened:
        yield opened


def retirement(
    ledger: Ledger, group: GroupCommit, *, after_ms: int = DAY_MS, leads: Callable[[], bool] = lambda: True
) -> OpeningRetirement:
    watch = OpeningWatch(ledger.client, ledger.program)
    return OpeningRetirement(ledger.program, group, watch, after_ms=after_ms, leads=leads)


async def openings(ledger: Ledger) -> list[str]:
    return sorted(opening.id for opening in (await ledger.snapshot()).openings)


async def agree(ledger: Ledger, records: Records, dsn: str) -> None:
    await record(ledger, records)
    found = await evidence(ledger)
    database = await read_database(dsn, ledger.program, found.position)
    assert judge(ledger.program, found, database).violations == ()
    assert (await reconcile(ledger, records)).drift == ()


async def test_what_ended_long_ago_goes_and_the_others_stay(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(opening_set("p-1", **ENDED), opening_set("p-2"), opening_set("p-3", opens_at_ms=1, ends_at_ms=2))
    assert await retirement(ledger, group).look() == 2
    assert await openings(ledger) == ["p-2"]
    events = [event for entry in await ledger.entries() for event in entry.events]
    assert [event.opening for event in events if isinstance(event, OpeningRetired)] == ["p-1", "p-3"]
    assert RETIRED.labels(ledger.program, "openings")._value.get() == 2
    assert await retirement(ledger, group).look() == 0


async def test_it_waits_for_the_days_that_were_set(ledger: Ledger, group: GroupCommit) -> None:
    ends_at_ms = await ledger.now_ms() - 2 * DAY_MS
    await ledger.run(opening_set("p-1", opens_at_ms=1, ends_at_ms=ends_at_ms))
    assert await retirement(ledger, group, after_ms=3 * DAY_MS).look() == 0
    assert await retirement(ledger, group, after_ms=DAY_MS).look() == 1


async def test_who_joined_is_forgotten(ledger: Ledger, group: GroupCommit) -> None:
    now_ms = await ledger.now_ms()
    await ledger.run(
        opening_set("p-1", opens_at_ms=now_ms, ends_at_ms=now_ms + 300),
        *(Join(opening="p-1", ticket_id=f"t{number}") for number in range(3)),
    )
    joined = keys.joined(ledger.program)
    assert [key async for key in ledger.client.scan_iter(match=f"{joined}:p-1:*")]
    await ledger.until(now_ms + 301)
    assert await retirement(ledger, group, after_ms=0).look() == 1
    assert [key async for key in ledger.client.scan_iter(match=f"{joined}:p-1:*")] == []


@pytest.mark.parametrize("change", [{}, {"opens_at_ms": 1, "ends_at_ms": 4_000_000_000_001}])
async def test_the_ledger_itself_refuses_what_goes_on(ledger: Ledger, change: dict[str, Any]) -> None:
    await ledger.run(opening_set("p-1", **change))
    before = await ledger.dump()
    assert (await ledger.one(RetireOpening(opening="p-1"))).outcome is Outcome.NOT_OVER
    assert (await ledger.one(RetireOpening(opening="p-2"))).outcome is Outcome.UNKNOWN_OPENING
    assert await ledger.dump() == before


async def test_one_that_stays_paused_goes_on(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    paused = SetOpening(opening="p-1", paused=True)
    await ledger.run(opening_set("p-1", opens_at_ms=now_ms, ends_at_ms=now_ms + 200), paused)
    await ledger.until(now_ms + 201)
    assert (await ledger.one(RetireOpening(opening="p-1"))).outcome is Outcome.NOT_OVER


async def test_one_that_was_called_off_goes_with_its_end(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    await ledger.run(
        opening_set("p-1", opens_at_ms=now_ms + 60_000, ends_at_ms=now_ms + 300),
        SetOpening(opening="p-1", paused=True),
        MoveOpening(opening="p-1", cancelled=True, reason="a flood"),
    )
    assert (await ledger.one(RetireOpening(opening="p-1"))).outcome is Outcome.NOT_OVER
    await ledger.until(now_ms + 301)
    assert (await ledger.one(RetireOpening(opening="p-1"))).outcome is Outcome.RETIRED


async def test_ledger_records_rebuild_and_checker_agree_at_every_step(
    ledger: Ledger, group: GroupCommit, records: Records, database: str, tables: Tables
) -> None:
    await ledger.run(opening_set("p-1", **ENDED), opening_set("p-2"))
    await agree(ledger, records, database)
    await retirement(ledger, group).look()
    await agree(ledger, records, database)
    assert [opening.id for opening in await records.openings(ledger.program)] == ["p-2"]
    (kept,) = await tables.rows(
        f"SELECT id, commitment FROM openings WHERE program = '{ledger.program}' AND retired_at_ms > 0"
    )
    assert kept == ("p-1", "c" * 64)
    before = await evidence(ledger)
    await forget_all(ledger)
    await rebuild(ledger, records)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
    await agree(ledger, records, database)


@pytest.mark.parametrize("together", [True, False])
async def test_its_name_may_be_given_again(ledger: Ledger, records: Records, database: str, *, together: bool) -> None:
    commands: list[Command] = [
        opening_set("p-1", **ENDED),
        Admit(opening="p-1", controller="c", lease_ms=1),
        RetireOpening(opening="p-1"),
        opening_set("p-1", commitment="d" * 64),
        Join(opening="p-1", ticket_id="t"),
    ]
    for command in commands:
        await ledger.run(command)
        if not together:
            await record(ledger, records)
    await agree(ledger, records, database)
    (found,) = await records.openings(ledger.program)
    assert (found.terms.commitment, found.version, found.joined) == ("d" * 64, 1, 0)
    assert await records.dead_reservations(ledger.program) == []


async def test_a_view_forgets_it_and_its_quotas_open_by_themselves(ledger: Ledger, group: GroupCommit) -> None:
    quota_id = f"{ledger.program}.kanim.baru.20991201.0900.online"
    quota = quota_set(quota_id, opens_at_ms=1000, date="2099-12-01", start="09:00", end="10:00")
    await ledger.run(quota, opening_set("p-1", **ENDED))
    async with open_view(ledger.url, ledger.program) as view:
        await caught_up(view, ledger)
        known = view.quota(quota_id)
        assert known is not None
        opening = view.opening_of(known)
        assert opening is not None
        assert opening.id == "p-1"
        version = view.version
        await retirement(ledger, group).look()
        await caught_up(view, ledger)
        assert view.opening("p-1") is None
        assert view.opening_of(known) is None
        assert view.quotas_of_opening(ledger.program, "p-1") == []
        assert [quota.id for quota in view.changed_since(version)] == [quota_id]
        await ledger.run(opening_set("p-1", **ENDED))
        await caught_up(view, ledger)
        assert view.opening_of(known) is not None


async def test_only_the_worker_that_leads_retires(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(opening_set("p-1", **ENDED))
    stop = asyncio.Event()

    def leads() -> bool:
        stop.set()
        return False

    await retirement(ledger, group, leads=leads).run(stop)
    assert await openings(ledger) == ["p-1"]
