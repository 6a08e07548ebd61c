"""Events of live pages, computed once for all streams of the process.

A check asks the view what changed since the last one. Each set of filters that is followed gets one event, encoded once
and written to all its readers. A reader that fell behind gets everything that it missed in one event, so that nothing
is queued. Between two checks passes at least `REST_RATIO` times the duration of a check and its events.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from reservasi.availability import Availability
from reservasi.front.views.answer_cache import FRAGMENTS_MAX, NEVER_MS, AnswerCache, next_turn_ms
from reservasi.front.views.filters import Today, fits, quotas_matching
from reservasi.logs import get_sparing_logger
from reservasi.model import Quota
from reservasi.programs import program_of

log = get_sparing_logger()

STREAMS_MAX = 256  # in one process: a stream uses memory as long as it is open
STREAMS_PER_ADDRESS_MAX = 16  # enough for a household or an office behind one address, but nobody takes all
PAUSE_S_MIN = 0.25  # at most four events per second and stream
PAUSE_S_MAX = 2.0
REST_RATIO = 10  # at most about a tenth of a front's time is used for live pages
LOOK_S = 1.0  # the delay in noticing that a reader has gone
START = 0  # the tick of a reader that got nothing yet
GONE_MAX = 20_000  # removed quotas that are remembered
UNKNOWN_VERSION = -1  # before any version of the view


class Readers:
    """The number of open streams, in total and by client address."""

    def __init__(self) -> None:
        self._by_address: Counter[str] = Counter()

    def admit(self, address: str) -> bool:
        """Whether one more stream may be opened from the address; if so, it counts until `leave`."""
        if self._by_address.total() >= STREAMS_MAX or self._by_address[address] >= STREAMS_PER_ADDRESS_MAX:
            return False
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A stream has ended."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class Feed:
    """The events of one set of filters."""

    def __init__(self, filters: Mapping[str, str]) -> None:
        self.filters = filters
        self.readers = 0
        self.events: dict[int, bytes] = {}  # tick of the reader -> what it missed; for the current tick
        self.checked = asyncio.Event()  # set and replaced at each check


class Live:
    """The checks of one process, and the feeds that are followed."""

    def __init__(
        self, availability: Availability, cache: AnswerCache, stopping: asyncio.Event, today: Today = lambda _: ""
    ) -> None:
        """`today` gives the first date of feeds without one."""
        self._today = today
        self._availability = availability
        self._cache = cache
        self._stopping = stopping
        self._feeds: dict[tuple[tuple[str, str], ...], Feed] = {}  # bounded by the streams
        self._published: dict[str, tuple[int, bytes]] = {}  # quota -> tick of its last change, and its JSON
        self._gone: dict[str, int] = {}  # removed quota -> tick in which that was published
        self._removals = 0
        self._tick = START + 1  # grows with every check that found a change
        self._news: dict[str, Quota] = {}  # changes since the last publication
        self._news_since = self._tick
        self._version = UNKNOWN_VERSION
        self._looked_at_ms = 0
        self._turn_ms = NEVER_MS
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, filters: Mapping[str, str]) -> Iterator[Feed]:
        """The feed of these filters; checks run as long as any feed is followed."""
        key = tuple(sorted(filters.items()))
        feed = self._feeds.setdefault(key, Feed(filters))
        feed.readers += 1
        self._check()  # the first event shows the current view
        if self._looking is None:
            self._looking = asyncio.create_task(self._keep_looking())
        try:
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers:
                del self._feeds[key]

    def event(self, feed: Feed, since: int) -> tuple[int, bytes]:
        """The current tick, and the event for a reader that has everything up to tick `since`; b"" if nothing
        changed.
        """
        if since == self._tick:
            return self._tick, b""
        event = feed.events.get(since)
        if event is None:
            published = [
                self._published.get(quota.id)
                for quota in quotas_matching(self._availability, feed.filters, self._today)
            ]
            fragments = [entry[1] for entry in published if entry is not None and entry[0] > since]
            event = _encoded(fragments, since, self._gone_of(feed, since))
            feed.events[since] = event
        return self._tick, event

    async def next_check(self, feed: Feed) -> bool:
        """Wait for the next check; returns whether there will be more."""
        if self._looking is not None:
            await feed.checked.wait()
        return self._looking is not None

    async def close(self) -> None:
        """Wait for the end of the checks, which comes with `stopping`."""
        if self._looking is not None:
            await self._looking

    async def _keep_looking(self) -> None:
        try:
            while self._feeds and not self._stopping.is_set():
                started_s = time.perf_counter()
                self._check()
                await self._publish()
                pause_s = (time.perf_counter() - started_s) * REST_RATIO
                await self._unless_stopping(asyncio.sleep(min(max(pause_s, PAUSE_S_MIN), PAUSE_S_MAX)))
                wait_s = min(max(self._turn_ms - self._availability.now_ms(), 0) / 1000, LOOK_S)
                await self._unless_stopping(self._availability.wait_change(self._version, wait_s))
        except Exception:  # streams must not stop silently
            log.exception("live_pages_failed")
        finally:
            self._looking = None
            for feed in self._feeds.values():
                feed.checked.set()

    async def _publish(self) -> None:
        """Build the event of each feed, letting other tasks run in between, since there may be many."""
        news, since, tick = self._news, self._news_since, self._tick
        self._news, self._news_since = {}, tick
        for feed in list(self._feeds.values()):
            # After another check, begun by a new reader, the news would be incomplete: `event` computes them then.
            if since != tick == self._tick:
                fragments = [
                    self._published[id_][1] for id_, quota in news.items() if fits(quota, feed.filters, self._today)
                ]
                feed.events[since] = _encoded(fragments, since, self._gone_of(feed, since))
            feed.checked.set()
            feed.checked = asyncio.Event()
            await asyncio.sleep(0)

    def _check(self) -> None:
        """Begin a new tick if anything changed for the public."""
        now_ms = self._availability.now_ms()
        if len(self._published) >= FRAGMENTS_MAX:
            self._published.clear()
            self._version = UNKNOWN_VERSION
        if now_ms >= self._turn_ms or now_ms < self._looked_at_ms:  # also if the ledger's clock went back
            touched, self._turn_ms = self._availability.select(), NEVER_MS
        else:
            touched = self._availability.changed_since(self._version)
        self._cache.ticket_rules.refresh(now_ms)
        turn_ms = min(next_turn_ms(touched, now_ms), self._cache.ticket_rules.turn_ms)
        self._turn_ms = min(self._turn_ms, turn_ms)
        self._version, self._looked_at_ms = self._availability.version, now_ms
        changed = {quota.id: quota for quota in touched if self._remember(quota, now_ms)}
        if self._note_gone() or changed:
            self._tick += 1
            self._news |= changed
            for feed in self._feeds.values():
                feed.events = {}

    def _note_gone(self) -> bool:
        """Whether a published quota has left the view since the last check."""
        removals = self._availability.removals
        if removals == self._removals:
            return False
        self._removals = removals
        gone = [quota_id for quota_id in self._published if self._availability.quota(quota_id) is None]
        if len(self._gone) + len(gone) > GONE_MAX:
            self._gone.clear()
        for quota_id in gone:
            del self._published[quota_id]
            self._news.pop(quota_id, None)
            self._gone[quota_id] = self._tick + 1
        return bool(gone)

    def _gone_of(self, feed: Feed, since: int) -> list[str]:
        """The removed quotas of the feed's program after `since`, regardless of other filters."""
        if since == START:
            return []
        program = feed.filters.get("program")
        return [id_ for id_, at in self._gone.items() if at > since and program in (None, program_of(id_))]

    def _remember(self, quota: Quota, now_ms: int) -> bool:
        """Note the published state of a quota for the next tick; returns whether it is new."""
        fragment = self._cache.fragment(quota, now_ms)
        entry = self._published.get(quota.id)
        if entry is not None and entry[1] == fragment:
            return False
        self._published[quota.id] = (self._tick + 1, fragment)
        self._gone.pop(quota.id, None)
        return True

    async def _unless_stopping(self, waiting: Awaitable[object]) -> None:
        """Wait for an awaitable, or for the shutdown if that comes first."""
        tasks = [asyncio.ensure_future(task) for task in (waiting, self._stopping.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _encoded(fragments: list[bytes], since: int, gone: list[str]) -> bytes:
    """A server-sent event; b"" if nothing changed for a reader that has got an event before."""
    if not fragments and not gone and since != START:
        return b""
    of_gone = b',"gone":' + msgspec.json.encode(gone) if gone else b""
    return b'event: availability\r\ndata: {"quotas":[' + b",".join(fragments) + b"]" + of_gone + b"}\r\n\r\n"
