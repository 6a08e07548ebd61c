"""The journal is read in order or not at all: gaps and alterations are detected, trimming keeps a margin."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from reservasi.errors import JournalGap, LedgerUnreachable, UnreadableEntry
from reservasi.events import Held
from reservasi.ledger import keys
from reservasi.ledger.journal import stream as journal_module
from reservasi.ledger.journal.stream import Journal, check_follows
from reservasi.ledger.topology.clients import open_client
from reservasi.model import Confirm, Position
from tests.ledgers import START, Ledger, claim, open_ledger, quota_set
from tests.proxy import open_proxy

pytestmark = pytest.mark.any_server


@pytest.fixture
async def ledger(valkey_url: str, program: str) -> AsyncIterator[Ledger]:
    """A ledger with five entries of one event each, and one of ten."""
    async with open_ledger(valkey_url, program) as opened:
        await opened.one(quota_set(capacity=100_000))
        for _ in range(4):
            await opened.one(claim())
        await opened.run(*(claim() for _ in range(10)))
        yield opened


async def _replace(ledger: Ledger, entry_id: bytes, changes: dict[bytes, bytes], without: bytes = b"") -> None:
    """Write the journal anew with one entry altered."""
    stream = keys.journal(ledger.program)
    entries: Any = await ledger.client.xrange(stream)
    await ledger.client.delete(stream)
    for found_id, fields in entries:
        altered = fields | changes if found_id == entry_id else fields
        kept = {name: value for name, value in altered.items() if name != without or found_id != entry_id}
        await ledger.client.xadd(stream, kept, id=found_id)


async def test_entries_come_in_order_and_each_once(ledger: Ledger) -> None:
    position, seqs = START, []
    while entries := await ledger.journal.read(position, 3, 0):
        assert sum(len(entry.events) for entry in entries) <= 3 or len(entries) == 1
        seqs += [event.seq for entry in entries for event in entry.events]
        position = entries[-1].position
    assert seqs == list(range(1, 16))
    assert position == (await ledger.snapshot()).position
    assert await ledger.journal.read(None, 1000, 0) == await ledger.entries()


async def test_nothing_new_is_waited_for_and_then_empty(ledger: Ledger) -> None:
    assert await ledger.journal.read((await ledger.snapshot()).position, 10, 1) == []
    assert await Journal(ledger.client, "t-nobody").read(None, 10, 0) == []


async def test_a_missing_entry_is_a_gap(ledger: Ledger) -> None:
    await ledger.client.xdel(keys.journal(ledger.program), "1-3")
    (first, second) = await ledger.journal.read(None, 2, 0)
    with pytest.raises(JournalGap, match="expected seq 3"):
        await ledger.journal.read(second.position, 10, 0)
    assert await ledger.journal.read(first.position, 10, 0) == [second], "what is whole comes first"


async def test_a_reader_that_does_not_stand_on_the_chain_is_told(ledger: Ledger) -> None:
    elsewhere = Position(epoch=1, seq=2, chain="another history")
    with pytest.raises(JournalGap, match="does not continue the chain"):
        await ledger.journal.read(elsewhere, 10, 0)


@pytest.mark.parametrize(
    "changes",
    [{b"at": b"1"}, {b"chain": b"0" * 40}, {b"events": b"\x91\x93\xa1r\xa1q\x01"}],
    ids=["time", "chain", "events"],
)
async def test_an_altered_entry_does_not_chain(changes: dict[bytes, bytes], ledger: Ledger) -> None:
    await _replace(ledger, b"1-2", changes)
    (first,) = await ledger.journal.read(None, 100, 0)
    with pytest.raises(JournalGap, match="does not continue the chain"):
        await ledger.journal.read(first.position, 100, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {b"events": b"\xc1"},
        {b"events": b"\x91\x93\xa1r\xa1q"},
        {b"events": b"\x90"},
        {b"events": b"\x80"},
        {b"events": b"\x91\x93\xa1r\xa1q\x01\xc0"},
        {b"first": b"two"},
        {b"first": b"1"},
    ],
    ids=["no msgpack", "cut", "empty", "no array", "something behind", "no number", "another seq"],
)
async def test_an_entry_that_cannot_be_read_is_named(changes: dict[bytes, bytes], ledger: Ledger) -> None:
    await _replace(ledger, b"1-2", changes)
    (first,) = await ledger.journal.read(None, 100, 0)
    with pytest.raises(UnreadableEntry, match="1-2"):
        await ledger.journal.read(first.position, 100, 0)


@pytest.mark.parametrize("field", [b"first", b"at", b"chain", b"events"])
async def test_an_entry_without_a_field_says_which(field: bytes, ledger: Ledger) -> None:
    await _replace(ledger, b"1-2", {field: b""}, without=field)
    (first,) = await ledger.journal.read(None, 100, 0)
    with pytest.raises(UnreadableEntry, match=f"has no field {field.decode()}"):
        await ledger.journal.read(first.position, 100, 0)


async def test_a_field_that_a_later_version_added_to_an_entry_is_left_alone(ledger: Ledger) -> None:
    before = await ledger.entries()
    await _replace(ledger, b"1-2", {b"added": b"later"})
    assert await ledger.entries() == before


async def test_who_needs_no_envelopes_reads_the_same_history_without_them(ledger: Ledger) -> None:
    held = claim()
    await ledger.one(held)
    (*_, whole) = await ledger.entries()
    (*_, bare) = await Journal(ledger.client, ledger.program, envelopes=False).read(None, 1000, 0)
    (event,) = whole.events
    assert isinstance(event, Held)
    assert event.sealed == held.sealed
    named = msgspec.structs.replace(event, sealed=hashlib.sha1(held.sealed.encode()).hexdigest())
    assert bare == msgspec.structs.replace(whole, events=(named,))


async def test_check_follows_needs_the_very_next_seq(ledger: Ledger) -> None:
    first, second, third, *_ = await ledger.entries()
    check_follows(START, first)
    check_follows(second.position, third)
    for position in (START, first.position, third.position):
        with pytest.raises(JournalGap):
            check_follows(position, third)


async def test_trimming_keeps_the_margin_and_what_is_not_recorded(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "TRIM_MARGIN_SEQ", 300)
    # Trimming is approximate, by whole nodes of about 100 entries.
    for _ in range(800):
        await ledger.one(claim())
    entries = await ledger.entries()
    tip = entries[-1].position
    recorded = next(entry.position for entry in entries if entry.position.seq == 600)
    await ledger.journal.trim(Position(epoch=1, seq=300, chain=""))
    assert await ledger.entries() == entries, "within the margin nothing is trimmed"
    await ledger.journal.trim(recorded)
    oldest: Any = await ledger.client.xrange(keys.journal(ledger.program), count=1)
    oldest_seq = int(oldest[0][0].partition(b"-")[2])
    assert 1 < oldest_seq <= 300
    # A follower within the margin, and the recorder, go on; one that is further behind is told.
    lagging = next(entry.position for entry in entries if entry.position.seq == 300)
    for position in (lagging, recorded):
        (*_, last) = await ledger.journal.read(position, 10_000, 0)
        while last.position != tip:
            (*_, last) = await ledger.journal.read(last.position, 10_000, 0)
    with pytest.raises(JournalGap):
        await ledger.journal.read(entries[0].position, 10, 0)


async def test_every_remembered_reservation_is_listed(ledger: Ledger) -> None:
    claims = [claim() for _ in range(2500)]
    for at in range(0, len(claims), 500):
        await ledger.run(*claims[at : at + 500])
    await ledger.run(Confirm(reservation_id=claims[0].reservation_id))
    listed = {reservation_id async for reservation_id in ledger.journal.reservation_ids()}
    assert len(listed) == 2514
    assert {each.reservation_id for each in claims} < listed


async def test_a_server_that_is_away_is_said_so(ledger: Ledger) -> None:
    async with open_proxy(ledger.url) as proxy:
        proxy.refusing = True
        client = open_client(proxy.url)
        journal = Journal(client, ledger.program)
        try:
            with pytest.raises(LedgerUnreachable):
                await journal.read(None, 10, 0)
            with pytest.raises(LedgerUnreachable):
                await journal.publish_recorded(START)
            with pytest.raises(LedgerUnreachable):
                await journal.trim(Position(epoch=1, seq=1_000_000))
            with pytest.raises(LedgerUnreachable):
                assert [each async for each in journal.reservation_ids()]
        finally:
            await client.aclose()


async def test_a_follower_reads_on_over_one_connection(ledger: Ledger) -> None:
    async with open_proxy(ledger.url) as proxy:
        client = open_client(proxy.url, connections_max=1)
        journal = Journal(client, ledger.program)
        try:
            position, count = START, 0
            while entries := await journal.read(position, 3, 50):
                count += sum(len(entry.events) for entry in entries)
                position = entries[-1].position
            assert count == 15
            waiting = asyncio.create_task(journal.read(position, 3, 60_000))
            await ledger.one(claim())
            (entry,) = await waiting
            assert len(entry.events) == 1
            proxy.cut()
            with pytest.raises(LedgerUnreachable):
                await journal.read(entry.position, 3, 50)
            assert await journal.read(entry.position, 3, 50) == []
            await journal.rest()
            assert await client.ping(), "the only connection is free again"
            gone = asyncio.create_task(journal.read(entry.position, 3, 60_000))
            await asyncio.sleep(0.05)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            assert await client.ping()
        finally:
            await client.aclose()


async def test_a_process_that_stood_still_reads_what_came_meanwhile(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "READ_TIMEOUT_S", 0.1)
    after = (await ledger.snapshot()).position
    reading = asyncio.create_task(ledger.journal.read(after, 3, 50))
    await asyncio.sleep(0.01)
    time.sleep(0.3)  # noqa: ASYNC251 - the server answers after 50 ms
    assert await reading == []
    await ledger.journal.rest()


async def test_two_may_read_at_once(ledger: Ledger) -> None:
    after = (await ledger.snapshot()).position
    waiting = [asyncio.create_task(ledger.journal.read(after, 3, 60_000)) for _ in range(2)]
    await asyncio.sleep(0.05)
    await ledger.one(claim())
    first, second = await asyncio.gather(*waiting)
    assert first == second
    assert len(first) == 1
    await ledger.journal.rest()


async def test_what_was_said_to_be_recorded_is_not_taken_back(ledger: Ledger) -> None:
    """By it records that were restored from an older copy are known; a later epoch may begin at an earlier seq."""
    recorded = Position(epoch=1, seq=14)
    await ledger.journal.publish_recorded(recorded, epochs=[(1, 0)])
    for journal in (ledger.journal, Journal(ledger.client, ledger.program)):
        await journal.publish_recorded(Position(epoch=1, seq=5), ["r"], epochs=[(1, 0)])
        word = await journal.recorded_word()
        assert word is not None
        assert (word.epoch, word.seq, word.lineage) == (1, 14, ((1, 0),))
        assert await journal.dead_reservations() == {"r"}
    await ledger.journal.publish_recorded(Position(epoch=2, seq=9), epochs=[(1, 0), (2, 9)])
    word = await ledger.journal.recorded_word()
    assert word is not None
    assert (word.epoch, word.seq, word.lineage) == (2, 9, ((1, 0), (2, 9)))


@pytest.mark.parametrize("stored", [b"", b"null", b"{}", b"[1]", b"\xff", b'{"epoch": 1, "seq": "x", "epochs": []}'])
async def test_a_damaged_word_of_the_recorder_says_nothing(ledger: Ledger, stored: bytes) -> None:
    await ledger.client.hset(keys.recorded(ledger.program), keys.RECORDED_FIELD, stored)
    assert await ledger.journal.recorded_word() is None
    await ledger.client.delete(keys.recorded(ledger.program))
    await ledger.client.set(keys.recorded(ledger.program), stored)
    assert await ledger.journal.recorded_word() is None
