"""The view shows the ledger's state, notices when it is out of step, and refuses only when it is fresh."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from reservasi.availability import Availability, ProgramView, follower, prover
from reservasi.events import AnyEvent, JournalEntry, OpeningSet, QuotaRetired, QuotaSet
from reservasi.ledger import keys
from reservasi.metrics import VIEW_RESYNCS
from reservasi.model import (
    Admit,
    Cancel,
    Command,
    Confirm,
    Find,
    Join,
    MoveOpening,
    Outcome,
    Release,
    SetOpening,
    SetQuota,
    Sweep,
)
from reservasi.quota_state import state_of
from tests.ledgers import (
    HOUR_MS,
    Ledger,
    claim,
    eventually,
    open_ledger,
    opening_of,
    opening_set,
    opening_terms,
    quota_set,
    terms,
)
from tests.proxy import Proxy
from tests.views import caught_up, open_view, says_sold_out, shown


@pytest.fixture
async def ledger(valkey_url: str, program: str) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program) as opened:
        yield opened


@pytest.fixture
async def view(ledger: Ledger) -> AsyncIterator[Availability]:
    async with open_view(ledger.url, ledger.program) as opened:
        yield opened


def _quota(ledger: Ledger, number: int = 0) -> str:
    return f"{ledger.program}.kanim.baru.20261201.{number:04}.online"


def _resyncs(program: str) -> float:
    return float(VIEW_RESYNCS.labels(program)._value.get())


async def _follows(view: Availability, ledger: Ledger) -> None:
    async def knows() -> bool:
        return view.knows(ledger.program)

    await eventually(knows)


async def test_a_view_of_a_fenced_ledger_says_so_by_program_until_it_is_owned(valkey_url: str, program: str) -> None:
    async with open_ledger(valkey_url, program, owned=False) as ledger, open_view(valkey_url, program) as view:

        async def names_it() -> bool:
            return "fenced" in view.missing().get(program, "")

        await eventually(names_it)
        assert await ledger.own() == "owned"
        await _follows(view, ledger)
        assert view.missing() == {}


async def test_a_view_that_is_lost_again_and_again_is_one_line(ledger: Ledger) -> None:
    await ledger.one(quota_set(_quota(ledger)))
    with capture_logs() as logs:
        async with open_view(ledger.url, ledger.program) as view:
            await _follows(view, ledger)
            before = _resyncs(ledger.program)
            for _ in range(4):
                await ledger.append(["z", "future-kind", 1])
                await caught_up(view, ledger)
            assert _resyncs(ledger.program) - before >= 3
    assert [line["event"] for line in logs].count("view_lost_journal") == 1


async def test_the_view_equals_the_snapshot_after_random_traffic(ledger: Ledger, view: Availability) -> None:
    rng = random.Random(7)
    quotas = [_quota(ledger, number) for number in range(8)]
    late = {"hold_ms": 5, "return_min_ms": 1, "return_max_ms": 5}
    await ledger.run(*(quota_set(quota, 6, **(late if at % 2 else {})) for at, quota in enumerate(quotas)))
    await _follows(view, ledger)
    resyncs = _resyncs(ledger.program)
    ids: list[str] = ["nobody"]
    for _ in range(60):
        claims = [claim(rng.randint(1, 3), rng.choice(quotas)) for _ in range(5)]
        ids += [each.reservation_id for each in claims]
        changes: list[Command] = [Confirm(reservation_id=rng.choice(ids)) for _ in range(4)]
        changes += [Release(reservation_id=rng.choice(ids)) for _ in range(2)]
        changes += [Cancel(reservation_id=rng.choice(ids)) for _ in range(2)]
        changes += [SetQuota(quota=rng.choice(quotas), capacity=rng.randint(2, 9), closed=rng.random() < 0.1)]
        await ledger.run(*claims, *changes, Sweep(items_max=50))
    await caught_up(view, ledger)
    assert _resyncs(ledger.program) == resyncs, "it followed, and did not start anew"
    new = quota_set(_quota(ledger, 99), 1)
    await ledger.one(new)
    await caught_up(view, ledger)
    assert view.quota(new.quota) is not None


async def test_a_fenced_ledger_gives_no_view(valkey_url: str, program: str) -> None:
    async with open_ledger(valkey_url, program, owned=False) as ledger, open_view(valkey_url, program) as view:
        assert not view.ready
        assert not view.knows(program)
        await ledger.own()
        await _follows(view, ledger)
        assert view.ready


async def test_an_emptied_ledger_is_noticed_without_a_word_from_it(ledger: Ledger, view: Availability) -> None:
    await caught_up(view, ledger)
    names = [key async for key in ledger.client.scan_iter(match=f"{{{ledger.program}}}*", count=1000)]
    await ledger.client.delete(*names)

    async def noticed() -> bool:
        return not view.ready

    await eventually(noticed)
    assert view.has_view(ledger.program), "what was seen last can still be shown"


async def test_a_hold_past_its_deadline_is_not_called_sold_out(ledger: Ledger, view: Availability) -> None:
    """Nobody sweeps here: memory must send the claim to the ledger, which ends the hold."""
    quota = _quota(ledger)
    await ledger.one(quota_set(quota, 1, hold_ms=2500))
    held = await ledger.one(claim(1, quota))
    await caught_up(view, ledger)
    await says_sold_out(view, quota)
    await ledger.until(held.deadline_ms)
    assert not view.is_sold_out(quota, 1, "new")
    assert (await ledger.one(claim(1, quota))).outcome is Outcome.HELD


async def test_a_place_on_its_way_back_is_not_called_sold_out_when_it_is_due(
    ledger: Ledger, view: Availability
) -> None:
    quota = _quota(ledger)
    await ledger.one(quota_set(quota, 1, return_min_ms=1500, return_max_ms=2500))
    held = claim(1, quota)
    await ledger.run(held, Release(reservation_id=held.reservation_id))
    await caught_up(view, ledger)
    await says_sold_out(view, quota)

    async def is_free() -> bool:
        return not view.is_sold_out(quota, 1, "new")

    await eventually(is_free)

    async def claimed() -> bool:
        return (await ledger.one(claim(1, quota))).outcome is Outcome.HELD

    await eventually(claimed)
    await caught_up(view, ledger)
    await says_sold_out(view, quota)


async def test_a_gap_makes_it_start_anew(ledger: Ledger, proxy: Proxy) -> None:
    quota = _quota(ledger)
    await ledger.one(quota_set(quota))
    async with open_view(proxy.url, ledger.program) as view:
        await caught_up(view, ledger)
        resyncs = _resyncs(ledger.program)
        proxy.refusing = True
        proxy.cut()
        await ledger.run(claim(quota=quota))
        await ledger.run(claim(quota=quota))
        first: list[tuple[bytes, object]] = await ledger.client.xrange(keys.journal(ledger.program))  # type: ignore[assignment]
        await ledger.client.xdel(keys.journal(ledger.program), first[-2][0])
        proxy.refusing = False
        await caught_up(view, ledger)
        assert _resyncs(ledger.program) > resyncs


async def test_a_lost_connection_is_followed_again(ledger: Ledger, proxy: Proxy) -> None:
    quota = _quota(ledger)
    await ledger.one(quota_set(quota, 100))
    async with open_view(proxy.url, ledger.program) as view:
        for _ in range(3):
            await caught_up(view, ledger)
            proxy.cut()
            await ledger.run(claim(quota=quota), claim(quota=quota))
        await caught_up(view, ledger)
        await ledger.one(claim(quota=quota))
        await caught_up(view, ledger)


async def test_it_waits_for_a_change(ledger: Ledger, view: Availability) -> None:
    quota = _quota(ledger)
    await ledger.one(quota_set(quota))
    await caught_up(view, ledger)
    version = view.version
    assert await view.wait_change(version, 0.01) == version
    waiting = asyncio.create_task(view.wait_change(version, 10.0))
    await asyncio.sleep(0)
    await ledger.one(claim(quota=quota))
    newer = await waiting
    assert newer > version
    assert [changed.id for changed in view.changed_since(version)] == [quota]
    assert view.changed_since(newer) == []


async def test_sold_out_is_said_only_when_it_is_sure(ledger: Ledger, view: Availability) -> None:
    quota, closed, not_open = (_quota(ledger, number) for number in range(3))
    now_ms = await ledger.now_ms()
    await ledger.run(
        quota_set(quota, 2),
        quota_set(closed, 0, closed=True),
        quota_set(not_open, 0, opens_at_ms=now_ms + HOUR_MS),
        quota_set(_quota(ledger, 3), 0, opens_at_ms=now_ms - 200),
        quota_set(_quota(ledger, 4), 0, closes_at_ms=now_ms + 700),
    )
    request = claim(2, quota)
    await caught_up(view, ledger)

    def sold_out(at: str, places: int = 1, reservation_id: str = "new") -> bool:
        return view.is_sold_out(at, places, reservation_id)

    await says_sold_out(view, quota, 3)  # fewer remain than are asked for
    assert not sold_out(quota, 2)
    await ledger.one(request)
    await caught_up(view, ledger)
    assert sold_out(quota)
    assert not sold_out(quota, 1, request.reservation_id), "a replay must find its first answer"
    # What else the ledger would say comes first.
    for other in (closed, not_open, _quota(ledger, 3), _quota(ledger, 4), _quota(ledger, 9), "t-other.x"):
        assert not sold_out(other)
    await ledger.one(Release(reservation_id=request.reservation_id))
    await caught_up(view, ledger)
    assert not sold_out(quota)
    assert not sold_out(quota, 2, request.reservation_id)
    await says_sold_out(view, quota, 3)


async def test_a_view_at_rest_says_sold_out_again_once_it_matters(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "IDLE_AFTER_S", 0.2)
    monkeypatch.setattr(prover, "IDLE_S", 3600.0)
    quota = _quota(ledger)
    await ledger.one(quota_set(quota, 0))
    async with open_view(ledger.url, ledger.program, stale_ms=100) as view:
        following = view._followers[ledger.program]

        async def rests() -> bool:
            return 0 < following.fresh_at < time.monotonic() - 0.5  # longer than any wait of a busy one

        await caught_up(view, ledger)
        await eventually(rests)
        assert not view.is_sold_out(quota, 1, "new"), "what it knows is old: the ledger is asked"
        await says_sold_out(view, quota)


async def test_ids_from_before_the_snapshot_are_known(ledger: Ledger) -> None:
    quota = _quota(ledger)
    held, released = claim(quota=quota), claim(quota=quota)
    await ledger.run(quota_set(quota, 2), held, released, claim(quota=quota))
    await ledger.run(Release(reservation_id=released.reservation_id))
    await ledger.run(claim(quota=quota))
    async with open_view(ledger.url, ledger.program) as view:
        await caught_up(view, ledger)
        await says_sold_out(view, quota)
        for each in (held, released):
            assert not view.is_sold_out(quota, 1, each.reservation_id)


async def test_a_stale_view_says_nothing(ledger: Ledger, proxy: Proxy) -> None:
    quota = _quota(ledger)
    await ledger.one(quota_set(quota, 0))
    async with open_view(proxy.url, ledger.program, stale_ms=150) as view:
        await caught_up(view, ledger)
        await says_sold_out(view, quota)
        proxy.held.clear()  # the journal's words do not arrive any more, and no connection breaks

        async def unsure() -> bool:
            return not view.is_sold_out(quota, 1, "new")

        await eventually(unsure, 2.0)
        proxy.held.set()
        await says_sold_out(view, quota)
        proxy.refusing = True
        proxy.cut()
        await eventually(unsure, 2.0)
        assert not view.knows(ledger.program)
        assert view.quota(quota) is not None, "reads may still show what was known last"


async def test_states_and_alternatives(ledger: Ledger, view: Availability) -> None:
    now_ms = await ledger.now_ms()
    ids = [_quota(ledger, number) for number in range(9)]
    await ledger.run(
        quota_set(ids[0], 0, start="08:00"),
        quota_set(ids[1], 5, start="09:00"),
        quota_set(ids[2], 5, start="08:30"),
        quota_set(ids[3], 5, start="08:10", office="ulp"),
        quota_set(ids[4], 5, start="08:05", closed=True),
        quota_set(ids[5], 5, start="08:05", opens_at_ms=now_ms + HOUR_MS),
        quota_set(ids[6], 5, start="08:05", closes_at_ms=now_ms - 1),
        quota_set(ids[7], 5, start="08:05", service="other"),
        quota_set(ids[8], 1, start="08:05"),
    )
    await caught_up(view, ledger)
    full = view.quota(ids[0])
    assert full is not None
    clock_ms = view.now_ms(ledger.program)
    assert view.alternatives(full, 2, 5, clock_ms).ids == (ids[2], ids[1], ids[3])
    assert view.alternatives(full, 1, 2, clock_ms).ids == (ids[8], ids[2])
    states = [state_of(quota, view.now_ms(ledger.program)) for number in ids if (quota := view.quota(number))]
    assert states == ["sold-out", "open", "open", "open", "closed", "not-open", "closed", "open", "open"]
    assert abs(view.now_ms(ledger.program) - await ledger.now_ms()) < 500
    selected = view.select(ledger.program, office="kanim", service="baru", first="2026-12-01", last="2026-12-01")
    assert [quota.terms.start for quota in selected] == sorted(quota.terms.start for quota in selected)
    assert len(selected) == 7
    assert view.select(ledger.program, first="2026-12-02") == []
    assert (await ledger.one(Find(reservation_id="nobody"))).outcome is Outcome.NOT_FOUND


async def test_a_quota_belongs_to_the_opening_of_its_office(ledger: Ledger, view: Availability) -> None:
    moment, later = 4_000_000_000_000, 4_000_000_001_000
    offices = ("kanim", "ulp", "mpp")
    await ledger.run(
        *(quota_set(_quota(ledger, at), opens_at_ms=moment, office=office) for at, office in enumerate(offices)),
        opening_set("p-1", offices=("kanim",)),
        opening_set("p-2", offices=("ulp",)),
    )

    async def opening_ids() -> list[str]:
        await caught_up(view, ledger)
        async with open_view(ledger.url, ledger.program) as fresh:
            await _follows(fresh, ledger)
            await caught_up(fresh, ledger)
        openings = [view.opening_of(await shown(view, _quota(ledger, at))) for at in range(len(offices))]
        return [opening.id if opening else "" for opening in openings]

    await _follows(view, ledger)
    assert await opening_ids() == ["p-1", "p-2", ""]
    await ledger.run(
        SetOpening(opening="p-2", terms=opening_terms(offices=("mpp", "ulp")), version=1),
        MoveOpening(opening="p-1", opens_at_ms=later),
    )
    assert await opening_ids() == ["p-1", "p-2", "p-2"]
    await ledger.one(MoveOpening(opening="p-2", cancelled=True, reason="a flood"))
    assert await opening_ids() == ["p-1", "p-2", "p-2"]  # so that whoever claims is told
    await ledger.one(opening_set("p-3", offices=("ulp",)))
    assert await opening_ids() == ["p-1", "p-3", "p-2"]


def test_a_retired_quota_leaves_its_opening() -> None:
    view = ProgramView()
    moment = 4_000_000_000_000
    opening, quotas = opening_of(opens_at_ms=moment), [f"p.kanim.baru.20261201.080{at}.online" for at in range(2)]
    events: tuple[AnyEvent, ...] = (
        OpeningSet(seq=1, opening=opening),
        *(
            QuotaSet(seq=2 + at, quota=quota, version=1, terms=terms(opens_at_ms=moment))
            for at, quota in enumerate(quotas)
        ),
        QuotaRetired(seq=4, quota=quotas[0]),
    )
    view.apply(JournalEntry(epoch=1, first_seq=1, at_ms=1, chain="", payload=b"", events=events), 1)
    assert view.opening_ids == {quotas[1]: opening.id}
    assert list(view.covered[opening.id]) == [quotas[1]]


async def test_openings_are_followed_from_a_snapshot_and_from_events(ledger: Ledger, view: Availability) -> None:
    first, second, moved = 4_000_000_000_000, 3_900_000_000_000, 3_950_000_000_000
    await ledger.run(
        quota_set(_quota(ledger), opens_at_ms=first), quota_set(_quota(ledger, 1), opens_at_ms=second), opening_set()
    )
    await _follows(view, ledger)
    await ledger.run(
        opening_set("p-2", opens_at_ms=second),
        SetOpening(opening="p-1", paused=True),
        Join(opening="p-2", ticket_id="t"),
        Admit(opening="p-2", controller="c", lease_ms=1000),
        MoveOpening(opening="p-2", opens_at_ms=moved),
        opening_set("p-3", opens_at_ms=second),
    )
    await caught_up(view, ledger)
    async with open_view(ledger.url, ledger.program) as fresh:
        for each in (view, fresh):
            await _follows(each, ledger)
            assert [opening.id for opening in each.openings(ledger.program)] == ["p-3", "p-2", "p-1"]
            assert each.openings(ledger.program) == sorted(
                (await ledger.snapshot()).openings, key=lambda opening: opening.terms.opens_at_ms
            )
            openings = [each.opening_of(quota) for quota in each.select(ledger.program)]
            assert [opening.id for opening in openings if opening] == ["p-1", "p-2"]
            assert each.program_of_opening("p-2") == ledger.program
            assert (each.opening("p-none"), each.program_of_opening("p-none"), each.openings("none")) == (
                None,
                None,
                [],
            )
            result = each.opening("p-2")
            assert result is not None
            assert (result.joined, result.version, result.terms.opens_at_ms) == (1, 2, moved)
