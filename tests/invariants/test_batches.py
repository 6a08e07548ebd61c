"""Batched, one by one, and in a plain model: the same history gives the same outcomes and the same ledger."""

from typing import Any

import msgpack
from hypothesis import HealthCheck, Phase, given, settings

from reservasi.events import Confirmed, Ended, Held, QuotaRetired, QuotaSet, Returned
from reservasi.ledger import keys
from reservasi.ledger.wire import messages
from reservasi.ledger.wire.stored_forms import StoredQuota, decode_quota, decode_timers, encode_quota, encode_timer
from reservasi.model import Answer, Command, Quota, State
from tests.invariants.histories import FIRST, FIRST_TERMS, QUOTAS, Batch, Lapse, histories
from tests.invariants.ledger_model import LedgerModel, Said
from tests.ledgers import Ledger, open_ledger

EXAMPLES = 150
# Of a packed reservation, as `R` in the Lua library says.
STATE_FIELD, NUMBER_IN_RECORD, DEADLINE_FIELD, FIRST_PERSON_FIELD = 0, 1, 3, 7
# Without shrinking: real servers make it take minutes, and the test's own time-out would then hide the example.
SLOW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.explicit, Phase.generate],
)


def _said(answer: Answer) -> Said:
    return Said(
        answer.outcome,
        answer.state,
        answer.quota,
        answer.places,
        answer.remaining,
        answer.taken,
        answer.version,
        answer.expired,
        answer.returned,
        answer.ended,
        answer.applicant,
    )


async def _lapse(ledger: Ledger, quota: str) -> None:
    """Move every deadline and return of a quota into the past, as if its time had gone by."""
    timers = (await _timers(ledger)).get(quota, {})
    if not timers:
        return
    stored_quota = await _stored_quota(ledger, quota)
    for what, at_ms in timers.items():
        record: Any = await ledger.client.hget(keys.reservations(ledger.program), what)
        if record is not None:
            fields = msgpack.unpackb(record)
            fields[DEADLINE_FIELD] = 1
            packed = msgpack.packb(fields, use_bin_type=False)
            await ledger.client.hset(keys.reservations(ledger.program), what, packed)
        await ledger.client.zrem(keys.timers(ledger.program), encode_timer(stored_quota.number, at_ms, what))
        await ledger.client.zadd(keys.timers(ledger.program), {encode_timer(stored_quota.number, 1, what): 0})
    stored_quota.due_ms = 1
    await ledger.client.hset(keys.quotas(ledger.program), quota, encode_quota(stored_quota))
    await ledger.client.zadd(keys.due(ledger.program), {quota: 1})


async def _stored_quota(ledger: Ledger, quota: str) -> StoredQuota:
    stored: Any = await ledger.client.hget(keys.quotas(ledger.program), quota)
    return decode_quota(stored)


async def _timers(ledger: Ledger) -> dict[str, dict[str, int]]:
    """The stored timers, by quota."""
    members: Any = await ledger.client.zrange(keys.timers(ledger.program), 0, -1)
    return decode_timers(members, await _names(ledger))


async def _names(ledger: Ledger) -> dict[int, str]:
    names: Any = await ledger.client.hgetall(keys.names(ledger.program))
    return {int(number): quota.decode() for number, quota in names.items()}


async def _numbers(ledger: Ledger) -> list[int]:
    stored: Any = await ledger.client.hgetall(keys.quotas(ledger.program))
    return [decode_quota(value).number for value in stored.values()]


async def _one_by_one(ledger: Ledger, commands: tuple[Command, ...]) -> list[Answer]:
    return [await ledger.one(command) for command in commands]


async def _assert_consistent(ledger: Ledger) -> list[Quota]:
    """Counts, capacities, persons and timers agree with the reservations themselves."""
    quotas = (await ledger.snapshot()).quotas
    names, timers = await _names(ledger), await _timers(ledger)
    named = set(names.values())
    assert {quota.id for quota in quotas} <= named
    marks: Any = await ledger.client.zrange(keys.tombstones(ledger.program), 0, -1)
    retired = {int(mark[1:]) for mark in marks if mark.startswith(b"=")}
    assert {number for number in names if number not in retired} == set(await _numbers(ledger))
    packed: Any = await ledger.client.hgetall(keys.reservations(ledger.program))
    records = {key.decode(): msgpack.unpackb(value) for key, value in packed.items()}
    live: dict[str, str] = {}
    for quota in quotas:
        number = (await _stored_quota(ledger, quota.id)).number
        mine = {key: fields for key, fields in records.items() if fields[NUMBER_IN_RECORD] == number}
        by_state = {
            state: sum(len(fields) - FIRST_PERSON_FIELD for fields in mine.values() if fields[STATE_FIELD] == state)
            for state in "hc"
        }
        assert (quota.counts.held, quota.counts.confirmed) == (by_state["h"], by_state["c"])
        assert 0 <= quota.counts.taken <= quota.terms.capacity
        assert min(quota.counts.held, quota.counts.confirmed, quota.counts.returning) >= 0
        running = timers.get(quota.id, {})
        holds = {what: at_ms for what, at_ms in running.items() if not what.startswith("+")}
        returns = [int(what.rpartition(":")[2]) for what in running if what.startswith("+")]
        assert holds == {key: fields[DEADLINE_FIELD] for key, fields in mine.items() if fields[STATE_FIELD] == "h"}
        assert sum(returns) == quota.counts.returning
        # What is due may be looked at too early, never too late.
        due_ms = (await _stored_quota(ledger, quota.id)).due_ms
        assert due_ms == (await ledger.client.zscore(keys.due(ledger.program), quota.id) or 0)
        assert not running or 0 < due_ms <= min(running.values())
    for key, fields in records.items():
        if messages.STATES[fields[STATE_FIELD]].live:
            for person in fields[FIRST_PERSON_FIELD:]:
                assert live.setdefault(person, key) == key, "two live reservations of one person"
    persons: Any = await ledger.client.hgetall(keys.persons(ledger.program))
    assert {person.decode(): key.decode() for person, key in persons.items()} == live
    return sorted(quotas, key=lambda quota: quota.id)


async def _assert_as_in_model(ledger: Ledger, model: LedgerModel) -> None:
    quotas = {quota.id: quota for quota in (await ledger.snapshot()).quotas}
    assert quotas.keys() == model.quotas.keys()
    for quota_id, quota in quotas.items():
        assert quota.terms == model.quotas[quota_id].terms
        assert quota.counts.version == model.quotas[quota_id].version
        assert quota.imported == model.quotas[quota_id].imported
        assert quota.counts.held == model.count(quota_id, State.HELD)
        assert quota.counts.confirmed == model.count(quota_id, State.CONFIRMED)
        assert quota.counts.returning == model.given_back(quota_id)


@SLOW
@given(history=histories())
async def test_batched_and_one_by_one_are_the_same(history: list[Batch | Lapse], valkey_url: str) -> None:
    model = LedgerModel()
    async with (
        open_ledger(valkey_url, f"b-{id(history):x}") as batched,
        open_ledger(valkey_url, f"o-{id(history):x}") as single,
    ):
        try:
            for command in FIRST:
                model.run(command)
            await batched.run(*FIRST)
            await single.run(*FIRST)
            for step in history:
                if isinstance(step, Lapse):
                    await _lapse(batched, step.quota)
                    await _lapse(single, step.quota)
                    model.lapse(step.quota)
                    continue
                together = await batched.run(*step.commands)
                apart = await _one_by_one(single, step.commands)
                expected = [model.run(command) for command in step.commands]
                assert [_said(answer) for answer in together] == expected
                assert [_said(answer) for answer in apart] == expected
                assert [answer.seq for answer in together] == [answer.seq for answer in apart]
                assert await _assert_consistent(batched) == await _assert_consistent(single)
                assert (await batched.snapshot()).position.seq == model.seq
                await _assert_as_in_model(batched, model)
            assert _without_clock(await batched.entries()) == _without_clock(await single.entries())
        finally:
            for ledger in (batched, single):
                await _forget(ledger)


async def _forget(ledger: Ledger) -> None:
    """Each example starts from nothing, and leaves nothing."""
    stored_keys = [key async for key in ledger.client.scan_iter(match=f"{{{ledger.program}}}*", count=10_000)]
    if stored_keys:
        await ledger.client.delete(*stored_keys)


def _without_clock(entries: list[Any]) -> list[tuple[Any, ...]]:
    """The events of a journal, however they were cut into entries."""
    events: list[tuple[Any, ...]] = []
    for entry in entries:
        for event in entry.events:
            match event:
                case Held():
                    events.append((event.seq, event.reservation_id, event.quota, event.persons, event.fingerprint))
                case Confirmed():
                    events.append((event.seq, event.reservation_id, event.quota, event.places))
                case Ended():
                    late = event.returns_at_ms > 0
                    events.append((event.seq, event.reservation_id, event.quota, event.places, event.state, late))
                case QuotaSet():
                    events.append((event.seq, event.quota, event.imported))
                case Returned() | QuotaRetired():
                    events.append((event.seq, event.quota))
    return events


def test_the_histories_speak_of_every_quota() -> None:
    assert set(FIRST_TERMS) < set(QUOTAS)
