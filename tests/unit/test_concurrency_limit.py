"""The limit follows a standing queue, and lets a burst pass."""

from reservasi.ledger.concurrency_limit import ConcurrencyLimit


def limit() -> ConcurrencyLimit:
    return ConcurrencyLimit(least=10, most=1000, target_s=0.02, interval_s=0.1)


def run(adapted: ConcurrencyLimit, delays_s: list[float], under_way: int, now_s: float = 100.0) -> float:
    for delay_s in delays_s:
        adapted.observe(delay_s, under_way, now_s)
        now_s += 0.025
    return now_s


def test_a_burst_that_drains_is_let_through() -> None:
    adapted = limit()
    run(adapted, [0.5, 0.3, 0.1, 0.001] * 10, 900)
    assert adapted.value == 1000


def test_a_standing_queue_is_cut_in_proportion_to_its_delay_and_never_below_the_least() -> None:
    adapted = limit()
    run(adapted, [0.025] * 6, 500)
    assert adapted.value == 400  # 500 under way took 25 ms: 400 take 20
    run(adapted, [5.0] * 200, 400, 200.0)
    assert adapted.value == 10


def test_it_grows_again_while_it_is_used_and_recovers_at_rest() -> None:
    adapted = limit()
    now_s = run(adapted, [0.2] * 40, 500)
    low = adapted.value
    now_s = run(adapted, [0.001] * 10, low, now_s)
    assert adapted.value > low
    for _ in range(50):
        adapted.rest()
    assert adapted.value == 1000


def test_little_load_teaches_nothing() -> None:
    adapted = limit()
    now_s = run(adapted, [0.2] * 40, 500)
    now_s = run(adapted, [0.001] * 5, 1, now_s)  # what was begun in the crowd is over
    low = adapted.value
    run(adapted, [0.001] * 40, 1, now_s)
    assert adapted.value == low
