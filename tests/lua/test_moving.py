"""Moving and cancelling an opening: its quotas follow in one step, and nothing promised is lost."""

from typing import Any

import msgpack
import pytest
from msgspec.structs import replace

from reservasi.errors import ItemDamaged
from reservasi.events import OpeningSet, QuotaSet
from reservasi.ledger import keys
from reservasi.ledger.wire.openings import FIELDS, FIRST_FIELDS
from reservasi.model import Admit, Answer, Confirm, Join, MoveOpening, Opening, Outcome, Quota, SetOpening, SetQuota
from tests.ledgers import HOUR_MS, OTHER_QUOTA, QUOTA, Ledger, claim, opening_set, opening_terms, quota_set

O = "p-1"  # noqa: E741 - as the Lua has it
AT_MS = 4_000_000_000_000  # when `opening_set` opens, and where it ends
ENDS_MS = 4_100_000_000_000
ELSEWHERE = "p.ulp.baru.20261201.0800.online"


def move(opens_at_ms: int | None = None, **changes: Any) -> MoveOpening:
    return MoveOpening(**{"opening": O, "opens_at_ms": opens_at_ms, **changes})


def cancel(reason: str = "banjir", **changes: Any) -> MoveOpening:
    return move(cancelled=True, reason=reason, **changes)


def join(ticket_id: str = "t", opening: str = O) -> Join:
    return Join(opening=opening, ticket_id=ticket_id)


def admit(opening: str = O) -> Admit:
    return Admit(opening=opening, controller="a", lease_ms=5000)


async def _quotas(ledger: Ledger) -> dict[str, Quota]:
    return {quota.id: quota for quota in (await ledger.snapshot()).quotas}


async def _outcome(ledger: Ledger, command: Any) -> Outcome:
    return (await ledger.one(command)).outcome


async def _set_stored(ledger: Ledger, opening: str = O, **fields: int) -> None:
    """Let moments of the stored record lie elsewhere, as if time had passed."""
    key = keys.openings(ledger.program)
    stored: Any = await ledger.client.hget(key, opening)
    terms, *rest = msgpack.unpackb(stored)
    names = (*FIELDS[:FIRST_FIELDS], "leader", "lease_until_ms", *FIELDS[FIRST_FIELDS:])
    for name, value in fields.items():
        if name in names:
            rest[names.index(name)] = value
        else:
            terms[("opens_at_ms", "joins_from_ms", "ends_at_ms").index(name)] = value
    await ledger.client.hset(key, opening, msgpack.packb([terms, *rest], use_bin_type=False))


async def _begin(ledger: Ledger, *, since_ms: int = 1000, lasts_ms: int = HOUR_MS, opening: str = O) -> int:
    """Let the opening have begun so long ago; returns the moment. Its quotas open at it."""
    opens_at_ms = await ledger.now_ms() + HOUR_MS
    moved = await ledger.one(move(opens_at_ms, opening=opening))
    assert moved.outcome is Outcome.OPENING_SET
    now_ms = await ledger.now_ms()
    await _set_stored(ledger, opening, opens_at_ms=now_ms - since_ms, ends_at_ms=now_ms - since_ms + lasts_ms)
    return now_ms - since_ms


async def _of_two(ledger: Ledger) -> None:
    """An opening with two quotas, and a quota that opens at another moment."""
    await ledger.run(
        quota_set(QUOTA, opens_at_ms=AT_MS),
        quota_set(OTHER_QUOTA, opens_at_ms=AT_MS, capacity=3),
        quota_set(ELSEWHERE, opens_at_ms=AT_MS + 5, office="ulp"),
        opening_set(),
    )


# -- moving ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance_ms", [HOUR_MS, -HOUR_MS])
async def test_an_opening_moves_with_its_quotas_in_one_step(ledger: Ledger, distance_ms: int) -> None:
    await _of_two(ledger)
    await ledger.run(*(join(f"t{number}") for number in range(3)))
    before = await ledger.opening()
    entries = len(await ledger.entries())
    moved = await ledger.one(
        move(AT_MS + distance_ms, reason="listrik padam", reason_en="a power cut", actor="staff:ani")
    )
    assert (moved.outcome, moved.version) == (Outcome.OPENING_SET, 2)
    opening = await ledger.opening()
    terms = replace(before.terms, opens_at_ms=AT_MS + distance_ms, ends_at_ms=ENDS_MS + distance_ms)
    assert opening == replace(
        before,
        terms=terms,
        version=2,
        reason="listrik padam",
        reason_en="a power cut",
        moved_from_ms=AT_MS,
        revision=1,
        revised_at_ms=moved.now_ms,
    )
    quotas = await _quotas(ledger)
    opens_at = {quota.id: (quota.terms.opens_at_ms, quota.counts.version) for quota in quotas.values()}
    at_ms = AT_MS + distance_ms
    assert opens_at == {QUOTA: (at_ms, 2), OTHER_QUOTA: (at_ms, 2), ELSEWHERE: (AT_MS + 5, 1)}
    (entry,) = (await ledger.entries())[entries:]
    first, *others = entry.events
    assert isinstance(first, OpeningSet)
    assert (first.opening, first.actor, first.reason) == (opening, "staff:ani", "listrik padam")
    assert {event.quota: event.terms for event in others if isinstance(event, QuotaSet)} == {
        quota: quotas[quota].terms for quota in (QUOTA, OTHER_QUOTA)
    }
    assert await _outcome(ledger, move(at_ms, reason="listrik padam", reason_en="a power cut")) is Outcome.EXISTS
    assert await _outcome(ledger, claim()) is Outcome.NOT_OPEN
    assert (await ledger.one(admit())).joined == 3


async def test_what_was_drawn_from_stays(ledger: Ledger) -> None:
    await ledger.run(opening_set(), SetOpening(opening=O, beacon="lotto 7"))
    await ledger.one(move(AT_MS + 1))
    assert await _outcome(ledger, SetOpening(opening=O, beacon="lotto 8")) is Outcome.TOO_LATE
    opening = await ledger.opening()
    assert (opening.beacon, opening.terms.commitment, opening.terms.sealed_seed) == ("lotto 7", "c" * 64, "k1.sealed")


async def test_joining_that_lies_ahead_moves_along_and_one_that_has_begun_never_ends(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    await ledger.run(opening_set(joins_from_ms=now_ms + HOUR_MS), opening_set("p-2", opens_at_ms=AT_MS + 1))
    await ledger.run(move(AT_MS + HOUR_MS), move(AT_MS + 2 * HOUR_MS, opening="p-2"))
    assert (await ledger.opening()).terms.joins_from_ms == now_ms + 2 * HOUR_MS
    assert (await ledger.opening("p-2")).terms.joins_from_ms == 0
    await ledger.one(move(now_ms + 2 * HOUR_MS))  # so much earlier that joining begins at once
    assert await _outcome(ledger, join()) is Outcome.JOINED


async def test_move_opening_peels_off_its_refusals_in_order(ledger: Ledger) -> None:
    assert await _outcome(ledger, move(AT_MS)) is Outcome.UNKNOWN_OPENING
    await _of_two(ledger)
    for same in (move(), move(AT_MS), move(AT_MS, ends_at_ms=ENDS_MS), replace(move(AT_MS), version=7)):
        again = await ledger.one(same)
        assert (again.outcome, again.version) == (Outcome.EXISTS, 1)
    stale = await ledger.one(move(5, version=7))
    assert (stale.outcome, stale.version) == (Outcome.VERSION_MISMATCH, 1)
    assert await _outcome(ledger, move(5)) is Outcome.MOMENT_INVALID
    assert await _outcome(ledger, move(ends_at_ms=AT_MS)) is Outcome.MOMENT_INVALID
    assert await _outcome(ledger, move(AT_MS + 9, ends_at_ms=AT_MS + 9)) is Outcome.MOMENT_INVALID
    await ledger.one(opening_set("p-2", opens_at_ms=AT_MS + 7))
    taken = await ledger.one(move(AT_MS + 7))
    assert (taken.outcome, taken.opening, taken.quota) == (Outcome.MOMENT_TAKEN, "p-2", "")
    by_quota = await ledger.one(move(AT_MS + 5))  # it would take a quota in that opens without a waiting room
    assert (by_quota.outcome, by_quota.opening, by_quota.quota) == (Outcome.MOMENT_TAKEN, "", ELSEWHERE)
    await ledger.one(SetQuota(quota=OTHER_QUOTA, closes_at_ms=AT_MS + 100))
    closes = await ledger.one(move(AT_MS + 100))
    assert (closes.outcome, closes.quota) == (Outcome.QUOTA_CLOSES, OTHER_QUOTA)
    assert await _outcome(ledger, move(AT_MS + 99)) is Outcome.OPENING_SET
    opens_at_ms = await _begin(ledger)
    assert await _outcome(ledger, move(AT_MS)) is Outcome.TOO_LATE
    await _set_stored(ledger, ends_at_ms=opens_at_ms + 1)
    assert await _outcome(ledger, move(AT_MS)) is Outcome.CLOSED
    assert await _outcome(ledger, cancel()) is Outcome.CLOSED


async def test_what_is_refused_changes_nothing(ledger: Ledger) -> None:
    await _of_two(ledger)
    await ledger.one(SetQuota(quota=OTHER_QUOTA, closes_at_ms=AT_MS + 100))
    before = await ledger.dump()
    await ledger.run(move(AT_MS + 100), move(AT_MS + 5), move(5), move(ends_at_ms=5), move(AT_MS + 1, version=9))
    assert await ledger.dump() == before


async def test_offices_open_apart(ledger: Ledger) -> None:
    await ledger.run(
        quota_set(QUOTA, opens_at_ms=AT_MS),
        quota_set(ELSEWHERE, opens_at_ms=AT_MS, office="ulp"),
        opening_set(offices=("kanim",)),
        opening_set("p-2", offices=("ulp",)),
    )
    await ledger.one(move(AT_MS + 1))
    moments = {id_: quota.terms.opens_at_ms for id_, quota in (await _quotas(ledger)).items()}
    assert moments == {QUOTA: AT_MS + 1, ELSEWHERE: AT_MS}
    assert await _outcome(ledger, move(AT_MS + 1, opening="p-2")) is Outcome.OPENING_SET
    await ledger.one(cancel())
    closed = {id_: quota.terms.closed for id_, quota in (await _quotas(ledger)).items()}
    assert closed == {QUOTA: True, ELSEWHERE: False}


async def test_one_batch_sees_what_it_did(ledger: Ledger) -> None:
    await _of_two(ledger)
    answers = await ledger.run(move(AT_MS + 1), move(AT_MS + 2), move(AT_MS + 3, version=3), cancel(version=4))
    assert [(answer.outcome, answer.version) for answer in answers] == [
        (Outcome.OPENING_SET, version) for version in (2, 3, 4, 5)
    ]
    quota = (await _quotas(ledger))[QUOTA]
    assert (quota.terms.opens_at_ms, quota.terms.closed, quota.counts.version) == (AT_MS + 3, True, 5)


async def test_once_it_has_opened_its_end_moves_and_nothing_else(ledger: Ledger) -> None:
    await _of_two(ledger)
    opens_at_ms = await _begin(ledger)
    ends_at_ms = await ledger.now_ms() + 2 * HOUR_MS
    assert await _outcome(ledger, move(opens_at_ms + 1)) is Outcome.TOO_LATE
    assert await _outcome(ledger, move(ends_at_ms=opens_at_ms + 1)) is Outcome.MOMENT_INVALID
    assert await _outcome(ledger, move(ends_at_ms=ends_at_ms)) is Outcome.OPENING_SET
    opening = await ledger.opening()
    assert (opening.terms.ends_at_ms, opening.moved_from_ms) == (ends_at_ms, AT_MS)
    now_ms = await ledger.now_ms()
    assert await _outcome(ledger, move(ends_at_ms=now_ms + 20)) is Outcome.OPENING_SET
    await ledger.until(now_ms + 20)
    assert await _outcome(ledger, join()) is Outcome.CLOSED
    assert await _outcome(ledger, move(ends_at_ms=ends_at_ms)) is Outcome.CLOSED


async def test_many_quotas_move_at_once_and_more_are_refused(ledger: Ledger) -> None:
    many = [f"p.kanim.baru.20261201.{number}.online" for number in range(5000)]
    for first in range(0, len(many), 1000):
        await ledger.run(*(quota_set(quota, opens_at_ms=AT_MS) for quota in many[first : first + 1000]))
    await ledger.one(opening_set())
    assert await _outcome(ledger, move(AT_MS + 1)) is Outcome.OPENING_SET
    assert {quota.terms.opens_at_ms for quota in (await _quotas(ledger)).values()} == {AT_MS + 1}
    await ledger.one(quota_set("p.kanim.baru.20261201.more.online", opens_at_ms=AT_MS + 1))
    assert await _outcome(ledger, move(AT_MS + 2)) is Outcome.TOO_MANY_QUOTAS


# -- calling off -------------------------------------------------------------------------------------------------


async def test_what_is_called_off_is_closed_with_its_quotas_and_stays_so(ledger: Ledger) -> None:
    await _of_two(ledger)
    await ledger.one(join())
    done = await ledger.one(cancel(reason_en="a flood", actor="staff:ani"))
    assert (done.outcome, done.version) == (Outcome.OPENING_SET, 2)
    opening = await ledger.opening()
    assert (opening.cancelled, opening.reason, opening.reason_en, opening.revision) == (True, "banjir", "a flood", 1)
    quotas = await _quotas(ledger)
    assert {id_: quota.terms.closed for id_, quota in quotas.items()} == {
        QUOTA: True,
        OTHER_QUOTA: True,
        ELSEWHERE: False,
    }
    assert await _outcome(ledger, join("another")) is Outcome.OPENING_CANCELLED
    assert await _outcome(ledger, admit()) is Outcome.CLOSED
    assert await _outcome(ledger, claim()) is Outcome.CLOSED
    assert await _outcome(ledger, cancel(reason_en="a flood")) is Outcome.EXISTS
    refused: list[Any] = [
        cancel("lain"),
        move(AT_MS + 1),
        move(ends_at_ms=ENDS_MS + 1),
        SetOpening(opening=O, paused=True),
        SetOpening(opening=O, rate_per_min=5),
        SetOpening(opening=O, beacon="x"),
        opening_set(),
        replace(opening_set(rate_per_min=5), version=2),
    ]
    for command in refused:
        assert await _outcome(ledger, command) is Outcome.OPENING_CANCELLED
    assert await ledger.opening() == opening


async def test_reservations_of_what_is_called_off_stay(ledger: Ledger) -> None:
    await ledger.run(quota_set(QUOTA, opens_at_ms=AT_MS), opening_set())
    opens_at_ms = await _begin(ledger)
    key = keys.quotas(ledger.program)
    assert opens_at_ms
    await ledger.client.hdel(key, QUOTA)
    await ledger.client.hdel(keys.facts(ledger.program), QUOTA)
    await ledger.one(quota_set(QUOTA, opens_at_ms=opens_at_ms))
    held, kept = claim(), claim()
    await ledger.run(held, kept, Confirm(reservation_id=kept.reservation_id))
    await ledger.one(cancel())
    assert await ledger.counts() == (1, 1, 0)
    assert await _outcome(ledger, Confirm(reservation_id=held.reservation_id)) is Outcome.CONFIRMED
    assert await _outcome(ledger, claim()) is Outcome.CLOSED


async def test_the_moment_of_what_was_called_off_is_free_again(ledger: Ledger) -> None:
    await _of_two(ledger)
    await ledger.one(cancel())
    assert await _outcome(ledger, opening_set("p-2")) is Outcome.OPENING_SET
    assert await _outcome(ledger, SetQuota(quota=QUOTA, opens_at_ms=AT_MS + 9)) is Outcome.OF_OPENING


# -- quotas ------------------------------------------------------------------------------------------------------


async def test_a_quota_of_an_opening_has_no_moment_of_its_own(ledger: Ledger) -> None:
    await _of_two(ledger)
    for opens_at_ms in (0, AT_MS + 1):
        refused = await ledger.one(SetQuota(quota=QUOTA, opens_at_ms=opens_at_ms))
        assert (refused.outcome, refused.opening, refused.version) == (Outcome.OF_OPENING, O, 1)
    whole = replace(quota_set(QUOTA, opens_at_ms=AT_MS + 1), version=1)
    assert await _outcome(ledger, whole) is Outcome.OF_OPENING
    assert await _outcome(ledger, SetQuota(quota=QUOTA, opens_at_ms=AT_MS)) is Outcome.EXISTS
    changes: list[dict[str, Any]] = [{"capacity": 7}, {"closes_at_ms": AT_MS + 7}, {"closed": True}, {"closed": False}]
    for change in changes:
        assert await _outcome(ledger, SetQuota(quota=QUOTA, **change)) is Outcome.QUOTA_SET
    assert await _outcome(ledger, SetQuota(quota=ELSEWHERE, opens_at_ms=AT_MS)) is Outcome.QUOTA_SET  # it joins
    assert await _outcome(ledger, SetQuota(quota=ELSEWHERE, opens_at_ms=0)) is Outcome.OF_OPENING


async def test_a_quota_leaves_what_is_over_or_called_off(ledger: Ledger) -> None:
    await _of_two(ledger)
    now_ms = await ledger.now_ms()
    await _set_stored(ledger, ends_at_ms=now_ms)
    assert await _outcome(ledger, SetQuota(quota=QUOTA, opens_at_ms=AT_MS + 1)) is Outcome.QUOTA_SET
    await _set_stored(ledger, ends_at_ms=ENDS_MS)
    assert await _outcome(ledger, SetQuota(quota=OTHER_QUOTA, opens_at_ms=AT_MS + 1)) is Outcome.OF_OPENING
    await ledger.one(cancel())
    assert await _outcome(ledger, SetQuota(quota=OTHER_QUOTA, opens_at_ms=AT_MS + 1)) is Outcome.QUOTA_SET


async def test_only_a_new_opening_takes_a_quota_and_only_before_people_can_join(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    await ledger.run(
        quota_set(QUOTA, opens_at_ms=AT_MS),
        quota_set(OTHER_QUOTA, opens_at_ms=AT_MS),
        opening_set(joins_from_ms=now_ms + HOUR_MS),
        opening_set("p-2", opens_at_ms=AT_MS + 1),
    )
    for taker in ("", "p-none", O):
        refused = SetQuota(quota=QUOTA, opens_at_ms=AT_MS + 1, taker=taker)
        assert await _outcome(ledger, refused) is Outcome.OF_OPENING
    assert await _outcome(ledger, SetQuota(quota=QUOTA, opens_at_ms=AT_MS + 2, taker="p-2")) is Outcome.OF_OPENING
    assert await _outcome(ledger, SetQuota(quota=QUOTA, opens_at_ms=AT_MS + 1, taker="p-2")) is Outcome.QUOTA_SET
    await _set_stored(ledger, joins_from_ms=now_ms)
    taken = await ledger.one(SetQuota(quota=OTHER_QUOTA, opens_at_ms=AT_MS + 1, taker="p-2"))
    assert (taken.outcome, taken.opening) == (Outcome.OF_OPENING, O)


# -- pausing -----------------------------------------------------------------------------------------------------


async def _paused(ledger: Ledger, *, paused_ms: int, ends_in_ms: int) -> tuple[Opening, Answer]:
    """An opening that has been paused so long, and would end so soon; resumed."""
    now_ms = await ledger.now_ms()
    await ledger.one(SetOpening(opening=O, paused=True))
    await _set_stored(ledger, paused_at_ms=now_ms - paused_ms, ends_at_ms=now_ms + ends_in_ms)
    before = await ledger.opening()
    return before, await ledger.one(SetOpening(opening=O, paused=False))


@pytest.mark.parametrize("ends_in_ms", [-500, 500])
async def test_a_pause_moves_the_end_by_its_length(ledger: Ledger, ends_in_ms: int) -> None:
    await ledger.one(opening_set())
    await _begin(ledger, since_ms=10_000)
    before, resumed = await _paused(ledger, paused_ms=5000, ends_in_ms=ends_in_ms)
    assert resumed.outcome is Outcome.OPENING_SET
    opening = await ledger.opening()
    assert opening.terms.ends_at_ms == before.terms.ends_at_ms + resumed.now_ms - before.paused_at_ms
    assert (opening.paused, opening.paused_at_ms) == (False, 0)
    assert await _outcome(ledger, join()) is Outcome.JOINED


async def _kept_ms(ledger: Ledger) -> list[int]:
    """For how long the lists of those who joined are kept."""
    names = [key async for key in ledger.client.scan_iter(match=f"{keys.joined(ledger.program)}:{O}*", count=1000)]
    return [await ledger.client.pttl(key) for key in names]


async def test_while_it_is_paused_the_end_does_not_come(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    await _begin(ledger)
    await ledger.one(SetOpening(opening=O, paused=True))
    await _set_stored(ledger, ends_at_ms=await ledger.now_ms() - 1000, paused_at_ms=await ledger.now_ms() - 2000)
    assert await _outcome(ledger, join()) is Outcome.JOINED
    assert await _outcome(ledger, admit()) is Outcome.ADVANCED
    kept_ms = 25 * HOUR_MS
    (kept,) = await _kept_ms(ledger)
    assert kept > kept_ms  # who joined is not forgotten meanwhile
    await ledger.one(SetOpening(opening=O, paused=False))
    (kept,) = await _kept_ms(ledger)
    assert 0 < kept < kept_ms


async def test_a_pause_before_the_opening_counts_from_the_opening(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    opens_at_ms = await _begin(ledger, since_ms=3000, lasts_ms=2000)
    await _set_stored(ledger, ends_at_ms=opens_at_ms + HOUR_MS)
    before, resumed = await _paused(ledger, paused_ms=10_000, ends_in_ms=1000)
    opening = await ledger.opening()
    assert opening.terms.ends_at_ms == before.terms.ends_at_ms + resumed.now_ms - opens_at_ms


async def test_an_end_that_is_moved_while_it_is_paused_is_what_remains(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    await _begin(ledger, since_ms=10_000)
    now_ms = await ledger.now_ms()
    await ledger.one(SetOpening(opening=O, paused=True))
    await _set_stored(ledger, paused_at_ms=now_ms - 5000)
    moved = await ledger.one(move(ends_at_ms=now_ms + HOUR_MS))
    resumed = await ledger.one(SetOpening(opening=O, paused=False))
    ends_at_ms = (await ledger.opening()).terms.ends_at_ms
    assert ends_at_ms == now_ms + HOUR_MS + resumed.now_ms - moved.now_ms


async def test_what_has_ended_is_not_steered_any_more(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    await ledger.one(opening_set(opens_at_ms=now_ms - 10, ends_at_ms=now_ms))
    for change in (
        SetOpening(opening=O, paused=False),
        SetOpening(opening=O, paused=True),
        SetOpening(opening=O, rate_per_min=5),
    ):
        assert await _outcome(ledger, change) is Outcome.CLOSED


async def test_what_an_earlier_version_stored_is_read(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    key = keys.openings(ledger.program)
    stored: Any = await ledger.client.hget(key, O)
    terms, *rest = msgpack.unpackb(stored)
    old = [terms[:10], *rest[: FIRST_FIELDS + 2]]
    await ledger.client.hset(key, O, msgpack.packb(old, use_bin_type=False))
    assert (await ledger.opening()).terms == opening_terms()
    assert await _outcome(ledger, join()) is Outcome.JOINED
    assert await _outcome(ledger, move(AT_MS + 1)) is Outcome.OPENING_SET
    assert (await ledger.opening()).moved_from_ms == AT_MS


@pytest.mark.parametrize("value", [None, b"", b"cut short", b"\xff" * 60])
async def test_an_opening_stays_where_it_is_while_a_quota_of_it_cannot_be_read(
    ledger: Ledger, value: bytes | None
) -> None:
    """Moved without that quota, it would open apart from its opening once it is mended."""
    await _of_two(ledger)
    client: Any = ledger.client
    key = keys.quotas(ledger.program)
    stored = await client.hget(key, QUOTA)
    await (client.hdel(key, QUOTA) if value is None else client.hset(key, QUOTA, value))
    with pytest.raises(ItemDamaged):
        await ledger.one(move(AT_MS + HOUR_MS))
    await client.hset(key, QUOTA, stored)
    assert await _outcome(ledger, move(AT_MS + HOUR_MS)) is Outcome.OPENING_SET
