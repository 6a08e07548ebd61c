"""Live pages: one check and one encoding for all, nothing missed by slow readers, nothing sent twice."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.stage.program import open_terms
from reservasi.availability import Availability
from reservasi.availability.follower import Follower
from reservasi.availability.view import ProgramView
from reservasi.events import JournalEntry, QuotaSet
from reservasi.front.views import live_feed as live_module
from reservasi.front.views.answer_cache import AnswerCache
from reservasi.front.views.filters import fits, quotas_matching
from reservasi.front.views.live_feed import (
    START,
    STREAMS_MAX,
    STREAMS_PER_ADDRESS_MAX,
    Feed,
    Live,
    Readers,
)
from reservasi.model import Quota, QuotaCounts

TERMS = open_terms(capacity=5)


def quota(name: str, *, held: int = 0, **terms: Any) -> Quota:
    return Quota(id=f"p.{name}", terms=msgspec.structs.replace(TERMS, **terms), counts=QuotaCounts(held=held))


class View:
    """As much of the availability view as live pages depend on; `looks` counts how often it is asked for changes."""

    def __init__(self) -> None:
        self.version, self.clock_ms, self.looks, self.removals = 1, 1000, 0, 0
        self.quotas: dict[str, tuple[int, Quota]] = {}
        self._changed = asyncio.Event()

    def put(self, *quotas: Quota) -> None:
        self.version += 1
        for each in quotas:
            self.quotas[each.id] = (self.version, each)
        self._changed.set()
        self._changed = asyncio.Event()

    def take(self, *names: str) -> None:
        self.removals += 1
        for name in names:
            del self.quotas[f"p.{name}"]
        self.put()

    def quota(self, quota_id: str) -> Quota | None:
        return self.quotas[quota_id][1] if quota_id in self.quotas else None

    def now_ms(self) -> int:
        return self.clock_ms

    def programs(self) -> list[str]:
        return ["p"]

    def select(self, office: str | None = None, **_: object) -> list[Quota]:
        return [each for _, each in self.quotas.values() if office in (None, each.terms.office)]

    def changed_since(self, version: int) -> list[Quota]:
        self.looks += 1
        return [each for at, each in self.quotas.values() if at > version]

    def state(self, quota: Quota, now_ms: int) -> str:
        return "open" if quota.terms.opens_at_ms <= now_ms else "not-open"

    async def wait_change(self, version: int, timeout_s: float) -> int:
        if self.version == version:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self.version


class Page:
    """A reader of the stream, without a connection."""

    def __init__(self, live: Live, feed: Feed) -> None:
        self.live, self.feed, self.tick = live, feed, START
        self.event = b""

    def read(self) -> dict[str, int]:
        """What it is told now: the remaining places by quota; nothing when there is no news."""
        self.tick, self.event = self.live.event(self.feed, self.tick)
        if not self.event:
            return {}
        assert self.event.startswith(b"event: availability\r\ndata: ")
        assert self.event.endswith(b"\r\n\r\n")
        quotas = json.loads(self.event.split(b"data: ")[1])["quotas"]
        return {each["id"]: each["remaining"] for each in quotas}

    async def next(self) -> dict[str, int]:
        """Its next news."""
        async with asyncio.timeout(5):
            while await self.live.next_check(self.feed):
                if news := self.read():
                    return news
        raise AssertionError("there is no more")


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
async def live(view: View, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    monkeypatch.setattr(live_module, "PAUSE_S_MIN", 0.01)
    monkeypatch.setattr(live_module, "LOOK_S", 0.05)
    availability, stopping = cast(Availability, view), asyncio.Event()
    live = Live(availability, AnswerCache(availability), stopping)
    yield live
    stopping.set()
    await live.close()


async def test_a_hundred_pages_cost_one_look_and_one_encoding(view: View, live: Live) -> None:
    view.put(quota("a"), quota("b"))
    with live.follow({}) as feed, live.follow({}) as same:
        assert feed is same
        pages = [Page(live, feed) for _ in range(100)]
        assert {json.dumps(page.read()) for page in pages} == {'{"p.a": 5, "p.b": 5}'}
        assert len({id(page.event) for page in pages}) == 1
        assert await live.next_check(feed)
        looks = view.looks
        view.put(quota("a", held=1))
        news = await asyncio.gather(*(page.next() for page in pages))
        assert news == [{"p.a": 4}] * 100
        assert len({id(page.event) for page in pages}) == 1
        assert view.looks - looks <= 3


async def test_each_feed_hears_of_what_it_follows(view: View, live: Live) -> None:
    view.put(quota("a", office="kanim"), quota("b", office="ulp"))
    with live.follow({"office": "kanim"}) as one, live.follow({"office": "ulp"}) as other:
        here, there = Page(live, one), Page(live, other)
        assert (here.read(), there.read()) == ({"p.a": 5}, {"p.b": 5})
        view.put(quota("b", office="ulp", held=2))
        assert await there.next() == {"p.b": 3}
        assert here.read() == {}


async def test_a_slow_page_misses_nothing(view: View, live: Live) -> None:
    view.put(quota("a"), quota("b"), quota("c"))
    with live.follow({}) as feed:
        slow, quick = Page(live, feed), Page(live, feed)
        slow.read()
        quick.read()
        for held in (1, 2, 3):
            view.put(quota("a", held=held), *([quota("b", held=1)] if held == 2 else []))
            assert "p.a" in await quick.next()
        assert slow.read() == {"p.a": 2, "p.b": 4}
        assert slow.read() == {}


async def test_pages_that_come_and_read_at_any_moment_end_up_with_what_is_there(view: View, live: Live) -> None:
    chance = random.Random(7)
    offices = ["kanim", "ulp", "mall"]
    followed = [{"office": office} for office in offices] + [{}]
    with ExitStack() as open_pages:
        pages: list[tuple[Page, dict[str, int]]] = []
        for step in range(300):
            if chance.random() < 0.1:
                feed = open_pages.enter_context(live.follow(chance.choice(followed)))
                pages.append((Page(live, feed), {}))
            number = chance.randrange(30)
            view.put(quota(f"{number}", office=offices[number % 3], held=step % 5))
            for page, shown in chance.sample(pages, len(pages) // 2):
                shown.update(page.read())
            if chance.random() < 0.7:
                await asyncio.sleep(chance.choice([0, 0, 0.002]))
        assert len(pages) > 10
        with live.follow({}):  # looks once more
            for page, shown in pages:
                shown.update(page.read())
                assert shown == {q.id: q.remaining for q in view.select(page.feed.filters.get("office"))}


async def test_what_the_public_does_not_see_is_no_news(view: View, live: Live) -> None:
    view.put(quota("a"))
    with live.follow({}) as feed:
        page = Page(live, feed)
        page.read()
        view.put(quota("a"))  # as after a new snapshot
        assert await live.next_check(feed)
        assert await live.next_check(feed)
        assert page.read() == {}


async def test_a_page_without_quotas_is_told_so_once(live: Live) -> None:
    with live.follow({"office": "nowhere"}) as feed:
        page = Page(live, feed)
        page.read()
        assert b'{"quotas":[]}' in page.event
        assert await live.next_check(feed)
        page.read()
        assert page.event == b""


async def test_the_clock_opens_what_nobody_changed(view: View, live: Live) -> None:
    view.put(quota("a", opens_at_ms=2000), quota("b"))
    with live.follow({}) as feed:
        page = Page(live, feed)
        page.read()
        assert b'"not-open"' in page.event
        view.clock_ms = 2000
        assert await page.next() == {"p.a": 5}
        assert b'"open"' in page.event
        view.clock_ms = 1500  # set back
        assert await page.next() == {"p.a": 5}
        assert b'"not-open"' in page.event


async def test_whoever_comes_again_is_told_everything_anew(view: View, live: Live) -> None:
    view.put(quota("a"))
    with live.follow({}) as feed:
        Page(live, feed).read()
    await live.close()  # the looks end with the last page
    view.put(quota("a", held=1), quota("b"))
    with live.follow({}) as feed:
        assert Page(live, feed).read() == {"p.a": 4, "p.b": 5}


async def test_pages_hear_of_quotas_that_have_gone(view: View, live: Live) -> None:
    view.put(quota("a"), quota("b"), quota("c"))
    with live.follow({}) as feed, live.follow({"program": "other"}) as foreign:
        slow, quick, other = Page(live, feed), Page(live, feed), Page(live, foreign)
        for page in (slow, quick, other):
            page.read()
        view.take("a")
        assert await live.next_check(feed)
        assert quick.read() == {}
        assert json.loads(quick.event.split(b"data: ")[1]) == {"quotas": [], "gone": ["p.a"]}
        assert other.read() == {}
        assert other.event == b""
        view.take("b")
        view.put(quota("a", held=1))
        assert await quick.next() == {"p.a": 4}
        assert slow.read() == {"p.a": 4}
        assert json.loads(slow.event.split(b"data: ")[1])["gone"] == ["p.b"]
    with live.follow({}) as feed:
        late = Page(live, feed)
        assert late.read() == {"p.a": 4, "p.c": 5}
        assert b"gone" not in late.event


async def test_a_table_that_is_full_starts_anew(view: View, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "FRAGMENTS_MAX", 2)
    view.put(quota("a"), quota("b"))
    with live.follow({}) as feed:
        page = Page(live, feed)
        assert page.read() == {"p.a": 5, "p.b": 5}
        view.put(quota("a", held=1))
        assert (await page.next())["p.a"] == 4


async def test_pages_are_let_go_when_looking_fails(view: View, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    with live.follow({}) as feed:
        monkeypatch.setattr(view, "changed_since", None)
        async with asyncio.timeout(5):
            while await live.next_check(feed):
                pass


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "program": st.sampled_from(["p", "q"]),
        "office": st.sampled_from(["kanim", "ulp"]),
        "service": st.sampled_from(["baru", "ganti"]),
        "channel": st.sampled_from(["online", "priority"]),
        "from": st.sampled_from(["2026-12-01", "2026-12-02"]),
        "to": st.sampled_from(["2026-12-01", "2026-12-02"]),
    },
)


TODAY = {"p": "2026-12-02", "q": "2026-11-30"}.__getitem__


class _Views(Availability):
    """The real view's selection, over quotas that no journal told."""

    def __init__(self, quotas: list[Quota]) -> None:
        self._followers = {}
        for each in quotas:
            program = each.id.partition(".")[0]
            follower = self._followers.setdefault(program, cast(Follower, type("_", (), {"view": ProgramView()})()))
            created = QuotaSet(seq=1, quota=each.id, version=1, terms=each.terms)
            entry = JournalEntry(epoch=1, first_seq=1, at_ms=1, chain="", payload=b"", events=(created,))
            follower.view.apply(entry, 1)


QUOTAS = [
    msgspec.structs.replace(
        quota("x", office=office, service=service, channel=channel, date=date),
        id=f"{program}.{office}.{service}.{channel}.{date}",
    )
    for program in ("p", "q")
    for office in ("kanim", "ulp")
    for service in ("baru", "ganti")
    for channel in ("online", "priority")
    for date in ("2026-12-01", "2026-12-02")
]


@given(FILTERS)
def test_what_fits_is_what_is_selected(filters: dict[str, str]) -> None:
    chosen = quotas_matching(_Views(QUOTAS), filters, TODAY)
    assert {each.id for each in chosen} == {each.id for each in QUOTAS if fits(each, filters, TODAY)}


def test_readers_are_counted_by_address_and_in_all() -> None:
    readers = Readers()
    assert [readers.admit("a") for _ in range(STREAMS_PER_ADDRESS_MAX + 1)].count(True) == STREAMS_PER_ADDRESS_MAX
    readers.leave("a")
    assert readers.admit("a")
    admitted = [number for number in range(STREAMS_MAX) if readers.admit(f"{number}")]
    assert len(admitted) == STREAMS_MAX - STREAMS_PER_ADDRESS_MAX
    for number in admitted:
        readers.leave(f"{number}")
    assert set(readers._by_address) == {"a"}
