"""Claims: all or none, exact capacity, large batches, any text, and a journal with a valid chain."""

import hashlib
import itertools
from typing import Any, cast

import msgpack
import msgspec
import pytest

from loadtest.checker.mutants import Edit, Mutant, mutated
from reservasi.events import Confirmed, Ended, Held, JournalEntry, QuotaSet, chain_hash
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.entries import decode_entry
from reservasi.ledger.wire import messages
from reservasi.model import Answer, Cancel, Claim, Command, Confirm, Outcome, Release, SetQuota, State, Sweep
from tests import ledgers
from tests.ledgers import HOUR_MS, OTHER_QUOTA, QUOTA, START, Ledger, claim, quota_set, terms


async def _persons(ledger: Ledger) -> Any:
    persons: Any = await ledger.client.hgetall(keys.persons(ledger.program))
    return persons


async def test_a_group_gets_all_its_places_or_none(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=4))
    first, too_many, fits = claim(3), claim(2), claim(1)
    answers = await ledger.run(first, too_many, fits)
    assert [answer.outcome for answer in answers] == [Outcome.HELD, Outcome.SOLD_OUT, Outcome.HELD]
    assert (answers[1].remaining, answers[1].seq) == (1, answers[0].seq)
    assert await ledger.counts() == (4, 0, 0)
    living = {person.encode(): each.reservation_id.encode() for each in (first, fits) for person in each.persons}
    assert await _persons(ledger) == living


async def test_one_duplicate_refuses_the_whole_group(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    answers = await ledger.run(claim(["a"]), claim(["b", "c", "a"]), claim(["c", "b"]))
    assert [answer.outcome for answer in answers] == [Outcome.HELD, Outcome.DUPLICATE_APPLICANT, Outcome.HELD]


async def test_a_refused_group_hears_which_of_its_persons_it_is(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    await ledger.run(claim(["a"]), claim(["b", "c"]))
    refused = [["a"], ["x", "a"], ["x", "y", "c", "a"], ["x", "y", "z", "v", "b"], ["x", "y", "x"]]
    answers = await ledger.run(*map(claim, refused))
    assert {answer.outcome for answer in answers} == {Outcome.DUPLICATE_APPLICANT}
    assert [answer.applicant for answer in answers] == [1, 2, 3, 5, 3]


async def test_capacity_is_exact_over_many_batches(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=100))
    answers = [answer for _ in range(8) for answer in await ledger.run(*(claim() for _ in range(25)))]
    assert [answer.outcome for answer in answers] == [Outcome.HELD] * 100 + [Outcome.SOLD_OUT] * 100
    assert [answer.seq for answer in answers[:100]] == list(range(2, 102))
    assert await ledger.counts() == (100, 0, 0)


async def test_a_batch_sees_its_own_earlier_items(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=1))
    request = claim()
    answers = await ledger.run(request, request, claim(request.persons), claim())
    assert [answer.outcome for answer in answers] == [
        Outcome.HELD,
        Outcome.EXISTS,
        Outcome.DUPLICATE_APPLICANT,
        Outcome.SOLD_OUT,
    ]


async def test_a_thousand_groups_of_five_in_one_batch(ledger: Ledger) -> None:
    quotas = [f"p.o.s.20261201.{number:04}.online" for number in range(10)]
    await ledger.run(*(quota_set(quota, 400) for quota in quotas))
    claims = [claim(5, quota) for _, quota in zip(range(1000), itertools.cycle(quotas), strict=False)]
    answers = await ledger.run(*claims)
    assert [answer.outcome for answer in answers] == [Outcome.HELD] * 800 + [Outcome.SOLD_OUT] * 200
    assert len(await _persons(ledger)) == 4000
    *_, entry = await ledger.entries()
    assert len(entry.events) == 800
    ids = [each.reservation_id for each in claims[:800]]
    confirmed = await ledger.run(*(Confirm(reservation_id=reservation_id) for reservation_id in ids))
    assert {answer.outcome for answer in confirmed} == {Outcome.CONFIRMED}
    cancelled = await ledger.run(*(Cancel(reservation_id=reservation_id) for reservation_id in ids))
    assert {answer.outcome for answer in cancelled} == {Outcome.CANCELLED}
    assert await _persons(ledger) == {}
    assert {quota.counts.taken for quota in (await ledger.snapshot()).quotas} == {0}


async def test_more_timers_than_one_batch_may_run_are_all_run_in_the_end(ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=2500, hold_ms=1))
    answers: list[Answer] = []
    for _ in range(5):
        answers = await ledger.run(*(claim() for _ in range(500)))
    await ledger.until(answers[-1].deadline_ms)
    await ledger.one(SetQuota(quota=QUOTA, terms=terms(2500), version=1))
    assert (await ledger.one(claim(5))).outcome is Outcome.HELD
    assert await ledger.counts() == (505, 0, 0)
    assert (await ledger.one(Sweep(items_max=5000))).expired == 500
    assert await ledger.counts() == (5, 0, 0)


REFUSED_COMMANDS: dict[str, Command] = {
    "unknown quota": claim(quota="p.no.such.quota"),
    "closed": claim(quota="closed"),
    "not open": claim(quota="not-open"),
    "duplicate": claim(["taken"], OTHER_QUOTA),
    "twice": claim(["a", "a"], OTHER_QUOTA),
    "sold out": claim(),
    "reused": claim(quota=OTHER_QUOTA, reservation_id="known", fingerprint="another"),
    "replay": Claim(reservation_id="known", quota=QUOTA, fingerprint="f", sealed="", persons=("taken",)),
    "confirm not found": Confirm(reservation_id="nobody"),
    "release not found": Release(reservation_id="nobody"),
    "cancel not found": Cancel(reservation_id="nobody"),
    "cancel not confirmed": Cancel(reservation_id="known"),
    "confirm not held": Confirm(reservation_id="released"),
    "released before": Release(reservation_id="released"),
    "too late": Cancel(reservation_id="confirmed"),
    "release not held": Release(reservation_id="confirmed"),
    "confirmed before": Confirm(reservation_id="confirmed"),
    "below taken": SetQuota(quota=QUOTA, capacity=0),
    "version mismatch": SetQuota(quota=QUOTA, capacity=9, version=9),
    "set before": quota_set(QUOTA, 1),
    "set otherwise": quota_set(QUOTA, 2),
    "no quota to change": SetQuota(quota="p.no.such.quota", capacity=1),
}


async def test_no_refusal_writes_anything(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    await ledger.run(
        quota_set(QUOTA, 1),
        quota_set(OTHER_QUOTA, 10, cancel_until_ms=1),
        quota_set("closed", closed=True),
        quota_set("not-open", opens_at_ms=now_ms + HOUR_MS),
        claim(["taken"], reservation_id="known"),
        claim(quota=OTHER_QUOTA, reservation_id="confirmed"),
        claim(quota=OTHER_QUOTA, reservation_id="released"),
        Confirm(reservation_id="confirmed"),
        Release(reservation_id="released"),
    )
    before = await ledger.dump()
    accepted = {Outcome.HELD, Outcome.CONFIRMED, Outcome.RELEASED, Outcome.CANCELLED, Outcome.QUOTA_SET}
    for name, command in REFUSED_COMMANDS.items():
        answer = await ledger.one(command)
        assert answer.outcome not in accepted, name
        assert await ledger.dump() == before, name


async def test_an_unreadable_batch_changes_nothing(ledger: Ledger) -> None:
    """Whatever goes wrong in the function goes wrong before the first write."""
    await ledger.one(quota_set(capacity=5))
    before = await ledger.dump()
    good: list[Any] = [["a", "b"], [QUOTA], [1, 1], ["f", "g"], ["e", "h"], [1, 1], ["ani", "budi"]]
    for field, bad in itertools.product(range(len(good)), (None, 5, "text", [], good[0][:1], [["nested"], ["deep"]])):
        if len(good[field]) == 1 and isinstance(bad, list) and len(bad) == 1:  # another quota is not unreadable
            continue
        items = [*good[:field], bad, *good[field + 1 :]]
        with pytest.raises(Exception, match=r"user_function|script"):
            await ledger.raw("claim", items)
        assert await ledger.dump() == before, items
    for places in ([0, 2], [2, 0]):
        with pytest.raises(Exception, match="for nobody"):
            await ledger.raw("claim", [*good[:5], places, good[6]])
        assert await ledger.dump() == before, places
    for unreadable in (good[:6], [good], [5], [[], *good]):
        with pytest.raises(Exception, match=r"user_function|script"):
            await ledger.raw("claim", unreadable)
        assert await ledger.dump() == before, unreadable
    assert (await ledger.raw("claim", [[]] * 7))[4] in ([], {})
    assert await ledger.dump() == before


@pytest.mark.parametrize(
    "text", ["Siti Nurhaliza 🙏 — ñ 漢字", "x" * 31, "x" * 32, "x" * 256, "x" * 70_000, "", "0", "1e5"]
)
async def test_texts_pass_unchanged(text: str, ledger: Ledger) -> None:
    await ledger.one(quota_set(office=text))
    request = Claim(reservation_id=f"r{text}", quota=QUOTA, fingerprint=text, sealed=text, persons=(f"p{text}", text))
    await ledger.run(request, Confirm(reservation_id=request.reservation_id, payment_reference=text))
    events = [event for entry in await ledger.entries() for event in entry.events]
    _, held, confirmed = events
    assert isinstance(held, Held)
    assert (held.reservation_id, held.fingerprint, held.sealed, held.persons) == (
        request.reservation_id,
        text,
        text,
        request.persons,
    )
    assert isinstance(confirmed, Confirmed)
    assert confirmed.payment_reference == text
    (quota,) = (await ledger.snapshot()).quotas
    assert quota.terms.office == text
    assert (await ledger.one(request)).outcome is Outcome.EXISTS


async def test_numbers_stay_exact_up_to_what_a_double_holds(ledger: Ledger) -> None:
    most = 2**53 - 1
    wanted = terms(100_000, closes_at_ms=most, cancel_until_ms=most - 1, hold_ms=2**41)
    await ledger.one(SetQuota(quota=QUOTA, terms=wanted))
    (quota,) = (await ledger.snapshot()).quotas
    assert quota.terms == wanted
    held = await ledger.one(claim())
    assert held.deadline_ms == held.now_ms + 2**41


async def test_the_journal_chains_and_says_what_happened(ledger: Ledger) -> None:
    request, other = claim(2), claim()
    await ledger.one(quota_set())
    await ledger.run(request, other)
    await ledger.run(Confirm(reservation_id=request.reservation_id, payment_reference="PAY"))
    await ledger.run(Release(reservation_id=other.reservation_id), Cancel(reservation_id=request.reservation_id))
    raw: Any = await ledger.client.xrange(keys.journal(ledger.program))
    entries: list[JournalEntry] = [decode_entry(entry_id, fields) for entry_id, fields in raw]
    chain = ""
    for (entry_id, fields), entry in zip(raw, entries, strict=True):
        assert entry_id == f"1-{entry.position.seq}".encode()
        assert entry.chain == chain_hash(chain, 1, entry.first_seq, entry.at_ms, entry.payload)
        assert entry.payload == fields[b"events"]
        assert [event.seq for event in entry.events] == list(range(entry.first_seq, entry.position.seq + 1))
        chain = entry.chain
    assert (await ledger.snapshot()).position == entries[-1].position
    assert entries == await ledger.entries()
    assert [entry.first_seq for entry in entries] == [START.seq + 1, 2, 4, 5, 6]
    events = [event for entry in entries for event in entry.events]
    assert [type(event) for event in events] == [QuotaSet, Held, Held, Confirmed, Ended, Ended]
    assert [event.state for event in events if isinstance(event, Ended)] == [State.RELEASED, State.CANCELLED]
    assert msgpack.unpackb(entries[1].payload)[0][:3] == ["h", request.reservation_id, QUOTA]


async def test_loading_the_library_again_keeps_what_is_held(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    request = claim()
    await ledger.one(request)
    await ledger.client.function_flush()
    assert (await ledger.one(request)).outcome is Outcome.EXISTS


async def test_a_full_memory_refuses_claims_and_lets_reservations_end(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    request = claim()
    await ledger.one(request)
    before = await ledger.dump()
    await ledger.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(Exception, match=r"OOM|memory"):
            await ledger.one(claim())
        assert await ledger.dump() == before
        assert (await ledger.one(Confirm(reservation_id=request.reservation_id))).outcome is Outcome.CONFIRMED
        assert (await ledger.one(Cancel(reservation_id=request.reservation_id))).outcome is Outcome.CANCELLED
    finally:
        await ledger.client.config_set("maxmemory", 0)


@pytest.mark.parametrize("length", [1, 16, 31, 32, 255, 256, 70_000])
@pytest.mark.parametrize("places", [1, 2, 5, 20])
async def test_what_is_packed_by_hand_is_what_would_have_been_packed(length: int, places: int, ledger: Ledger) -> None:
    await ledger.one(quota_set(capacity=100))
    persons = tuple(f"{number}".rjust(length, "p") for number in range(places))
    request = Claim(
        reservation_id="r" * length, quota=QUOTA, fingerprint="f" * length, sealed="s" * length, persons=persons
    )
    answer = await ledger.one(request)
    sha = hashlib.sha1(request.sealed.encode()).hexdigest()
    event = ["h", request.reservation_id, QUOTA, answer.deadline_ms, request.fingerprint, sha, persons]
    (*_, entry) = await ledger.entries()
    assert entry.payload == msgpack.packb([event])
    stored: Any = await ledger.client.hget(keys.reservations(ledger.program), request.reservation_id)
    assert stored == msgpack.packb(["h", 1, request.fingerprint, answer.deadline_ms, answer.seq, 0, "", *persons])


@pytest.mark.parametrize("before", [126, 254, 511, 65_534, 2**32 - 2, 2**40])
async def test_seqs_of_every_length_are_stored_as_they_would_have_been_packed(before: int, ledger: Ledger) -> None:
    await ledger.one(quota_set())
    client, meta = cast("Any", ledger.client), keys.meta(ledger.program)
    await client.hset(meta, "seq", str(before))
    await client.hdel(meta, "at")  # else it would be seen that the journal ends elsewhere
    for request in [claim() for _ in range(4)]:
        answer = await ledger.one(request)
        stored: Any = await cast("Any", ledger.client).hget(keys.reservations(ledger.program), request.reservation_id)
        person, *_ = request.persons
        assert stored == msgpack.packb(["h", 1, request.fingerprint, answer.deadline_ms, answer.seq, 0, "", person])


async def test_envelopes_stay_with_their_claims_whoever_is_refused(ledger: Ledger) -> None:
    await ledger.run(quota_set(capacity=4), quota_set(OTHER_QUOTA, capacity=0))
    for refused in itertools.product((True, False), repeat=4):
        batch = [
            msgspec.structs.replace(claim(quota=OTHER_QUOTA if no else QUOTA), sealed=f"k1.{number}")
            for number, no in enumerate(refused)
        ]
        answers = await ledger.run(*batch)
        assert [answer.outcome is Outcome.SOLD_OUT for answer in answers] == list(refused)
        *_, entry = await ledger.entries()
        held = [request for request, no in zip(batch, refused, strict=True) if not no]
        if held:
            assert [(event.reservation_id, event.sealed) for event in entry.events if isinstance(event, Held)] == [
                (request.reservation_id, request.sealed) for request in held
            ]
            await ledger.run(*(Release(reservation_id=request.reservation_id) for request in held))


async def test_the_short_answer_says_the_same(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not places came free lately, who is held hears the same."""
    await ledger.run(quota_set(capacity=5), quota_set(OTHER_QUOTA, hold_ms=500_000))
    batch = [claim(3), claim(3), claim(2, OTHER_QUOTA), claim(["ani", "ani"]), claim()]
    long_ago = mutated(
        Mutant("long-ago", frozenset(), (Edit("shared", "FREED_SAID_MS = 11000", "FREED_SAID_MS = -1"),))
    )
    whole = await ledger.run(*batch)
    for request in (batch[0], batch[2]):
        await ledger.run(Release(reservation_id=request.reservation_id))
    other = [msgspec.structs.replace(request, reservation_id=f"{request.reservation_id}-2") for request in batch[:-1]]
    monkeypatch.setattr(ledgers, "read_library", lambda: long_ago)
    in_short = Ledger(ledger.url, ledger.program, ledger.client)
    first_seq = whole[-1].seq + 2
    answers = await in_short.run(*other)
    assert [answer.outcome for answer in answers] == [answer.outcome for answer in whole[:-1]]
    assert [answer.freed_at_ms for answer in answers] == [0] * 4
    assert all(answer.freed_at_ms for answer in whole if answer.outcome is Outcome.HELD)
    for answer, before, seq in ((answers[0], whole[0], first_seq + 1), (answers[2], whole[2], first_seq + 2)):
        now_ms = answer.now_ms
        deadline_ms = before.deadline_ms - before.now_ms + now_ms
        assert answer == msgspec.structs.replace(before, seq=seq, now_ms=now_ms, deadline_ms=deadline_ms, freed_at_ms=0)
    assert (await in_short.one(other[0])).seq == answers[0].seq
    await ledger.client.function_delete(long_ago.name)


async def test_a_call_that_breaks_off_leaves_no_trace(ledger: Ledger) -> None:
    """What it had decided in memory is forgotten with it: the only place is still there."""
    await ledger.run(quota_set(capacity=1), quota_set(OTHER_QUOTA))
    await ledger.run(claim(quota=OTHER_QUOTA))
    journal, client = keys.journal(ledger.program), cast("Any", ledger.client)
    last_id = (await client.xinfo_stream(journal))["last-generated-id"]
    await client.execute_command("XSETID", journal, "1-1000000")  # the next entry's id is refused, once all is decided
    before = await ledger.dump()
    (reply,) = await ledger.connection.call([messages.encode_frame([claim()], 0)], 10.0)
    assert isinstance(reply, bytes)
    assert messages.decode_reply(reply).fenced
    assert await ledger.dump() == before
    await client.execute_command("XSETID", journal, last_id)
    assert (await ledger.one(claim())).outcome is Outcome.HELD
    assert (await ledger.one(claim())).outcome is Outcome.SOLD_OUT
    assert await ledger.counts() == (1, 0, 0)


async def test_what_another_version_wrote_is_read_anew(ledger: Ledger) -> None:
    """Functions keep quotas from call to call: what is stored decides, whoever stored it."""
    await ledger.one(quota_set(capacity=3))
    other = mutated(Mutant("other", frozenset(), (Edit("shared", "KEPT_MAX = 2000", "KEPT_MAX = 2001"),)))
    connection = LedgerConnection(ledger.url, ledger.program, other)
    outcomes = []
    for turn in range(4):
        frames = [messages.encode_frame([claim()], 0)]
        (raw,) = await (connection if turn % 2 else ledger.connection).call(frames, 10.0)
        assert isinstance(raw, bytes)
        outcomes.append(messages.decode_answer(messages.decode_reply(raw), 0, claim()).outcome)
    await connection.drop()
    assert outcomes == [Outcome.HELD] * 3 + [Outcome.SOLD_OUT]
    assert await ledger.counts() == (3, 0, 0)
    await ledger.client.function_delete(other.name)


async def test_a_quota_that_is_again_as_it_was_is_read_as_it_is(ledger: Ledger) -> None:
    """Another version brings back a text that this one had kept and changed since."""
    await ledger.one(quota_set(capacity=2))
    other = mutated(Mutant("other", frozenset(), (Edit("shared", "KEPT_MAX = 2000", "KEPT_MAX = 2002"),)))
    connection = LedgerConnection(ledger.url, ledger.program, other)
    first, second = claim(), claim()
    await ledger.one(first)
    await ledger.one(second)
    (raw,) = await connection.call([messages.encode_frame([Release(reservation_id=second.reservation_id)], 0)], 10.0)
    assert isinstance(raw, bytes)
    assert messages.decode_reply(raw).answers[0][0] == "released"
    assert (await ledger.one(claim())).outcome is Outcome.HELD
    assert await ledger.counts() == (2, 0, 0)
    await connection.drop()
    await ledger.client.function_delete(other.name)


async def test_more_quotas_than_are_kept_are_sold_as_well(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    few = mutated(Mutant("keeps-two", frozenset(), (Edit("shared", "KEPT_MAX = 2000", "KEPT_MAX = 2"),)))
    monkeypatch.setattr(ledgers, "read_library", lambda: few)
    narrow = Ledger(ledger.url, ledger.program, ledger.client)
    quotas = [f"{QUOTA}{number}" for number in range(7)]
    await narrow.run(*(quota_set(quota, capacity=2) for quota in quotas))
    for _ in range(2):
        answers = await narrow.run(*(claim(quota=quota) for quota in quotas))
        assert {answer.outcome for answer in answers} == {Outcome.HELD}
    assert {answer.outcome for answer in await narrow.run(*(claim(quota=quota) for quota in quotas))} == {
        Outcome.SOLD_OUT
    }
    assert {await narrow.counts(quota) for quota in quotas} == {(2, 0, 0)}
    await ledger.client.function_delete(few.name)


async def test_what_this_run_of_the_server_does_not_know_counts_as_free_since_its_first_call(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does what it has forgotten, since it remembers so many quotas at most."""
    await ledger.one(quota_set())
    edit = Edit("shared", "FREED_MAX = 5000 --", f"FREED_MAX = 2 -- {ledger.program},")  # no other test's state
    library = mutated(Mutant("remembers-two", frozenset(), (edit,)))
    monkeypatch.setattr(ledgers, "read_library", lambda: library)
    other = Ledger(ledger.url, ledger.program, ledger.client)
    request = claim()

    async def freed_at_ms(*before: Command) -> tuple[int, Answer]:
        """What is said with a claim a moment later, and the last answer until then."""
        *_, last = await other.run(*before, request)
        await other.until(last.now_ms + 2)
        return (await other.one(request)).freed_at_ms, last

    said_ms, first = await freed_at_ms()
    assert said_ms == first.freed_at_ms == first.now_ms
    busy = [quota_set(f"{QUOTA}{number}") for number in range(3)]
    assert (await freed_at_ms(*busy[:2]))[0] == said_ms
    said_ms, last = await freed_at_ms(busy[2])
    assert first.now_ms < said_ms <= last.now_ms  # the quota and the claim are two calls
    await ledger.client.function_delete(library.name)
