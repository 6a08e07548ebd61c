"""The computation of the adaptive rate, and which openings are live."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservasi.model import Opening
from reservasi.waiting_room.admission import is_live, next_rate
from tests.ledgers import opening_terms

TARGET_MS = 100.0
rates = st.integers(1, 1_000_000)
delays = st.one_of(st.none(), st.floats(0, 100_000))


@pytest.mark.parametrize(
    ("rate", "delay_ms", "wanted"),
    [
        (600, 0.0, 660),
        (600, 49.9, 660),
        (600, 50.0, 600),
        (600, 100.0, 600),
        (600, 100.1, 300),
        (600, None, 600),
        (1, 0.0, 2),
        (1, 5000.0, 1),
        (2, 5000.0, 1),
        (5900, 0.0, 6000),
        (6000, 0.0, 6000),
        (9000, None, 6000),
        (9000, 75.0, 6000),
    ],
)
def test_the_rate_after_a_second(rate: int, delay_ms: float | None, wanted: int) -> None:
    assert next_rate(rate, delay_ms, TARGET_MS, 6000) == wanted


@given(rates, delays, rates)
def test_it_stays_within_its_limits(rate: int, delay_ms: float | None, most: int) -> None:
    assert 1 <= next_rate(rate, delay_ms, TARGET_MS, most) <= most


@given(rates, delays, delays)
def test_more_delay_never_lets_more_in(rate: int, one: float | None, other: float | None) -> None:
    less, more = sorted(delay for delay in (one or 0.0, other or 0.0))
    assert next_rate(rate, more, TARGET_MS, 10**6) <= next_rate(rate, less, TARGET_MS, 10**6)


def test_it_settles_where_the_service_is_just_fast_enough() -> None:
    """A queue that grows with what comes above 3000 a minute and drains below: the rate hovers below that."""
    rate, backlog, samples = 600, 0.0, []
    for second in range(600):
        backlog = max(0.0, backlog + (rate - 3000) / 60)
        rate = next_rate(rate, backlog * 1000 / 50, TARGET_MS, 60_000)
        if second >= 60:
            samples.append(rate)
    assert 2000 <= sum(samples) / len(samples) <= 3000
    assert max(samples) <= 3000 * 1.3


@pytest.mark.parametrize(
    ("now_ms", "live"), [(8_999, False), (9_000, True), (10_000, True), (29_999, True), (30_000, False)]
)
def test_an_opening_is_live_from_a_second_before_people_join(now_ms: int, live: bool) -> None:
    window = {"joins_from_ms": 10_000, "opens_at_ms": 20_000, "ends_at_ms": 30_000}
    assert is_live(Opening(id="p-1", terms=opening_terms(**window)), now_ms) is live
    assert not is_live(Opening(id="p-1", terms=opening_terms(**window, waiting_room=False)), now_ms)
