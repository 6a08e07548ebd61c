"""Values set by imports are stored with a quota, to distinguish them from changes by staff."""

from typing import Any

import msgpack
import pytest

from reservasi.events import QuotaSet
from reservasi.ledger import keys
from reservasi.ledger.loading import Loader
from reservasi.model import IMPORT_ACTOR, NOT_KNOWN, Outcome, SetQuota
from tests.ledgers import QUOTA, Ledger, quota_set, terms

LATER_MS = 4_000_000_000_000


async def _imported(ledger: Ledger) -> tuple[int, ...]:
    (quota,) = (await ledger.snapshot()).quotas
    events = [event for entry in await ledger.entries() for event in entry.events if isinstance(event, QuotaSet)]
    assert events[-1].imported == quota.imported, "the journal says the same"
    return quota.imported


async def test_a_new_quota_has_the_terms_that_it_was_created_with(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    assert await _imported(ledger) == ()


@pytest.mark.parametrize("actor", ["", "staff:ani", "cli:root"])
async def test_the_first_terms_are_an_imports(ledger: Ledger, actor: str) -> None:
    await ledger.one(quota_set(capacity=10))
    await ledger.one(SetQuota(quota=QUOTA, capacity=12, opens_at_ms=LATER_MS, actor=actor))
    assert await _imported(ledger) == (10, 0, 0, 0)
    await ledger.one(SetQuota(quota=QUOTA, closed=True, actor=actor))
    assert await _imported(ledger) == (10, 0, 0, 0)


async def test_an_import_is_remembered_for_the_terms_that_it_changes(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=10))
    await ledger.one(SetQuota(quota=QUOTA, capacity=12, actor="staff:ani"))
    await ledger.one(SetQuota(quota=QUOTA, closed=True, actor=IMPORT_ACTOR))
    assert await _imported(ledger) == (10, 0, 0, 1)
    wanted = terms(12, closed=False, end="08:30", closes_at_ms=LATER_MS)
    answer = await ledger.one(SetQuota(quota=QUOTA, terms=wanted, version=3, actor=IMPORT_ACTOR))
    assert answer.outcome is Outcome.QUOTA_SET
    assert await _imported(ledger) == (10, 0, LATER_MS, 0)
    await ledger.one(SetQuota(quota=QUOTA, capacity=8, actor=IMPORT_ACTOR))
    assert await _imported(ledger) == (8, 0, LATER_MS, 0)


async def test_who_closes_what_an_import_had_closed_has_closed_it(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=10))
    await ledger.one(SetQuota(quota=QUOTA, closed=True, actor=IMPORT_ACTOR))
    assert (await ledger.one(SetQuota(quota=QUOTA, closed=True, actor=IMPORT_ACTOR))).outcome is Outcome.EXISTS
    closing = SetQuota(quota=QUOTA, closed=True, actor="staff:ani")
    assert (await ledger.one(closing)).outcome is Outcome.QUOTA_SET
    assert await _imported(ledger) == (10, 0, 0, NOT_KNOWN)
    repeated = await ledger.one(closing)
    assert (repeated.outcome, repeated.version) == (Outcome.EXISTS, 3)
    await ledger.one(SetQuota(quota=QUOTA, closed=False, actor="staff:ani"))
    await ledger.one(SetQuota(quota=QUOTA, closed=True, actor=IMPORT_ACTOR))
    await ledger.one(SetQuota(quota=QUOTA, capacity=9, closed=True, actor="staff:ani"))
    assert await _imported(ledger) == (10, 0, 0, NOT_KNOWN)


@pytest.mark.parametrize("changes", [{"capacity": 8}, {"opens_at_ms": LATER_MS}, {"capacity": 10}])
async def test_other_changes_leave_it_closed_by_the_import(ledger: Ledger, changes: dict[str, Any]) -> None:
    await ledger.one(quota_set(capacity=10))
    await ledger.one(SetQuota(quota=QUOTA, closed=True, actor=IMPORT_ACTOR))
    await ledger.one(SetQuota(quota=QUOTA, actor="staff:ani", **changes))
    assert await _imported(ledger) == (10, 0, 0, 1)


async def test_of_a_batch_each_change_sees_the_one_before(ledger: Ledger) -> None:
    await ledger.run(
        quota_set(capacity=10),
        SetQuota(quota=QUOTA, capacity=11, actor="staff:ani"),
        SetQuota(quota=QUOTA, capacity=12, actor=IMPORT_ACTOR),
        SetQuota(quota=QUOTA, capacity=13, actor="staff:ani"),
    )
    assert await _imported(ledger) == (12, 0, 0, 0)


async def test_what_an_earlier_version_changed_is_not_known(ledger: Ledger) -> None:
    """It stored six facts whatever was changed."""
    await ledger.one(quota_set(capacity=10))
    await ledger.one(SetQuota(quota=QUOTA, capacity=12))
    facts = msgpack.unpackb(await ledger.client.hget(keys.facts(ledger.program), QUOTA))
    await ledger.client.hset(keys.facts(ledger.program), QUOTA, msgpack.packb(facts[:6]))
    (quota,) = (await ledger.snapshot()).quotas
    assert quota.imported == ()
    await ledger.one(SetQuota(quota=QUOTA, closed=True, actor=IMPORT_ACTOR))
    assert await _imported(ledger) == (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, 1)


async def test_it_is_loaded_with_the_quota(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=10))
    loader = Loader(ledger.connection)
    await loader.begin(await loader.fence())
    await loader.quotas([(QUOTA, 3, terms(12), (10, 0, 0, 1)), (f"{QUOTA}2", 1, terms(9), ())])
    packed = await ledger.client.hmget(keys.facts(ledger.program), QUOTA, f"{QUOTA}2")
    changed, created = map(msgpack.unpackb, packed)
    assert (changed[6:], created[6:]) == ([[10, 0, 0, 1]], [])
