"""Time in the ledger: deadlines, openings, closings, random returns, tombstones, exact to the millisecond."""

from collections.abc import Awaitable, Callable

from reservasi.events import Ended, Held, Returned
from reservasi.ledger import keys
from reservasi.model import Answer, Cancel, Confirm, Find, Outcome, Release, SetQuota, State, Sweep
from tests.ledgers import HOUR_MS, OTHER_QUOTA, QUOTA, Ledger, claim, quota_set, terms

ROUNDS_MAX = 400  # tries to be there in the very millisecond; on a busy machine most come too late
SWEEP = Sweep(items_max=100)


async def _watch(moment_ms: int, probe: Callable[[], Awaitable[Answer]]) -> list[Answer]:
    """Answers from before the moment until after it."""
    answers = [await probe()]
    while answers[-1].now_ms <= moment_ms:
        answers.append(await probe())
    return answers


async def test_a_hold_has_expired_in_the_millisecond_of_its_deadline(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=ROUNDS_MAX, hold_ms=4))
    for _ in range(ROUNDS_MAX):
        request = claim()
        deadline_ms = (await ledger.one(request)).deadline_ms
        find = Find(reservation_id=request.reservation_id)
        answers = await _watch(deadline_ms, lambda find=find: ledger.one(find))  # type: ignore[misc]
        for answer in answers:
            assert answer.state is (State.EXPIRED if answer.now_ms >= deadline_ms else State.HELD)
        if any(answer.now_ms == deadline_ms for answer in answers):
            return
    raise AssertionError("no answer fell into the deadline's millisecond")


async def test_a_deadline_that_is_now_has_passed(ledger: Ledger) -> None:
    await ledger.one(quota_set(hold_ms=0))
    first, second = claim(["a"]), claim(["a"])
    held, again = await ledger.run(first, second)
    assert (held.outcome, again.outcome) == (Outcome.HELD, Outcome.HELD)
    assert held.deadline_ms == held.now_ms == again.now_ms
    *_, entry = await ledger.entries()
    assert [type(event) for event in entry.events] == [Held, Ended, Held]
    # No timer of a hold that has ended stays behind.
    assert (await ledger.one(SWEEP)).expired == 1
    await ledger.one(SWEEP)
    assert await ledger.client.exists(keys.timers(ledger.program), keys.due(ledger.program)) == 0


async def test_an_opening_and_a_closing_are_exact(ledger: Ledger) -> None:
    met: set[str] = set()
    for round_number in range(ROUNDS_MAX):
        quota = f"p.o.s.20261201.{round_number:04}.online"
        at_ms = await ledger.now_ms() + 4
        await ledger.one(quota_set(quota, 10_000, opens_at_ms=at_ms, closes_at_ms=at_ms + 4))
        answers = await _watch(at_ms + 4, lambda quota=quota: ledger.one(claim(quota=quota)))  # type: ignore[misc]
        for answer in answers:
            if answer.now_ms < at_ms:
                assert answer.outcome is Outcome.NOT_OPEN
            else:
                assert answer.outcome is (Outcome.HELD if answer.now_ms < at_ms + 4 else Outcome.CLOSED)
            met |= {what for what, moment_ms in (("opens", at_ms), ("closes", at_ms + 4)) if answer.now_ms == moment_ms}
        if met == {"opens", "closes"}:
            return
    raise AssertionError("no answers fell into both milliseconds")


async def test_the_last_moment_of_a_cancellation_is_included(ledger: Ledger) -> None:
    for round_number in range(ROUNDS_MAX):
        quota = f"p.o.s.20261201.{round_number:04}.online"
        await ledger.one(quota_set(quota, 1000))
        claims = [claim(quota=quota) for _ in range(100)]
        await ledger.run(*claims, *(Confirm(reservation_id=each.reservation_id) for each in claims))
        last_ms = await ledger.now_ms() + 3
        await ledger.one(SetQuota(quota=quota, terms=terms(1000, cancel_until_ms=last_ms), version=1))
        waiting = [each.reservation_id for each in claims]
        answers = await _watch(
            last_ms,
            lambda waiting=waiting: ledger.one(Cancel(reservation_id=waiting.pop())),  # type: ignore[misc]
        )
        for answer in answers:
            assert answer.outcome is (Outcome.CANCELLED if answer.now_ms <= last_ms else Outcome.TOO_LATE)
        if any(answer.now_ms == last_ms for answer in answers):
            return
    raise AssertionError("no answer fell into the last millisecond")


async def test_a_claim_runs_the_timers_of_its_quota_itself(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=2, hold_ms=1))
    lost = claim(2)
    held = await ledger.one(lost)
    await ledger.until(held.deadline_ms)
    assert (await ledger.one(claim(2))).outcome is Outcome.HELD
    assert (await ledger.one(Find(reservation_id=lost.reservation_id))).state is State.EXPIRED
    assert await ledger.counts() == (2, 0, 0)


async def test_an_expired_hold_of_another_quota_does_not_block_its_person(ledger: Ledger) -> None:
    await ledger.run(quota_set(OTHER_QUOTA, hold_ms=1), quota_set(QUOTA))
    lost = claim(["a", "b"], OTHER_QUOTA)
    held = await ledger.one(lost)
    await ledger.until(held.deadline_ms)
    assert (await ledger.one(claim(["b"]))).outcome is Outcome.HELD
    assert await ledger.counts(OTHER_QUOTA) == (0, 0, 0)
    assert (await ledger.one(Confirm(reservation_id=lost.reservation_id))).outcome is Outcome.HOLD_EXPIRED
    # The other person of the group is free as well.
    assert (await ledger.one(claim(["a"]))).outcome is Outcome.HELD


async def test_a_person_is_free_again_after_every_end(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=1))
    for _ in range(2):
        released = claim(["a"])
        assert (await ledger.one(released)).outcome is Outcome.HELD
        assert (await ledger.one(claim(["a"]))).outcome is Outcome.DUPLICATE_APPLICANT
        await ledger.one(Release(reservation_id=released.reservation_id))
        cancelled = claim(["a"])
        await ledger.run(cancelled, Confirm(reservation_id=cancelled.reservation_id))
        assert (await ledger.one(claim(["a"]))).outcome is Outcome.DUPLICATE_APPLICANT
        await ledger.one(Cancel(reservation_id=cancelled.reservation_id))
    assert await ledger.client.exists(keys.persons(ledger.program)) == 0


async def test_returned_places_count_as_taken_and_come_back_once_within_their_bounds(ledger: Ledger) -> None:
    least_ms, most_ms, places = 20, 120, 40
    await ledger.one(quota_set(capacity=places, return_min_ms=least_ms, return_max_ms=most_ms))
    claims = [claim() for _ in range(places)]
    await ledger.run(*claims)
    released = await ledger.run(*(Release(reservation_id=each.reservation_id) for each in claims))
    assert await ledger.counts() == (0, 0, places)
    *_, entry = await ledger.entries()
    ended = [event for event in entry.events if isinstance(event, Ended)]
    delays_ms = [event.returns_at_ms - entry.at_ms for event in ended]
    assert all(least_ms <= delay_ms <= most_ms for delay_ms in delays_ms)
    assert len(set(delays_ms)) > places // 4, "places of one batch return at different moments"
    assert max(delays_ms) - min(delays_ms) > (most_ms - least_ms) // 3

    # While any is on its way, exactly those whose moment has passed can be claimed.
    while (answer := await ledger.one(claim(places + 1))).now_ms <= released[0].now_ms + most_ms:
        passed = sum(event.returns_at_ms <= answer.now_ms for event in ended)
        assert (answer.outcome, answer.remaining) == (Outcome.SOLD_OUT, passed)
    assert (await ledger.one(claim(places + 1))).remaining == places
    returned = [event for entry in await ledger.entries() for event in entry.events if isinstance(event, Returned)]
    assert sum(event.places for event in returned) == places
    assert (await ledger.one(SWEEP)).returned == 0
    assert await ledger.counts() == (0, 0, 0)


async def test_expired_and_cancelled_places_return_late_as_well(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=3, hold_ms=30, return_min_ms=HOUR_MS, return_max_ms=2 * HOUR_MS))
    lost, cancelled = claim(2), claim()
    held, *_ = await ledger.run(
        lost,
        cancelled,
        Confirm(reservation_id=cancelled.reservation_id),
        Cancel(reservation_id=cancelled.reservation_id),
    )
    await ledger.until(held.deadline_ms)
    swept = await ledger.one(SWEEP)
    assert (swept.expired, swept.returned) == (1, 0)
    assert await ledger.counts() == (0, 0, 3)
    assert (await ledger.one(claim())).outcome is Outcome.SOLD_OUT
    below = await ledger.one(SetQuota(quota=QUOTA, capacity=2))
    assert (below.outcome, below.taken) == (Outcome.BELOW_TAKEN, 3)


async def test_a_sweep_keeps_to_its_limit_and_forgets_no_quota(ledger: Ledger) -> None:
    await ledger.run(quota_set(QUOTA, 5, hold_ms=1), quota_set(OTHER_QUOTA, 5, hold_ms=1))
    answers = await ledger.run(*(claim() for _ in range(5)), *(claim(quota=OTHER_QUOTA) for _ in range(5)))
    await ledger.until(answers[-1].deadline_ms)
    assert [(await ledger.one(Sweep(items_max=4))).expired for _ in range(4)] == [4, 4, 2, 0]
    assert await ledger.client.exists(keys.due(ledger.program), keys.timers(ledger.program)) == 0


async def test_a_place_returns_once_however_many_sweeps_one_batch_has(ledger: Ledger) -> None:
    await ledger.run(quota_set(capacity=9, return_min_ms=1, return_max_ms=1), quota_set(OTHER_QUOTA, hold_ms=1))
    claims, lost = [claim(2) for _ in range(4)], [claim(quota=OTHER_QUOTA) for _ in range(2)]
    answers = await ledger.run(*claims, *lost, *(Release(reservation_id=each.reservation_id) for each in claims))
    await ledger.until(answers[-1].now_ms + 2)
    assert await ledger.counts() == (0, 0, 8)
    sweeps = await ledger.run(*(Sweep(items_max=most) for most in (1, 2, 100, 100)))
    assert sum(sweep.returned for sweep in sweeps) == 4
    assert sum(sweep.expired for sweep in sweeps) == 2
    assert await ledger.counts() == (0, 0, 0)
    assert await ledger.counts(OTHER_QUOTA) == (0, 0, 0)
    returned = [event for entry in await ledger.entries() for event in entry.events if isinstance(event, Returned)]
    assert [event.places for event in returned] == [2, 2, 2, 2]
    assert (await ledger.one(claim(10))).remaining == 9


async def test_tombstones_are_forgotten_after_their_time_and_the_living_are_not(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    ended, confirmed, held = claim(), claim(), claim()
    *_, released = await ledger.run(
        ended,
        confirmed,
        held,
        Confirm(reservation_id=confirmed.reservation_id),
        Release(reservation_id=ended.reservation_id),
    )
    assert (await ledger.one(SWEEP, tombstone_ms=HOUR_MS)).dropped == 0
    assert (await ledger.one(ended)).outcome is Outcome.EXISTS
    await ledger.until(released.now_ms + 1)
    assert (await ledger.one(SWEEP, tombstone_ms=1)).dropped == 1
    assert (await ledger.one(Find(reservation_id=ended.reservation_id))).outcome is Outcome.NOT_FOUND
    assert await ledger.client.exists(keys.tombstones(ledger.program)) == 0
    for living in (confirmed, held):
        assert (await ledger.one(Find(reservation_id=living.reservation_id))).outcome is Outcome.FOUND
    # The same key may be used anew, and its hold is not forgotten with the old tombstone.
    assert (await ledger.one(ended)).outcome is Outcome.HELD
    assert (await ledger.one(SWEEP, tombstone_ms=0)).dropped == 0
    assert (await ledger.one(Find(reservation_id=ended.reservation_id))).state is State.HELD


async def test_a_hold_ends_at_the_latest_when_its_quota_closes(ledger: Ledger) -> None:
    closes_at_ms = await ledger.now_ms() + 500
    await ledger.run(quota_set(closes_at_ms=closes_at_ms), quota_set(OTHER_QUOTA))
    first, second = claim(["a"]), claim(["b"])
    held = await ledger.run(first, second)
    assert [(answer.outcome, answer.deadline_ms) for answer in held] == [(Outcome.HELD, closes_at_ms)] * 2
    find = Find(reservation_id=first.reservation_id)
    for answer in await _watch(closes_at_ms, lambda: ledger.one(find)):
        assert answer.deadline_ms == closes_at_ms
        assert answer.state is (State.EXPIRED if answer.now_ms >= closes_at_ms else State.HELD)
    late = await ledger.one(Confirm(reservation_id=first.reservation_id))
    assert (late.outcome, late.deadline_ms) == (Outcome.HOLD_EXPIRED, closes_at_ms)
    assert (await ledger.one(SWEEP)).expired == 1
    # A replay gets the first answer, and the person is free for another window.
    assert (await ledger.one(second)).deadline_ms == closes_at_ms
    assert (await ledger.one(claim(["b"], OTHER_QUOTA))).outcome is Outcome.HELD


async def test_a_deadline_before_the_closing_stays_as_it_is(ledger: Ledger) -> None:
    closes_at_ms = await ledger.now_ms() + 2 * HOUR_MS
    await ledger.one(quota_set(closes_at_ms=closes_at_ms))
    held = await ledger.one(claim())
    assert held.deadline_ms == held.now_ms + HOUR_MS


async def test_a_closing_that_staff_move_earlier_ends_holds_with_it(ledger: Ledger) -> None:
    await ledger.run(quota_set(), quota_set(OTHER_QUOTA))
    confirmed, request, moving, swept = claim(["a"]), claim(["b"]), claim(["c"]), claim(["d"])
    held = await ledger.run(confirmed, request, moving, swept)
    await ledger.one(Confirm(reservation_id=confirmed.reservation_id))
    closes_at_ms = await ledger.now_ms() + 500
    await ledger.one(SetQuota(quota=QUOTA, closes_at_ms=closes_at_ms))
    answer = await ledger.one(Find(reservation_id=request.reservation_id))
    assert (answer.state, answer.deadline_ms) == (State.HELD, closes_at_ms)
    assert held[1].deadline_ms > closes_at_ms
    await ledger.until(closes_at_ms)
    for command in (Confirm(reservation_id=request.reservation_id), Release(reservation_id=request.reservation_id)):
        assert (await ledger.one(command)).outcome is Outcome.HOLD_EXPIRED
    assert (await ledger.one(claim(["c"], OTHER_QUOTA))).outcome is Outcome.HELD
    assert (await ledger.one(SWEEP)).expired == 1
    assert await ledger.counts() == (0, 1, 0)
    assert (await ledger.one(Find(reservation_id=confirmed.reservation_id))).state is State.CONFIRMED


async def test_a_closing_that_staff_move_later_gives_no_hold_back(ledger: Ledger) -> None:
    await ledger.one(quota_set(closes_at_ms=await ledger.now_ms() + 500))
    request = claim()
    held = await ledger.one(request)
    await ledger.until(held.deadline_ms)
    await ledger.one(SetQuota(quota=QUOTA, closes_at_ms=0))
    assert (await ledger.one(Confirm(reservation_id=request.reservation_id))).outcome is Outcome.HOLD_EXPIRED
    # Moved before it had passed, it ends nothing that it would not have ended.
    await ledger.one(SetQuota(quota=QUOTA, closes_at_ms=await ledger.now_ms() + HOUR_MS // 2))
    other = claim()
    held = await ledger.one(other)
    for closes_at_ms in (held.now_ms + HOUR_MS // 4, held.now_ms + 9 * HOUR_MS):
        await ledger.one(SetQuota(quota=QUOTA, closes_at_ms=closes_at_ms))
    assert (await ledger.one(Find(reservation_id=other.reservation_id))).deadline_ms == held.deadline_ms
    assert (await ledger.one(Confirm(reservation_id=other.reservation_id))).outcome is Outcome.CONFIRMED


async def test_who_holds_a_place_when_staff_close_the_quota_may_confirm(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    request = claim()
    held = await ledger.one(request)
    await ledger.one(SetQuota(quota=QUOTA, closed=True))
    assert (await ledger.one(claim())).outcome is Outcome.CLOSED
    assert (await ledger.one(SWEEP)).expired == 0
    confirmed = await ledger.one(Confirm(reservation_id=request.reservation_id))
    assert (confirmed.outcome, confirmed.deadline_ms) == (Outcome.CONFIRMED, held.deadline_ms)


async def test_a_closing_ends_holds_and_leaves_places_on_their_way_back(ledger: Ledger) -> None:
    await ledger.one(quota_set(return_min_ms=2 * HOUR_MS, return_max_ms=2 * HOUR_MS))
    given_up, first, second = claim(), claim(2), claim(3)
    await ledger.run(given_up, first, second)
    await ledger.one(Release(reservation_id=given_up.reservation_id))
    await ledger.one(SetQuota(quota=QUOTA, closes_at_ms=1))
    swept = [await ledger.one(Sweep(items_max=1)) for _ in range(4)]
    assert sum(answer.expired for answer in swept) == 2
    assert sum(answer.returned for answer in swept) == 0
    assert await ledger.counts() == (0, 0, 6)
    await ledger.one(SWEEP)
    due_ms = await ledger.client.zscore(keys.due(ledger.program), QUOTA)
    assert due_ms is not None
    assert due_ms > await ledger.now_ms() + HOUR_MS
