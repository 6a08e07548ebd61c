"""Past quotas and old openings leave the ledger and stay in the records, and both agree."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from loadtest.checker.check import judge
from loadtest.checker.evidence import read_database
from reservasi.events import Ended, OpeningRetired, QuotaRetired
from reservasi.ledger import keys
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.metrics import RETIRED
from reservasi.model import (
    Admit,
    Cancel,
    Claim,
    Command,
    Confirm,
    Find,
    Join,
    MoveOpening,
    Outcome,
    Release,
    Retire,
    RetireOpening,
    SetOpening,
    SetQuota,
    State,
    Sweep,
)
from reservasi.programs.openings import window_end_ms
from reservasi.records import Records
from reservasi.worker.retirement import OpeningRetirement, Retirement
from tests.integration.conftest import Tables
from tests.integration.test_rebuild import evidence, forget_all, own, rebuild, record, regardless_of_epoch
from tests.integration.test_reconcile import reconcile
from tests.ledgers import HOUR_MS, Ledger, claim, open_group, open_ledger, opening_set, quota_set
from tests.views import caught_up, open_view

pytestmark = pytest.mark.any_server

OVER = "p.kanim.baru.20200106.0900.online"
ALSO_OVER = "p.kanim.baru.20200106.2300.online"
LIVE = "p.kanim.baru.20991201.0900.online"
WIB = ZoneInfo("Asia/Jakarta")
ENDED = {"opens_at_ms": 1000, "ends_at_ms": 2000}  # of an opening
DAY_MS = 86_400_000
OVER_END_MS = 1_578_279_600_000  # 2020-01-06T10:00+07:00


@pytest.fixture
async def ledger(valkey_url: str, program: str, records: Records) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program, owned=False) as opened:
        await own(opened, records)
        yield opened


@pytest.fixture
async def group(valkey_url: str, program: str, ledger: Ledger) -> AsyncIterator[GroupCommit]:
    async with open_group(valkey_url, program) as opened:
        yield opened


def past(quota: str = OVER, capacity: int = 10, **changes: Any) -> SetQuota:
    return quota_set(quota, capacity, **{"date": "2020-01-06", "start": "09:00", "end": "10:00"} | changes)


def live(quota: str = LIVE) -> SetQuota:
    return quota_set(quota, date="2099-12-01", start="09:00", end="10:00")


def retirement(ledger: Ledger, group: GroupCommit, *, after_h: int = 24, zone: dt.tzinfo | None = WIB) -> Retirement:
    return Retirement(
        ledger.program, group, ledger.journal, after_ms=after_h * HOUR_MS, zone=lambda: zone, leads=lambda: True
    )


async def quotas(ledger: Ledger) -> list[str]:
    return sorted(quota.id for quota in (await ledger.snapshot()).quotas)


async def visits(ledger: Ledger) -> tuple[Claim, Claim]:
    """Two confirmed reservations, of one and of three people, in a quota that is over."""
    single, several = claim(quota=OVER), claim(3, quota=OVER)
    both: Sequence[Claim] = (single, several)
    await ledger.run(*both, *(Confirm(reservation_id=each.reservation_id) for each in both))
    return single, several


async def confirm_again(ledger: Ledger, of: Claim) -> tuple[Outcome, State | None]:
    answer = await ledger.one(Confirm(reservation_id=of.reservation_id))
    return answer.outcome, answer.state


async def test_what_is_over_goes_and_what_is_not_stays(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(past(), past(ALSO_OVER, start="23:00", end="24:00"), live())
    single, several = await visits(ledger)
    assert await retirement(ledger, group).retire_due() == 2
    assert await quotas(ledger) == [LIVE]
    events = [event for entry in await ledger.entries() for event in entry.events]
    assert [e.reservation_id for e in events if isinstance(e, Ended) and e.state is State.RETIRED] == sorted(
        [single.reservation_id, several.reservation_id],
        key=[e.reservation_id for e in events if isinstance(e, Ended)].index,
    )
    assert {e.quota for e in events if isinstance(e, QuotaRetired)} == {OVER, ALSO_OVER}
    assert await ledger.client.hlen(keys.persons(ledger.program)) == 0
    assert await ledger.client.hlen(keys.facts(ledger.program)) == 1
    assert RETIRED.labels(ledger.program, "quotas")._value.get() == 2
    assert RETIRED.labels(ledger.program, "reservations")._value.get() == 2


async def test_a_retired_reservation_answers_as_before_and_its_people_may_book_again(
    ledger: Ledger, group: GroupCommit
) -> None:
    await ledger.run(past(), live())
    single, _ = await visits(ledger)
    await retirement(ledger, group).retire_due()
    again = await ledger.one(single)
    assert (again.outcome, again.state, again.quota) == (Outcome.EXISTS, State.HELD, OVER)
    assert await confirm_again(ledger, single) == (Outcome.EXISTS, State.RETIRED)
    assert (await ledger.one(Cancel(reservation_id=single.reservation_id, by_staff=True))).outcome is Outcome.TOO_LATE
    assert (await ledger.one(Release(reservation_id=single.reservation_id))).outcome is Outcome.NOT_HELD
    answer = await ledger.one(Find(reservation_id=single.reservation_id))
    assert (answer.outcome, answer.state, answer.quota) == (Outcome.FOUND, State.RETIRED, OVER)
    assert (await ledger.one(claim(single.persons, LIVE))).outcome is Outcome.HELD
    assert (await ledger.one(claim(quota=OVER))).outcome is Outcome.UNKNOWN_QUOTA


@pytest.mark.parametrize(
    ("changes", "ends_at_ms"),
    [
        ({"closes_at_ms": 4_000_000_000_000}, OVER_END_MS),
        ({}, 4_000_000_000_000),
        ({}, 0),
        ({}, OVER_END_MS // 1000),
        ({"date": "2099-12-01"}, OVER_END_MS),
        ({"date": ""}, OVER_END_MS),
        ({"date": "2020-01-07"}, OVER_END_MS),
    ],
)
async def test_the_ledger_itself_refuses_what_is_not_over(
    ledger: Ledger, changes: dict[str, Any], ends_at_ms: int
) -> None:
    await ledger.run(past(**changes))
    of = claim(quota=OVER)
    await ledger.run(of)
    before = await ledger.dump()
    refused = await ledger.one(Retire(quota=OVER, ends_at_ms=ends_at_ms, reservations=(of.reservation_id,)))
    assert refused.outcome is Outcome.NOT_OVER
    assert await ledger.dump() == before


async def test_holds_run_out_first_and_places_come_back(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(past(hold_ms=HOUR_MS))
    held = claim(quota=OVER)
    await ledger.run(held)
    task = retirement(ledger, group)
    assert await task.retire_due() == 0
    assert await quotas(ledger) == [OVER]
    await ledger.run(Release(reservation_id=held.reservation_id))
    assert await retirement(ledger, group).retire_due() == 1


async def test_an_overdue_hold_is_expired_by_the_retirement(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(past(hold_ms=1))
    answer = await ledger.one(claim(quota=OVER))
    await ledger.until(answer.deadline_ms + 2)
    assert await retirement(ledger, group).retire_due() == 1
    states = [e.state for entry in await ledger.entries() for e in entry.events if isinstance(e, Ended)]
    assert states == [State.EXPIRED]


async def test_others_reservations_are_passed_over(ledger: Ledger) -> None:
    await ledger.run(past(), live())
    other = claim(quota=LIVE)
    single, several = await visits(ledger)
    await ledger.run(other, Confirm(reservation_id=other.reservation_id))
    named = (other.reservation_id, single.reservation_id, "nobody's")
    first = await ledger.one(Retire(quota=OVER, ends_at_ms=OVER_END_MS, reservations=named))
    assert (first.outcome, first.ended, first.taken) == (Outcome.RETIRING, 1, 3)
    rest = (several.reservation_id, several.reservation_id)
    second = await ledger.one(Retire(quota=OVER, ends_at_ms=OVER_END_MS, reservations=rest))
    assert (second.outcome, second.ended) == (Outcome.RETIRED, 1)
    assert await ledger.counts(LIVE) == (0, 1, 0)


async def test_it_waits_for_the_hours_that_were_set(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(past())
    assert await retirement(ledger, group, after_h=200_000).retire_due() == 0
    assert await retirement(ledger, group, zone=None).retire_due() == 0
    assert await retirement(ledger, group, after_h=0).retire_due() == 1


async def test_a_full_quota_is_ended_in_many_small_calls(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(past(capacity=1000))
    claims = [claim(quota=OVER) for _ in range(950)]
    commands: list[Command] = [*claims, *(Confirm(reservation_id=each.reservation_id) for each in claims)]
    await ledger.run(*commands)
    assert await retirement(ledger, group).retire_due() == 1
    entries = await ledger.entries()
    assert max(len(e.events) for e in entries if isinstance(e.events[0], Ended)) <= 401
    assert await ledger.client.hlen(keys.persons(ledger.program)) == 0


async def test_names_go_with_the_last_tombstone(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(past(), live())
    await visits(ledger)
    await retirement(ledger, group).retire_due()
    assert await ledger.client.hlen(keys.names(ledger.program)) == 2
    await ledger.until(await ledger.now_ms() + 5)
    await ledger.one(Sweep(items_max=500), tombstone_ms=1)
    assert await ledger.client.hlen(keys.names(ledger.program)) == 1
    for key in (keys.reservations, keys.tombstones, keys.persons, keys.timers, keys.due):
        assert not await ledger.client.exists(key(ledger.program))


async def test_ledger_records_rebuild_and_checker_agree_at_every_step(
    ledger: Ledger, group: GroupCommit, records: Records, database: str
) -> None:
    """Half retired, retired, forgotten and rebuilt; recorded step by step, and all in one batch."""
    await ledger.run(past(), live())
    single, several = await visits(ledger)
    cancelled = claim(quota=OVER)
    await ledger.run(
        cancelled, Confirm(reservation_id=cancelled.reservation_id), Cancel(reservation_id=cancelled.reservation_id)
    )
    await record(ledger, records)
    await ledger.one(Retire(quota=OVER, ends_at_ms=OVER_END_MS, reservations=(single.reservation_id,)))
    await _agree(ledger, records, database)
    await retirement(ledger, group).retire_due()
    await _agree(ledger, records, database)
    before = await evidence(ledger)
    await forget_all(ledger)
    await rebuild(ledger, records)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
    assert (await ledger.one(single)).outcome is Outcome.EXISTS
    answer = await ledger.one(Find(reservation_id=several.reservation_id))
    assert (answer.state, answer.quota) == (State.RETIRED, OVER)
    await _agree(ledger, records, database)


async def test_a_life_that_is_recorded_at_once_ends_the_same(
    ledger: Ledger, group: GroupCommit, records: Records, tables: Tables, database: str
) -> None:
    """The recorder was away: set, held, confirmed, retired and created anew within one batch."""
    await ledger.run(past(), live())
    single, _ = await visits(ledger)
    await retirement(ledger, group).retire_due()
    await ledger.run(past(capacity=3))
    await _agree(ledger, records, database)
    (row,) = await tables.rows(
        f"SELECT state, ended_at_ms, retired_at_ms > 0 FROM bookings WHERE reservation_id = '{single.reservation_id}'"
    )
    assert row == ("confirmed", 0, True)
    quota = await records.quota_row(ledger.program, OVER)
    assert quota is not None
    assert (quota.booked, quota.retired_at_ms, quota.terms.capacity) == (0, 0, 3)
    await ledger.run(claim(quota=OVER))
    await retirement(ledger, group).retire_due()
    await _agree(ledger, records, database)


async def _agree(ledger: Ledger, records: Records, dsn: str) -> None:
    await record(ledger, records)
    state = await evidence(ledger)
    database = await read_database(dsn, ledger.program, state.position)
    assert judge(ledger.program, state, database).violations == ()
    assert (await reconcile(ledger, records)).drift == ()


async def test_a_view_forgets_what_was_retired(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(past(), live())
    await visits(ledger)
    async with open_view(ledger.url, ledger.program) as view:
        await caught_up(view, ledger)
        before = view.removals
        await retirement(ledger, group).retire_due()
        await caught_up(view, ledger)
        assert view.quota(OVER) is None
        assert view.removals > before


async def test_an_erased_person_needs_no_live_reservation_for_a_past_visit(
    ledger: Ledger, group: GroupCommit, records: Records
) -> None:
    await ledger.run(past())
    single, _ = await visits(ledger)
    await record(ledger, records)
    assert (await records.erase_person(ledger.program, single.persons[0])).live == (single.reservation_id,)
    await retirement(ledger, group).retire_due()
    await record(ledger, records)
    erased = await records.erase_person(ledger.program, single.persons[0])
    assert (erased.live, erased.erased) == ((), 1)


async def test_only_the_worker_that_leads_retires(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(past())
    stop = asyncio.Event()

    def leads() -> bool:
        stop.set()
        return False

    idle = Retirement(ledger.program, group, ledger.journal, after_ms=0, zone=lambda: WIB, leads=leads)
    await idle.run(stop)
    assert await quotas(ledger) == [OVER]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("09:00", "10:00", "2020-01-06T10:00"),
        ("23:00", "24:00", "2020-01-07T00:00"),
        ("23:00", "00:00", "2020-01-07T00:00"),
        ("22:00", "01:30", "2020-01-07T01:30"),
    ],
)
def test_the_end_of_a_window(start: str, end: str, expected: str) -> None:
    at = dt.datetime.fromisoformat(expected)
    for zone in (WIB, dt.UTC, ZoneInfo("America/New_York")):
        assert window_end_ms("2020-01-06", start, end, zone) == at.replace(tzinfo=zone).timestamp() * 1000


# -- openings ----------------------------------------------------------------------------------------------------


def opening_retirement(
    ledger: Ledger, group: GroupCommit, *, after_ms: int = DAY_MS, leads: Callable[[], bool] = lambda: True
) -> OpeningRetirement:
    watch = OpeningWatch(ledger.client, ledger.program)
    return OpeningRetirement(ledger.program, group, watch, after_ms=after_ms, leads=leads)


async def openings(ledger: Ledger) -> list[str]:
    return sorted(opening.id for opening in (await ledger.snapshot()).openings)


async def test_openings_of_long_ago_go_and_the_others_stay(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(opening_set("p-1", **ENDED), opening_set("p-2"), opening_set("p-3", opens_at_ms=1, ends_at_ms=2))
    assert await opening_retirement(ledger, group).retire_due() == 2
    assert await openings(ledger) == ["p-2"]
    events = [event for entry in await ledger.entries() for event in entry.events]
    assert [event.opening for event in events if isinstance(event, OpeningRetired)] == ["p-1", "p-3"]
    assert RETIRED.labels(ledger.program, "openings")._value.get() == 2
    assert await opening_retirement(ledger, group).retire_due() == 0


async def test_openings_wait_for_the_days_that_were_set(ledger: Ledger, group: GroupCommit) -> None:
    ends_at_ms = await ledger.now_ms() - 2 * DAY_MS
    await ledger.run(opening_set("p-1", opens_at_ms=1, ends_at_ms=ends_at_ms))
    assert await opening_retirement(ledger, group, after_ms=3 * DAY_MS).retire_due() == 0
    assert await opening_retirement(ledger, group, after_ms=DAY_MS).retire_due() == 1


async def test_who_joined_a_retired_opening_is_forgotten(ledger: Ledger, group: GroupCommit) -> None:
    now_ms = await ledger.now_ms()
    await ledger.run(
        opening_set("p-1", opens_at_ms=now_ms, ends_at_ms=now_ms + 300),
        *(Join(opening="p-1", ticket_id=f"t{number}") for number in range(3)),
    )
    joined = keys.joined(ledger.program)
    assert [key async for key in ledger.client.scan_iter(match=f"{joined}:p-1:*")]
    await ledger.until(now_ms + 301)
    assert await opening_retirement(ledger, group, after_ms=0).retire_due() == 1
    assert [key async for key in ledger.client.scan_iter(match=f"{joined}:p-1:*")] == []


@pytest.mark.parametrize("change", [{}, {"opens_at_ms": 1, "ends_at_ms": 4_000_000_000_001}])
async def test_the_ledger_itself_refuses_to_retire_an_opening_that_goes_on(
    ledger: Ledger, change: dict[str, Any]
) -> None:
    await ledger.run(opening_set("p-1", **change))
    before = await ledger.dump()
    assert (await ledger.one(RetireOpening(opening="p-1"))).outcome is Outcome.NOT_OVER
    assert (await ledger.one(RetireOpening(opening="p-2"))).outcome is Outcome.UNKNOWN_OPENING
    assert await ledger.dump() == before


async def test_an_opening_that_stays_paused_goes_on(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    paused = SetOpening(opening="p-1", paused=True)
    await ledger.run(opening_set("p-1", opens_at_ms=now_ms, ends_at_ms=now_ms + 200), paused)
    await ledger.until(now_ms + 201)
    assert (await ledger.one(RetireOpening(opening="p-1"))).outcome is Outcome.NOT_OVER


async def test_an_opening_that_was_called_off_goes_with_its_end(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    await ledger.run(
        opening_set("p-1", opens_at_ms=now_ms + 60_000, ends_at_ms=now_ms + 300),
        SetOpening(opening="p-1", paused=True),
        MoveOpening(opening="p-1", cancelled=True, reason="a flood"),
    )
    assert (await ledger.one(RetireOpening(opening="p-1"))).outcome is Outcome.NOT_OVER
    await ledger.until(now_ms + 301)
    assert (await ledger.one(RetireOpening(opening="p-1"))).outcome is Outcome.RETIRED


async def test_without_an_opening_ledger_records_rebuild_and_checker_agree(
    ledger: Ledger, group: GroupCommit, records: Records, database: str, tables: Tables
) -> None:
    await ledger.run(opening_set("p-1", **ENDED), opening_set("p-2"))
    await _agree(ledger, records, database)
    await opening_retirement(ledger, group).retire_due()
    await _agree(ledger, records, database)
    assert [opening.id for opening in await records.openings(ledger.program)] == ["p-2"]
    (kept,) = await tables.rows(
        f"SELECT id, commitment FROM openings WHERE program = '{ledger.program}' AND retired_at_ms > 0"
    )
    assert kept == ("p-1", "c" * 64)
    before = await evidence(ledger)
    await forget_all(ledger)
    await rebuild(ledger, records)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
    await _agree(ledger, records, database)


@pytest.mark.parametrize("together", [True, False])
async def test_the_name_of_a_retired_opening_may_be_given_again(
    ledger: Ledger, records: Records, database: str, *, together: bool
) -> None:
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
    await _agree(ledger, records, database)
    (opening,) = await records.openings(ledger.program)
    assert (opening.terms.commitment, opening.version, opening.joined) == ("d" * 64, 1, 0)
    assert await records.dead_reservations(ledger.program) == []


async def test_a_view_forgets_an_opening_and_its_quotas_open_by_themselves(ledger: Ledger, group: GroupCommit) -> None:
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
        await opening_retirement(ledger, group).retire_due()
        await caught_up(view, ledger)
        assert view.opening("p-1") is None
        assert view.opening_of(known) is None
        assert view.quotas_of_opening(ledger.program, "p-1") == []
        assert [quota.id for quota in view.changed_since(version)] == [quota_id]
        await ledger.run(opening_set("p-1", **ENDED))
        await caught_up(view, ledger)
        assert view.opening_of(known) is not None


async def test_only_the_worker_that_leads_retires_openings(ledger: Ledger, group: GroupCommit) -> None:
    await ledger.run(opening_set("p-1", **ENDED))
    stop = asyncio.Event()

    def leads() -> bool:
        stop.set()
        return False

    await opening_retirement(ledger, group, leads=leads).run(stop)
    assert await openings(ledger) == ["p-1"]
