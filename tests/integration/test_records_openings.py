"""Openings in the records: written whole with each change; mark, draw and commitment never go back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from reservasi.events import JournalEntry
from reservasi.ledger.wire.openings import encode_opening
from reservasi.model import Opening, Position
from tests.ledgers import opening_of

if TYPE_CHECKING:
    from reservasi.records import Recorded, Records
    from tests.integration.conftest import JournalWriter, Tables

PROGRAM = "surabaya"


async def record(records: Records, expected: Position | None, *entries: JournalEntry) -> Recorded:
    return await records.record(PROGRAM, expected, entries, booking_code=str.upper)


def _moved(opening: Opening, **changes: Any) -> Opening:
    return replace(opening, **changes)


async def test_an_opening_is_recorded_as_the_ledger_has_it(
    records: Records, writer: JournalWriter, tables: Tables
) -> None:
    created = opening_of(adaptive=True, proof_of_work=True, beacon_source="drand, round 7")
    writer.opening_set(created)
    first = writer.entry()
    assert first.payload  # as the ledger packs it, so that it can be read again
    await record(records, None, first)
    assert await records.openings(PROGRAM) == [created]
    assert await records.openings("elsewhere") == []

    joined = _moved(created, joined=5, arrived=5, beacon="lotto 7", version=2)
    drawn = _moved(joined, drawn=True, arrived=7, admitted_through=3, advanced_at_ms=9, rate_per_min=30, paused=True)
    writer.opening_set(joined)
    writer.opening_set(drawn)
    other = opening_of("p-2", opens_at_ms=5, offices=("kanim", "ulp"))
    writer.opening_set(other)
    recorded = await record(records, first.position, writer.entry())
    assert recorded.dead == ()
    assert await records.openings(PROGRAM) == [drawn, other]
    assert await tables.rows("SELECT id, epoch, seq FROM openings ORDER BY id") == [("p-1", 1, 3), ("p-2", 1, 4)]


DRAWN = _moved(opening_of(), drawn=True, joined=5, arrived=7, admitted_through=3, beacon="b")


@pytest.mark.parametrize(
    "wrong",
    [
        _moved(DRAWN, admitted_through=2),
        _moved(DRAWN, terms=opening_of(beacon_source="drand, round 7").terms),
        _moved(DRAWN, arrived=6),
        _moved(DRAWN, joined=6),
        _moved(DRAWN, drawn=False),
        _moved(DRAWN, beacon="c"),
        _moved(DRAWN, admitted_through=8),
        _moved(DRAWN, terms=replace(DRAWN.terms, commitment="d" * 64)),
        _moved(DRAWN, id="p-2"),
        _moved(DRAWN, terms=replace(DRAWN.terms, opens_at_ms=5)),
    ],
)
async def test_what_contradicts_an_opening_is_a_dead_letter(
    records: Records, writer: JournalWriter, wrong: Opening
) -> None:
    writer.opening_set(DRAWN)
    position = (await record(records, None, writer.entry())).position
    writer.opening_set(wrong)
    writer.quota_set("q", 5)
    recorded = await record(records, position, writer.entry())
    assert [(letter.seq, letter.reservation_id) for letter in recorded.dead] == [(2, None)]
    assert await records.openings(PROGRAM) == [DRAWN]
    assert len(await records.quota_rows(PROGRAM)) == 1


async def test_one_moment_may_have_an_opening_for_each_office_and_a_moment_may_change_hands(
    records: Records, writer: JournalWriter
) -> None:
    kanim, ulp = opening_of("p-2", offices=("kanim",)), opening_of("p-1", offices=("ulp",))
    writer.opening_set(kanim)
    writer.opening_set(ulp)
    first = await record(records, None, writer.entry())
    assert await records.openings(PROGRAM) == [ulp, kanim]
    moved = _moved(kanim, terms=replace(kanim.terms, opens_at_ms=7), version=2)
    taken = _moved(ulp, terms=replace(ulp.terms, offices=("kanim",)), version=2)
    writer.opening_set(moved)
    writer.opening_set(taken)
    assert (await record(records, first.position, writer.entry())).dead == ()
    assert await records.openings(PROGRAM) == [taken, moved]


def test_an_event_says_all_of_an_opening() -> None:
    assert len(encode_opening(DRAWN)) == len(Opening.__struct_fields__)


async def test_one_that_was_called_off_stays_so_and_is_in_nobody_s_way(records: Records, writer: JournalWriter) -> None:
    called_off = _moved(
        opening_of(),
        cancelled=True,
        reason="banjir",
        reason_en="a flood",
        moved_from_ms=5,
        revision=2,
        revised_at_ms=7,
        paused=True,
        paused_at_ms=6,
    )
    again = _moved(opening_of("p-2"), version=2)
    writer.opening_set(called_off)
    writer.opening_set(again)
    first = writer.entry()
    assert (await record(records, None, first)).dead == ()
    assert await records.openings(PROGRAM) == [called_off, again]
    writer.opening_set(_moved(called_off, cancelled=False, version=2))
    assert [letter.seq for letter in (await record(records, first.position, writer.entry())).dead] == [3]
    assert await records.openings(PROGRAM) == [called_off, again]
