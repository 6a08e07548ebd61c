"""Random histories that a ledger could have accepted give the same rows, however they are split into batches."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from reservasi.events import JournalEntry
from reservasi.model import Position, State

if TYPE_CHECKING:
    from reservasi.records import Recorded, Records
    from tests.integration.conftest import JournalWriter, Tables

PROGRAM = "surabaya"


async def record(records: Records, expected: Position | None, *entries: JournalEntry) -> Recorded:
    return await records.record(PROGRAM, expected, entries, booking_code=str.upper)


class History:
    """Random histories that a ledger could have accepted."""

    def __init__(self, seed: int, writer: JournalWriter, ids: str = "r") -> None:
        self.random = random.Random(seed)
        self.writer = writer
        self.ids = ids  # what reservation ids begin with
        self.free = {f"q{number}": self.random.randint(1, 12) for number in range(3)}
        self.live: dict[str, tuple[State, str, tuple[str, ...]]] = {}
        self.persons = [f"person {number}" for number in range(12)]
        self.claims = 0
        for quota, capacity in self.free.items():
            writer.quota_set(quota, capacity)

    def step(self) -> None:
        if self.live and self.random.random() < 0.6:
            self.change(self.random.choice(sorted(self.live)))
        elif self.random.random() < 0.05:
            quota = self.random.choice(sorted(self.free))
            taken = sum(len(persons) for _, of, persons in self.live.values() if of == quota)
            capacity = taken + self.random.randint(0, 6)
            self.free[quota] = capacity - taken
            self.writer.quota_set(quota, capacity)
        else:
            self.claim()

    def claim(self) -> None:
        busy = {person for _, _, persons in self.live.values() for person in persons}
        able = [person for person in self.persons if person not in busy]
        quota = self.random.choice(sorted(self.free))
        places = min(len(able), self.free[quota], self.random.randint(1, 5))
        if not places:
            return
        persons = tuple(self.random.sample(able, places))
        self.claims += 1
        reservation_id = f"{self.ids}{self.claims:04d}"
        self.writer.held(reservation_id, quota, *persons)
        self.live[reservation_id] = (State.HELD, quota, persons)
        self.free[quota] -= places

    def change(self, reservation_id: str) -> None:
        state, quota, persons = self.live[reservation_id]
        if state is State.HELD and self.random.random() < 0.6:
            self.writer.confirmed(reservation_id)
            self.live[reservation_id] = (State.CONFIRMED, quota, persons)
            return
        ends = [State.CANCELLED] if state is State.CONFIRMED else [State.RELEASED, State.EXPIRED]
        self.writer.ended(reservation_id, self.random.choice(ends))
        del self.live[reservation_id]
        self.free[quota] += len(persons)
        if self.random.random() < 0.5:
            self.writer.returned(quota, len(persons))

    def entries(self, events: int) -> list[JournalEntry]:
        entries = []
        for _ in range(events):
            self.step()
            if self.writer.events and self.random.random() < 0.2:
                entries.append(self.writer.entry())
        return [*entries, self.writer.entry()] if self.writer.events else entries


@pytest.mark.parametrize("seed", range(12))
async def test_however_a_history_is_cut_the_tables_end_the_same(
    records: Records, writer: JournalWriter, tables: Tables, seed: int
) -> None:
    writer.confirmed("unknown")  # a dead letter: with it in the batch, every event is applied by itself
    poison = writer.entry()
    history = History(seed, writer)
    entries = history.entries(300)

    first = await record(records, None, poison)
    at_once = await record(records, first.position, *entries)
    assert (len(first.dead), at_once.dead) == (1, ())
    wanted = await tables.everything()
    assert len(wanted["bookings"]) > 10
    live = {row[0] for row in await tables.rows("SELECT DISTINCT reservation_id FROM applicants WHERE live")}
    assert live == history.live.keys()
    confirmed = [id_ for id_, (state, _, _) in sorted(history.live.items()) if state is State.CONFIRMED]
    assert await records.booking_ids(PROGRAM) == confirmed

    await tables.empty()
    one_by_one = await record(records, None, poison, *entries)
    assert [letter.seq for letter in one_by_one.dead] == [1]
    assert await tables.everything() == wanted

    await tables.empty()
    position = (await record(records, None, poison)).position
    while entries:
        count = history.random.randint(1, 5)
        batch, entries = entries[:count], entries[count:]
        position = (await record(records, position, *batch)).position
    assert await tables.everything() == wanted
