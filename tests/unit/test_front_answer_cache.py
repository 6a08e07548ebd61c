"""The cache of encoded answers: fresh after every change and moment of the clock, bounded, and cheap."""

from typing import cast

import msgspec
import pytest

from loadtest.stage.program import open_terms
from reservasi.availability import Availability
from reservasi.front.views import answer_cache as memory_module
from reservasi.front.views.answer_cache import NEVER_MS, AnswerCache, Made, next_turn_ms
from reservasi.model import Quota, QuotaCounts


class View:
    """As much of the availability view as answers depend on."""

    version = 1
    clock_ms = 1000
    states = 0

    def now_ms(self) -> int:
        return self.clock_ms

    def state(self, quota: Quota, now_ms: int) -> str:
        self.states += 1
        return "open" if quota.terms.opens_at_ms <= now_ms else "not-open"


def quota(number: int = 1, opens_at_ms: int = 0, closes_at_ms: int = 0) -> Quota:
    terms = open_terms(capacity=5, opens_at_ms=opens_at_ms, closes_at_ms=closes_at_ms)
    return Quota(id=f"q-{number}", terms=terms, counts=QuotaCounts())


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
def cache(view: View) -> AnswerCache:
    return AnswerCache(cast(Availability, view))


def test_an_answer_is_made_once_for_a_version(view: View, cache: AnswerCache) -> None:
    moments: list[int] = []

    def make(now_ms: int) -> Made[int]:
        moments.append(now_ms)
        return Made(len(moments), 1, NEVER_MS)

    assert [cache.answer("k", make) for _ in range(3)] == [1, 1, 1]
    view.version += 1
    deadline_answers = 0
    while cache.answer("k", make) == 1:  # the rest after a making is short: ten times what it took
        deadline_answers += 1
        assert deadline_answers < 1_000_000
    assert cache.answer("k", make) == 2


def test_the_clock_turns_an_answer_exactly(view: View, cache: AnswerCache) -> None:
    quotas = [quota(opens_at_ms=2000, closes_at_ms=3000)]

    def ask() -> int:
        return cache.answer("k", lambda now_ms: Made(now_ms, 1, next_turn_ms(quotas, now_ms)), 60.0)

    answers = []
    for view.clock_ms in (1000, 1999, 2000, 2999, 3000, 9000):
        answers.append(ask())
    assert answers == [1000, 1000, 2000, 2000, 3000, 3000]


def test_answers_are_bounded(cache: AnswerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "ANSWERS_MAX", 3)
    monkeypatch.setattr(memory_module, "BYTES_MAX", 100)
    keys: list[int] = []

    def ask(key: int, size: int) -> None:
        def make(_now_ms: int) -> Made[int]:
            keys.append(key)
            return Made(key, size, NEVER_MS)

        cache.answer(key, make)

    for key in (1, 2, 3, 1, 4, 1):
        ask(key, 1)
    assert keys == [1, 2, 3, 4]
    ask(2, 1)  # was dropped as the one asked for longest ago
    assert keys == [1, 2, 3, 4, 2]
    ask(9, 99)  # leaves room for one byte: only 2 stays beside it
    ask(2, 1)
    ask(1, 1)
    assert keys == [1, 2, 3, 4, 2, 9, 1]


def test_a_fragment_is_encoded_once_for_a_quota_and_state(view: View, cache: AnswerCache) -> None:
    value = quota(opens_at_ms=2000)
    first = cache.fragment(value, 1000)
    assert cache.fragment(value, 1500) is first
    assert msgspec.json.decode(first)["state"] == "not-open"
    assert msgspec.json.decode(cache.fragment(value, 2000))["state"] == "open"
    changed = msgspec.structs.replace(value, counts=QuotaCounts(held=2))
    assert msgspec.json.decode(cache.fragment(changed, 2000))["remaining"] == 3
