"""A freed place that was claimed, and whose request is repeated at once through another front."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reservasi.availability import Availability
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.submitted import Submitted
from reservasi.model import Answer, Cancel, Claim, Command, Confirm, Outcome, Release, SetQuota
from tests.ledgers import HOUR_MS, Ledger, claim, eventually, open_group, open_ledger, quota_set
from tests.proxy import Proxy, open_proxy
from tests.views import caught_up, open_view, says_sold_out, shown

STALE_MS = 75


class Fronts:
    """One front that claims, and the view of another one, which a proxy can keep from hearing anything."""

    def __init__(self, ledger: Ledger, group: GroupCommit, other: Availability, proxy: Proxy) -> None:
        self.ledger, self.group, self.other, self.proxy = ledger, group, other, proxy
        self.quota, self.busy = (f"{ledger.program}.kanim.baru.20261201.{start}.online" for start in ("0800", "0900"))

    async def sold_out(self, capacity: int = 1, **changes: int) -> Claim:
        """The claim that took the quota's places, and both fronts know that there are none."""
        await self.ledger.run(quota_set(self.busy), quota_set(self.quota, capacity, **changes))
        taking = claim(capacity, self.quota)
        assert (await self.group.submit(taking)).outcome is Outcome.HELD
        await self.until_known()
        return taking

    async def until_known(self) -> None:
        """Both fronts know that nothing is left."""
        await caught_up(self.other, self.ledger)
        await says_sold_out(self.other, self.quota)

    async def look_away(self) -> None:
        """The other view has just read, and so does not read again for a moment."""
        version = (await shown(self.other, self.busy)).counts.version
        await self.ledger.one(SetQuota(quota=self.busy, capacity=100 + version))
        while (await shown(self.other, self.busy)).counts.version == version:
            await self.other.wait_change(self.other.version, 1.0)

    def refuses(self, request: Claim) -> bool:
        """Whether the other front would say "sold out" to the request now."""
        return self.other.is_sold_out(request.quota, len(request.persons), request.reservation_id)


@asynccontextmanager
async def open_fronts(url: str, program: str, settle_ms: int = STALE_MS) -> AsyncIterator[Fronts]:
    async with (
        open_ledger(url, program) as ledger,
        open_group(url, program, settle_ms=settle_ms) as group,
        open_proxy(url) as proxy,
        open_view(proxy.url, program, stale_ms=STALE_MS) as other,
    ):
        yield Fronts(ledger, group, other, proxy)


@pytest.fixture
async def fronts(valkey_url: str, program: str) -> AsyncIterator[Fronts]:
    async with open_fronts(valkey_url, program) as opened:
        yield opened


async def _release(fronts: Fronts, taking: Claim) -> None:
    assert (await fronts.ledger.one(Release(reservation_id=taking.reservation_id))).outcome is Outcome.RELEASED


async def _cancel(fronts: Fronts, taking: Claim) -> None:
    answers = await fronts.ledger.run(
        Confirm(reservation_id=taking.reservation_id), Cancel(reservation_id=taking.reservation_id)
    )
    assert answers[-1].outcome is Outcome.CANCELLED


async def _enlarge(fronts: Fronts, taking: Claim) -> None:
    answer = await fronts.ledger.one(SetQuota(quota=taking.quota, capacity=len(taking.persons) + 1))
    assert answer.outcome is Outcome.QUOTA_SET


@pytest.mark.parametrize("free", [_release, _cancel, _enlarge])
async def test_whoever_got_a_place_that_came_back_is_refused_nowhere(
    fronts: Fronts, free: Callable[[Fronts, Claim], Awaitable[None]]
) -> None:
    taking = await fronts.sold_out()
    await fronts.look_away()
    await free(fronts, taking)
    request = claim(1, fronts.quota)
    answer = await fronts.group.submit(request)
    refused = fronts.refuses(request)
    assert (answer.outcome, refused) == (Outcome.HELD, False)


async def test_nor_is_who_hears_it_as_a_repeat(fronts: Fronts) -> None:
    taking = await fronts.sold_out()
    await fronts.look_away()
    await _release(fronts, taking)
    request = claim(1, fronts.quota)
    await fronts.ledger.one(request)  # its answer was lost
    answer = await fronts.group.submit(request)
    refused = fronts.refuses(request)
    assert (answer.outcome, refused) == (Outcome.EXISTS, False)


async def test_nor_is_who_got_a_place_of_a_ledger_that_forgot_its_last_holds(fronts: Fronts) -> None:
    await fronts.ledger.run(quota_set(fronts.busy), quota_set(fronts.quota, 1))
    before = await fronts.ledger.dump()
    await fronts.ledger.one(claim(1, fronts.quota))
    await fronts.until_known()
    fronts.proxy.held.clear()
    await fronts.ledger.client.delete(*await fronts.ledger.dump())
    for key, content in before.items():
        assert content is not None
        await fronts.ledger.client.restore(key.decode(), 0, content)
    assert await fronts.ledger.own() == "owned"
    request = claim(1, fronts.quota)
    answer = await fronts.group.submit(request)
    refused = fronts.refuses(request)
    assert (answer.outcome, refused) == (Outcome.HELD, False)
    fronts.proxy.held.set()
    await caught_up(fronts.other, fronts.ledger)


async def test_a_front_that_hears_late_does_not_take_what_it_hears_for_new(fronts: Fronts) -> None:
    """What a reply says held when it was asked for, not when it is read."""
    taking = await fronts.sold_out()
    fronts.proxy.held.clear()

    async def held_up() -> bool:
        return fronts.proxy.waiting > 0  # a reply that says that nothing is new

    await eventually(held_up)
    await _release(fronts, taking)
    request = claim(1, fronts.quota)
    assert (await fronts.group.submit(request)).outcome is Outcome.HELD
    fronts.proxy.held.set()
    follower = fronts.other._followers[fronts.ledger.program]
    while follower.view.position.seq < (await fronts.ledger.snapshot()).position.seq:
        assert not fronts.refuses(request)


async def test_it_is_said_when_places_came_free_where_some_would_have_been_refused(fronts: Fronts) -> None:
    quota, other = fronts.quota, fronts.busy
    created = (await fronts.ledger.run(quota_set(quota, 6), quota_set(other, 6)))[0].now_ms

    async def freed_at(at: str) -> int:
        request = claim(1, at)
        answer, again = await fronts.ledger.run(request, request)
        assert (answer.outcome, again.outcome) == (Outcome.HELD, Outcome.EXISTS)
        assert answer.freed_at_ms == again.freed_at_ms
        await fronts.ledger.one(Release(reservation_id=request.reservation_id))
        return answer.freed_at_ms

    assert await freed_at(quota) == created
    assert await freed_at(quota) == created, "with five left nobody could be told that there are too few"
    taking = claim(1, quota)
    await fronts.ledger.run(taking, claim(1, quota))
    released = await fronts.ledger.one(Release(reservation_id=taking.reservation_id))
    assert await freed_at(quota) == released.now_ms
    assert await freed_at(other) == created


async def test_a_place_on_its_way_back_counts_from_its_return(fronts: Fronts) -> None:
    taking = await fronts.sold_out(return_min_ms=20, return_max_ms=20)
    released = await fronts.ledger.one(Release(reservation_id=taking.reservation_id))
    await fronts.ledger.until(released.now_ms + 20)
    answer = await fronts.ledger.one(claim(1, fronts.quota))
    assert (answer.outcome, answer.freed_at_ms) == (Outcome.HELD, answer.now_ms)


async def test_a_group_that_closes_tells_those_first_who_wait_for_it(valkey_url: str, program: str) -> None:
    async with open_ledger(valkey_url, program) as ledger:
        quota = f"{program}.kanim.baru.20261201.0800.online"
        async with open_group(valkey_url, program, settle_ms=300) as group:
            await ledger.one(quota_set(quota, 1))
            pending = asyncio.create_task(group.submit(claim(1, quota)))

            async def answered() -> bool:
                return group._release._settling == 1

            await eventually(answered)
        assert pending.done()
        assert (await pending).outcome is Outcome.HELD


async def test_a_clock_that_was_set_back_lets_nobody_wait_longer(valkey_url: str, program: str) -> None:
    async with open_group(valkey_url, program, settle_ms=20) as group:
        answered = asyncio.Event()
        waiting = Submitted(claim(), lambda _: answered.set(), 0.0, 0.0)
        answer = Answer(outcome=Outcome.HELD, epoch=1, seq=1, now_ms=1_000_000, freed_at_ms=1_000_000 + HOUR_MS)
        group._release.when_settled(waiting, answer)
        assert not answered.is_set()
        await asyncio.wait_for(answered.wait(), 60)
        assert group._release._settling == 0


async def test_whoever_has_gone_meanwhile_is_told_nothing(valkey_url: str, program: str) -> None:
    async with open_group(valkey_url, program, settle_ms=20) as group:
        answers: list[object] = []
        waiting = Submitted(claim(), answers.append, 0.0, 0.0)
        answer = Answer(outcome=Outcome.HELD, epoch=1, seq=1, now_ms=1_000_000, freed_at_ms=1_000_000)
        group._release.when_settled(waiting, answer)
        waiting.abandon()

        async def over() -> bool:
            return not group._release._settling

        await eventually(over)
        assert not answers


async def test_nor_is_who_was_told_because_the_records_had_it_instead(valkey_url: str, program: str) -> None:
    """Where too few replicas acknowledge, there is more than one way to the answer."""
    async with open_group(valkey_url, program, settle_ms=20) as group:
        instead: Any = Recorded()
        group._release._instead = instead
        answered = asyncio.Event()
        waiting = Submitted(claim(), lambda _: answered.set(), 0.0, 0.0)
        answer = Answer(outcome=Outcome.HELD, epoch=1, seq=1, now_ms=1_000_000, freed_at_ms=1_000_000)
        group._release.when_safe(waiting, answer)
        assert not answered.is_set()
        await asyncio.wait_for(answered.wait(), 60)


class Recorded:
    """Records that have everything at once."""

    def hold(self, _command: Command, answer: Answer, tell: Callable[[Answer], None], _timeout_s: float) -> None:
        tell(answer)

    async def close(self) -> None:
        pass
