"""If several outcomes apply at once, the first one in the header wins."""

from typing import Any

from reservasi.ledger import keys
from reservasi.model import Answer, Cancel, Confirm, Find, Outcome, Release, SetQuota, State, Sweep
from tests.ledgers import HOUR_MS, OTHER_QUOTA, QUOTA, Ledger, claim, quota_set, terms


async def _expired(ledger: Ledger, *, swept: bool) -> str:
    """The id of a hold whose deadline has passed."""
    await ledger.one(quota_set(OTHER_QUOTA, hold_ms=1))
    lost = claim(quota=OTHER_QUOTA)
    held = await ledger.one(lost)
    await ledger.until(held.deadline_ms)
    if swept:
        assert (await ledger.one(Sweep(items_max=10))).expired == 1
    return lost.reservation_id


async def test_claim_peels_off_its_refusals_in_order(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    await ledger.run(quota_set(capacity=1), quota_set(OTHER_QUOTA))
    first, elsewhere = claim(), claim(quota=OTHER_QUOTA)
    held = (await ledger.run(first, elsewhere))[0]
    await ledger.one(Confirm(reservation_id=first.reservation_id))  # or the closing would end it
    # The quota is sold out, not open and closed; the person has a live reservation; the id is known.
    await ledger.one(SetQuota(quota=QUOTA, closed=True, opens_at_ms=now_ms + HOUR_MS))

    reused = claim(elsewhere.persons, "p.no.such.quota", reservation_id=first.reservation_id, fingerprint="another")
    assert (await ledger.one(reused)).outcome is Outcome.EXISTS_WITH_DIFFERENT_CONTENT
    replay = await ledger.one(first)
    assert (replay.outcome, replay.seq, replay.deadline_ms) == (Outcome.EXISTS, held.seq, held.deadline_ms)
    assert (await ledger.one(claim(elsewhere.persons, "p.no.such.quota"))).outcome is Outcome.UNKNOWN_QUOTA
    blocked = claim(elsewhere.persons)
    assert (await ledger.one(blocked)).outcome is Outcome.CLOSED
    await ledger.one(SetQuota(quota=QUOTA, closed=False, opens_at_ms=0, closes_at_ms=now_ms - 1))
    assert (await ledger.one(blocked)).outcome is Outcome.CLOSED
    await ledger.one(SetQuota(quota=QUOTA, opens_at_ms=now_ms + HOUR_MS, closes_at_ms=0))
    not_open = await ledger.one(blocked)
    assert (not_open.outcome, not_open.opens_at_ms) == (Outcome.NOT_OPEN, now_ms + HOUR_MS)
    await ledger.one(SetQuota(quota=QUOTA, opens_at_ms=0))
    assert (await ledger.one(blocked)).outcome is Outcome.DUPLICATE_APPLICANT
    stranger = claim()
    sold_out = await ledger.one(stranger)
    assert (sold_out.outcome, sold_out.remaining) == (Outcome.SOLD_OUT, 0)
    await ledger.one(SetQuota(quota=QUOTA, capacity=2))
    assert (await ledger.one(stranger)).outcome is Outcome.HELD


async def test_claim_replays_its_first_answer_whatever_became_of_it(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    request = claim(2)
    held = await ledger.one(request)
    for step in (Confirm(reservation_id=request.reservation_id), Cancel(reservation_id=request.reservation_id)):
        await ledger.one(step)
        replay = await ledger.one(request)
        assert replay.outcome is Outcome.EXISTS
        assert (replay.seq, replay.state, replay.quota, replay.places, replay.deadline_ms) == (
            held.seq,
            State.HELD,
            held.quota,
            2,
            held.deadline_ms,
        )


async def test_claim_refuses_a_person_twice_in_one_item(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=1))
    assert (await ledger.one(claim(["a", "a"]))).outcome is Outcome.DUPLICATE_APPLICANT


async def test_confirm(ledger: Ledger) -> None:
    assert (await ledger.one(Confirm(reservation_id="nobody"))).outcome is Outcome.NOT_FOUND
    await ledger.one(quota_set(capacity=3))
    request, released, cancelled = claim(), claim(), claim()
    await ledger.run(request, released, cancelled)
    confirm = Confirm(reservation_id=request.reservation_id, payment_reference="PAY-1")
    confirmed = await ledger.one(confirm)
    assert (confirmed.outcome, confirmed.state) == (Outcome.CONFIRMED, State.CONFIRMED)
    other = await ledger.one(Confirm(reservation_id=request.reservation_id, payment_reference="PAY-2"))
    assert (other.outcome, other.seq) == (Outcome.EXISTS_WITH_DIFFERENT_CONTENT, confirmed.seq)
    for same in ("PAY-1", ""):
        again = await ledger.one(Confirm(reservation_id=request.reservation_id, payment_reference=same))
        assert (again.outcome, again.seq) == (Outcome.EXISTS, confirmed.seq)
    await ledger.run(Release(reservation_id=released.reservation_id), Confirm(reservation_id=cancelled.reservation_id))
    late = await ledger.one(Confirm(reservation_id=cancelled.reservation_id, payment_reference="PAY-1"))
    assert late.outcome is Outcome.EXISTS_WITH_DIFFERENT_CONTENT
    await ledger.one(Cancel(reservation_id=cancelled.reservation_id))
    for ended in (released, cancelled):
        assert (await ledger.one(Confirm(reservation_id=ended.reservation_id))).outcome is Outcome.NOT_HELD


async def test_confirm_stays_the_same_answer_after_the_deadline(ledger: Ledger) -> None:
    await ledger.one(quota_set(hold_ms=200))
    request = claim()
    confirm = Confirm(reservation_id=request.reservation_id)
    held, confirmed = await ledger.run(request, confirm)
    assert confirmed.outcome is Outcome.CONFIRMED
    await ledger.until(held.deadline_ms + 1)
    assert (await ledger.one(Sweep(items_max=10))).expired == 0
    assert (await ledger.one(confirm)).outcome is Outcome.EXISTS


async def test_an_expired_hold_is_expired_before_and_after_its_sweep(ledger: Ledger) -> None:
    for swept in (False, True):
        for command in (Confirm, Release):
            answer = await ledger.one(command(reservation_id=await _expired(ledger, swept=swept)))
            assert (answer.outcome, answer.state) == (Outcome.HOLD_EXPIRED, State.EXPIRED)


async def test_release(ledger: Ledger) -> None:
    assert (await ledger.one(Release(reservation_id="nobody"))).outcome is Outcome.NOT_FOUND
    await ledger.one(quota_set(hold_ms=300))
    request, confirmed, cancelled = claim(), claim(), claim()
    release = Release(reservation_id=request.reservation_id)
    held, _, _, released, *_ = await ledger.run(
        request,
        confirmed,
        cancelled,
        release,
        Confirm(reservation_id=confirmed.reservation_id),
        Confirm(reservation_id=cancelled.reservation_id),
        Cancel(reservation_id=cancelled.reservation_id),
    )
    assert released.outcome is Outcome.RELEASED
    # What was released before its deadline stays released after it.
    await ledger.until(held.deadline_ms + 1)
    again = await ledger.one(release)
    assert (again.outcome, again.seq) == (Outcome.EXISTS, released.seq)
    for other in (confirmed, cancelled):
        assert (await ledger.one(Release(reservation_id=other.reservation_id))).outcome is Outcome.NOT_HELD


async def test_cancel(ledger: Ledger) -> None:
    assert (await ledger.one(Cancel(reservation_id="nobody"))).outcome is Outcome.NOT_FOUND
    await ledger.one(quota_set(cancel_until_ms=1))
    held, late, early = claim(), claim(), claim()
    await ledger.run(held, late, early)
    await ledger.run(*(Confirm(reservation_id=request.reservation_id) for request in (late, early)))

    async def cancel(reservation_id: str, *, by_staff: bool = False) -> Answer:
        return await ledger.one(Cancel(reservation_id=reservation_id, by_staff=by_staff))

    # The last moment has passed for all of them.
    assert (await cancel(held.reservation_id)).outcome is Outcome.NOT_CONFIRMED
    too_late = await cancel(late.reservation_id)
    assert (too_late.outcome, too_late.state) == (Outcome.TOO_LATE, State.CONFIRMED)
    cancelled = await cancel(early.reservation_id, by_staff=True)
    assert (cancelled.outcome, cancelled.state) == (Outcome.CANCELLED, State.CANCELLED)
    again = await cancel(early.reservation_id)
    assert (again.outcome, again.seq) == (Outcome.EXISTS, cancelled.seq)


async def test_set_quota(ledger: Ledger) -> None:
    for unknown in (SetQuota(quota=QUOTA, capacity=0), SetQuota(quota=QUOTA, terms=terms(), version=1)):
        assert (await ledger.one(unknown)).outcome is Outcome.UNKNOWN_QUOTA
    created = await ledger.one(quota_set(capacity=5))
    assert (created.outcome, created.version) == (Outcome.QUOTA_SET, 1)
    await ledger.one(claim(3))

    async def set_quota(**changes: object) -> tuple[Outcome, int, int]:
        answer = await ledger.one(SetQuota(quota=QUOTA, **changes))  # type: ignore[arg-type]
        return answer.outcome, answer.version, answer.taken

    # As asked for already, whichever version is named.
    assert await set_quota(terms=terms(5)) == (Outcome.EXISTS, 1, 0)
    assert await set_quota(terms=terms(5), version=9) == (Outcome.EXISTS, 1, 0)
    assert await set_quota(capacity=5, version=9) == (Outcome.EXISTS, 1, 0)
    # Only to be created, other terms, and too few places.
    assert await set_quota(terms=terms(0)) == (Outcome.EXISTS_WITH_DIFFERENT_CONTENT, 1, 0)
    assert await set_quota(terms=terms(5, end="10:00")) == (Outcome.EXISTS_WITH_DIFFERENT_CONTENT, 1, 0)
    assert await set_quota(capacity=0, version=9) == (Outcome.VERSION_MISMATCH, 1, 0)
    assert await set_quota(terms=terms(0), version=9) == (Outcome.VERSION_MISMATCH, 1, 0)
    assert await set_quota(opens_at_ms=5, closes_at_ms=5, version=9) == (Outcome.VERSION_MISMATCH, 1, 0)
    assert await set_quota(opens_at_ms=5, closes_at_ms=5, capacity=2) == (Outcome.WINDOW_REVERSED, 1, 0)
    assert await set_quota(capacity=2, version=1) == (Outcome.BELOW_TAKEN, 1, 3)
    assert await set_quota(capacity=2) == (Outcome.BELOW_TAKEN, 1, 3)
    assert await set_quota(capacity=3, version=1) == (Outcome.QUOTA_SET, 2, 0)
    assert await set_quota(terms=terms(4, end="10:00"), version=2) == (Outcome.QUOTA_SET, 3, 0)
    (quota,) = (await ledger.snapshot()).quotas
    assert (quota.terms, quota.counts.held, quota.counts.version) == (terms(4, end="10:00"), 3, 3)


async def test_a_quota_opens_before_it_closes(ledger: Ledger) -> None:
    created = await ledger.one(quota_set(opens_at_ms=7, closes_at_ms=7))
    assert (created.outcome, created.version, created.seq) == (Outcome.WINDOW_REVERSED, 0, 0)
    await ledger.one(quota_set(opens_at_ms=5, closes_at_ms=7))
    changes: list[dict[str, Any]] = [{"opens_at_ms": 7}, {"opens_at_ms": 8}, {"closes_at_ms": 5}, {"closes_at_ms": 4}]
    for change in changes:
        answer = await ledger.one(SetQuota(quota=QUOTA, **change))
        assert (answer.outcome, answer.version) == (Outcome.WINDOW_REVERSED, 1)
    replaced = SetQuota(quota=QUOTA, terms=terms(opens_at_ms=9, closes_at_ms=8), version=1)
    assert (await ledger.one(replaced)).outcome is Outcome.WINDOW_REVERSED
    together = await ledger.run(SetQuota(quota=QUOTA, opens_at_ms=6), SetQuota(quota=QUOTA, closes_at_ms=6))
    assert [answer.outcome for answer in together] == [Outcome.QUOTA_SET, Outcome.WINDOW_REVERSED]
    changes = [{"closes_at_ms": 0}, {"opens_at_ms": 0}, {"closes_at_ms": 3}]
    for change in changes:
        assert (await ledger.one(SetQuota(quota=QUOTA, **change))).outcome is Outcome.QUOTA_SET


async def test_a_quota_that_was_stored_the_wrong_way_round_may_be_changed_otherwise(ledger: Ledger) -> None:
    await ledger.one(quota_set(opens_at_ms=5, closes_at_ms=7))
    stored: Any = await ledger.client.hget(keys.quotas(ledger.program), QUOTA)
    assert stored.count(b"\x05\x07") == 1  # as an earlier version may have stored it
    await ledger.client.hset(keys.quotas(ledger.program), QUOTA, stored.replace(b"\x05\x07", b"\x07\x05"))
    assert (await ledger.one(SetQuota(quota=QUOTA, capacity=7))).outcome is Outcome.QUOTA_SET
    assert (await ledger.one(SetQuota(quota=QUOTA, closed=True))).outcome is Outcome.QUOTA_SET
    assert (await ledger.one(SetQuota(quota=QUOTA, closes_at_ms=6))).outcome is Outcome.WINDOW_REVERSED
    assert (await ledger.one(SetQuota(quota=QUOTA, closes_at_ms=8))).outcome is Outcome.QUOTA_SET


async def test_find(ledger: Ledger) -> None:
    assert (await ledger.one(Find(reservation_id="nobody"))).outcome is Outcome.NOT_FOUND
    overdue = await _expired(ledger, swept=False)
    before = await ledger.dump()
    answer = await ledger.one(Find(reservation_id=overdue))
    assert (answer.outcome, answer.state) == (Outcome.FOUND, State.EXPIRED)
    assert await ledger.dump() == before


async def test_own_says_moved_before_owned(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    (entry,) = await ledger.entries()
    moved = ["moved", 1, 1, entry.chain]
    for position in ([0, 0, ""], [1, 0, ""], [1, 2, entry.chain], [1, 1, "another"], [2, 1, entry.chain]):
        assert (await ledger.raw("own", [[*position, 3]]))[4] == [moved]
    for not_new in (0, 1):
        assert (await ledger.raw("own", [[1, 1, entry.chain, not_new]]))[4] == [moved]
    assert (await ledger.raw("own", [[1, 1, entry.chain, 2]]))[4] == [["owned", 1]]
    assert (await ledger.raw("find", [["nobody"]], epoch=1))[0] == "fenced"
    assert (await ledger.raw("find", [["nobody"]], epoch=2))[0] == "done"


async def test_own_finds_no_empty_ledger_where_only_meta_was_lost(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    await ledger.client.delete(f"{{{ledger.program}}}:meta")
    assert (await ledger.raw("own", [[0, 0, "", 1]]))[4] == [["moved", 0, 0, ""]]
