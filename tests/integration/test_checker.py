"""The checker finds nothing in a good run, and finds each broken promise when it is planted."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import msgpack
import msgspec
import pytest
import pytest_asyncio
import redis.asyncio as redis_asyncio
from msgspec.structs import replace

from loadtest.checker import check, main
from loadtest.history import Exchange, HistoryWriter, read_history
from loadtest.program import open_terms
from loadtest.replay import Model
from loadtest.rules import Rule, Violation
from reservasi.bootstrap import Ledgers
from reservasi.ledger import keys
from reservasi.ledger.openings import FIELDS
from reservasi.ledger.servers import Servers
from reservasi.ledger.stored import StoredQuota, decode_quota, encode_quota, encode_timer
from reservasi.model import (
    Admit,
    Answer,
    AnyEvent,
    Cancel,
    Claim,
    Command,
    Confirm,
    Ended,
    Held,
    Join,
    Opening,
    OpeningSet,
    Outcome,
    Position,
    QuotaSet,
    QuotaTerms,
    SetQuota,
    State,
)
from reservasi.records import Records, upgrades
from reservasi.settings import Settings
from tests.ledgers import opening_of, opening_set

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

EVENTS_MAX = 1000
HOLD_MS = 7_200_000
STATE = 0  # place in a packed reservation, as lua/shared.lua has it
CAPACITY = 0  # place among a quota's limits


@dataclass
class Run:
    """A small run that went well: two quotas, two confirmed, one held, one cancelled reservation."""

    program: str
    redis_url: str
    dsn: str
    client: redis_asyncio.Redis
    database: asyncpg.Connection[asyncpg.Record]
    history: list[Exchange]

    @property
    def quota(self) -> str:
        return f"{self.program}.kanim.baru.20301201.0800.online"

    def id(self, number: int) -> str:
        return f"{self.program[-4:]}{number:022d}"

    async def rules(self) -> set[Rule]:
        return {violation.rule for violation in await self.violations()}

    async def violations(self) -> tuple[Violation, ...]:
        (finding,) = await check(self.redis_url, self.dsn, self.history, [self.program])
        return finding.violations

    async def change(self, key: str, field: str, change: Callable[[list[Any]], None]) -> None:
        """Change a packed field of the ledger behind its back."""
        packed = await self.client.hget(key, field)
        assert packed is not None
        fields = msgpack.unpackb(packed)
        change(fields)
        await self.client.hset(key, field, msgpack.packb(fields, use_bin_type=False))

    async def change_quota(self, change: Callable[[StoredQuota], None]) -> None:
        """Change the record of its first quota behind the ledger's back."""
        stored: Any = await self.client.hget(keys.quotas(self.program), self.quota)
        quota = decode_quota(stored)
        change(quota)
        await self.client.hset(keys.quotas(self.program), self.quota, encode_quota(quota))

    async def sql(self, statement: str, *arguments: object) -> None:
        """Change rows of this program; exactly one, where it is no other kind of statement."""
        done = await self.database.execute(statement, *arguments)
        assert not done.startswith(("UPDATE", "INSERT", "DELETE")) or done.endswith(" 1"), done

    def told(self, number: int, call: str, outcome: int, **changes: Any) -> Exchange:
        at = time.time() * 1000
        members = {"reservation_id": self.id(number)} if call != "claim" else {"quota": self.quota, "places": 1}
        return Exchange(
            person=number,
            call=call,
            outcome=outcome,
            **{
                "sent_ms": at,
                "answered_ms": at,
                "key": f"key-{number}" if call == "claim" else "",
                **members,
                **changes,
            },
        )


def terms(capacity: int) -> QuotaTerms:
    return open_terms(capacity=capacity, hold_ms=HOLD_MS, return_min_ms=60_000, return_max_ms=60_000, date="2030-12-01")


@pytest_asyncio.fixture
async def run(program: str, valkey_url: str, database: str) -> AsyncIterator[Run]:
    await upgrades.upgrade(database)
    records = await Records.open(database, 2)
    await records.make_room(program)
    servers = Servers(valkey_url)
    connection = await asyncpg.connect(database)
    ledgers = Ledgers(Settings(redis_url=valkey_url, postgres_dsn=database), servers)
    made = Run(program, valkey_url, database, servers.client, connection, [])
    try:
        await carry_out(ledgers, made)
        entries = await ledgers.journal(program).read(None, EVENTS_MAX, 0)
        await records.record(program, None, entries, booking_code=lambda id_: f"CODE-{id_}")
        made.history = good_history(made)
        yield made
    finally:
        await servers.close()
        await connection.close()
        await records.close()


async def carry_out(ledgers: Ledgers, run: Run) -> None:
    owning = ledgers.connection(run.program)
    assert await owning.own(Position(epoch=0, seq=0), 1, 5.0) == "owned"
    await owning.drop()
    group = ledgers.group(run.program)
    group.start()

    async def accepted(command: Command, outcome: Outcome) -> Answer:
        answer = await group.submit(command)
        assert answer.outcome is outcome
        return answer

    await accepted(SetQuota(quota=run.quota, terms=terms(5)), Outcome.QUOTA_SET)
    await accepted(SetQuota(quota=run.quota.replace(".0800.", ".0900."), terms=terms(3)), Outcome.QUOTA_SET)
    for number in range(1, 5):
        claim = Claim(
            reservation_id=run.id(number), quota=run.quota, fingerprint="f", sealed="s", persons=(f"person-{number}",)
        )
        await accepted(claim, Outcome.HELD)
    for number in (1, 2, 4):
        await accepted(Confirm(reservation_id=run.id(number)), Outcome.CONFIRMED)
    await accepted(Cancel(reservation_id=run.id(4)), Outcome.CANCELLED)
    await accepted(opening_set(), Outcome.OPENING_SET)
    await accepted(Join(opening="p-1", ticket_id="t"), Outcome.JOINED)
    await accepted(Admit(opening="p-1", controller="c", lease_ms=1000), Outcome.ADVANCED)
    await group.close()


def good_history(run: Run) -> list[Exchange]:
    def held(number: int) -> dict[str, Any]:
        return {"id": run.id(number), "quota": run.quota, "places": 1, "manage_token": f"token-{number}"}

    def code(number: int) -> dict[str, Any]:
        return {"id": run.id(number), "booking_code": f"CODE-{run.id(number)}"}

    return [
        run.told(1, "claim", 503),
        *(run.told(number, "claim", 201, body=held(number)) for number in (1, 2, 3, 4)),
        run.told(1, "claim", 201, body=held(1), replayed=True),
        run.told(5, "claim", 409),
        run.told(1, "confirm", 200, body=code(1)),
        run.told(2, "confirm", 202, body={"id": run.id(2)}),
        run.told(4, "confirm", 200, body=code(4)),
        run.told(4, "cancel", 200),
    ]


async def test_a_good_run_has_no_violation(run: Run) -> None:
    (finding,) = await check(run.redis_url, run.dsn, run.history, [run.program])
    assert finding.violations == ()
    assert (finding.capacity, finding.held, finding.confirmed, finding.returning) == (8, 1, 2, 1)
    assert (finding.booked, finding.reservations, finding.changes) == (2, 4, 12)


async def joined_miscounted(run: Run) -> None:
    joined = 1 + FIELDS.index("joined")
    await run.change(keys.openings(run.program), "p-1", lambda record: record.__setitem__(joined, 0))


async def opening_row_lost(run: Run) -> None:
    await run.sql("DELETE FROM openings WHERE program = $1", run.program)


async def mark_row_ahead(run: Run) -> None:
    await run.sql("UPDATE openings SET admitted_through = 1 WHERE program = $1", run.program)


# -- planted in the ledger ---------------------------------------------------------------------------------------


async def oversold(run: Run) -> None:
    await run.change_quota(lambda quota: quota.limits.__setitem__(CAPACITY, 3))


async def miscounted(run: Run, field: str = "held", by: int = 1) -> None:
    await run.change_quota(lambda quota: setattr(quota, field, getattr(quota, field) + by))


async def two_live(run: Run) -> None:
    await run.change(keys.reservations(run.program), run.id(3), lambda record: record.__setitem__(-1, "person-1"))


async def person_unmapped(run: Run) -> None:
    await run.client.hdel(keys.persons(run.program), "person-1")


async def person_mapped_elsewhere(run: Run) -> None:
    await run.client.hset(keys.persons(run.program), "person-1", run.id(2))


async def person_left_over(run: Run) -> None:
    await run.client.hset(keys.persons(run.program), "person-4", run.id(4))


async def deadline_lost(run: Run) -> None:
    timers: Any = await run.client.zrange(keys.timers(run.program), 0, -1)
    (timer,) = (timer for timer in timers if timer.endswith(run.id(3).encode()))
    await run.client.zrem(keys.timers(run.program), timer)


async def deadline_left_over(run: Run) -> None:
    await run.client.zadd(keys.timers(run.program), {encode_timer(1, 1, run.id(1)): 0})


async def reservation_lost(run: Run) -> None:
    await run.client.hdel(keys.reservations(run.program), run.id(1))


async def confirmed_again_held(run: Run) -> None:
    await run.change(keys.reservations(run.program), run.id(2), lambda record: record.__setitem__(STATE, "h"))


async def cancelled_again_confirmed(run: Run) -> None:
    await run.change(keys.reservations(run.program), run.id(4), lambda record: record.__setitem__(STATE, "c"))


async def fenced(run: Run) -> None:
    await run.client.hset(keys.meta(run.program), "run_id", "0" * 40)


# -- planted in the database -------------------------------------------------------------------------------------


async def booking_lost(run: Run) -> None:
    await run.sql("DELETE FROM bookings WHERE program = $1 AND reservation_id = $2", run.program, run.id(1))


async def booking_of_nobody(run: Run) -> None:
    await copy_booking(run, reservation_id="nobody", booking_code="CODE-X")


async def booking_twice(run: Run) -> None:
    await copy_booking(run, reservation_id=run.id(1), booking_code="CODE-X", held_seq=999)


async def code_twice(run: Run) -> None:
    await run.sql("UPDATE bookings SET booking_code = $2 WHERE reservation_id = $1", run.id(2), f"CODE-{run.id(1)}")


async def copy_booking(run: Run, **changes: object) -> None:
    row = await run.database.fetchrow("SELECT * FROM bookings WHERE reservation_id = $1", run.id(1))
    assert row is not None
    values = {**row, **changes}
    places = ", ".join(f"${at}" for at in range(1, len(values) + 1))
    await run.sql(f"INSERT INTO bookings ({', '.join(values)}) VALUES ({places})", *values.values())


async def booking_elsewhere(run: Run) -> None:
    await run.sql("UPDATE bookings SET quota = 'elsewhere' WHERE reservation_id = $1", run.id(1))


async def person_booked_twice(run: Run) -> None:
    await run.sql("DROP INDEX applicants_one_live_reservation")
    await run.sql("UPDATE applicants SET person = 'person-1' WHERE reservation_id = $1", run.id(2))


async def applicant_lost(run: Run) -> None:
    await run.sql("DELETE FROM applicants WHERE reservation_id = $1", run.id(2))


async def booked_miscounted(run: Run) -> None:
    await run.sql("UPDATE quotas SET booked = booked + 1 WHERE id = $1", run.quota)


async def capacity_differs(run: Run) -> None:
    await run.sql("UPDATE quotas SET capacity = capacity + 1 WHERE id = $1", run.quota)


async def hold_lost(run: Run) -> None:
    await run.sql("DELETE FROM holds WHERE reservation_id = $1", run.id(3))


async def journal_entry_lost(run: Run) -> None:
    await run.sql("DELETE FROM journal WHERE program = $1 AND first_seq = 4", run.program)


async def journal_entry_rewritten(run: Run) -> None:
    await run.sql("UPDATE journal SET at_ms = at_ms + 1 WHERE program = $1 AND first_seq = 4", run.program)


async def stream_goes_on(run: Run) -> None:
    """With a copy of its last entry, of which the ledger's position does not tell."""
    entries: Any = await run.client.xrevrange(keys.journal(run.program), count=1)
    ((_, fields),) = entries
    await run.client.xadd(keys.journal(run.program), {**fields, b"first": b"13"}, id="1-13")


async def position_ahead(run: Run) -> None:
    await run.sql("UPDATE positions SET seq = seq + 1 WHERE program = $1", run.program)


async def dead_letter(run: Run) -> None:
    await run.sql(
        "INSERT INTO dead_letters (program, epoch, seq, event, error) VALUES ($1, 1, 7, '{}', 'planted')", run.program
    )


# -- planted in what the clients were told -----------------------------------------------------------------------


async def told_of_an_unknown_claim(run: Run) -> None:
    body = {"id": run.id(9), "quota": run.quota, "places": 1}
    run.history.append(run.told(9, "claim", 201, body=body))


async def told_another_quota(run: Run) -> None:
    run.history.append(run.told(3, "claim", 201, key="other", body={"id": run.id(3), "quota": "q", "places": 1}))


async def told_sold_out_after_all(run: Run) -> None:
    later = run.history[-1].answered_ms + 10
    run.history.append(run.told(1, "claim", 409, sent_ms=later, answered_ms=later))


async def told_another_token(run: Run) -> None:
    good = next(exchange for exchange in run.history if exchange.outcome == 201)
    run.history.append(msgspec.structs.replace(good, body={**good.body, "manage_token": "another"}))


async def told_confirmed_while_held(run: Run) -> None:
    run.history.append(run.told(3, "confirm", 202, body={"id": run.id(3)}))


async def told_another_code(run: Run) -> None:
    run.history.append(run.told(2, "confirm", 200, body={"id": run.id(2), "booking_code": "CODE-X"}))


async def told_cancelled(run: Run) -> None:
    run.history.append(run.told(2, "cancel", 200))


async def told_cancelling(run: Run) -> None:
    run.history.append(run.told(2, "cancel", 202))


async def told_two_places(run: Run) -> None:
    body = {"id": run.id(2), "quota": run.quota, "places": 1}
    run.history.append(run.told(1, "claim", 201, key="second", body=body))


async def told_the_past(run: Run) -> None:
    """At seq 6 all places but one were held; somebody had been told of seq 10 before."""
    body = {"type": "/problems/sold-out"}
    run.history.append(run.told(6, "claim", 409, places=2, epoch=1, seq=6, body=body))


async def told_sold_out_while_a_place_remained(run: Run) -> None:
    run.history.append(run.told(6, "claim", 409, epoch=1, seq=12, body={"type": "/problems/sold-out"}))


async def told_of_a_change_that_is_another(run: Run) -> None:
    run.history.append(run.told(2, "confirm", 202, epoch=1, seq=9, body={"id": run.id(2)}))


async def told_held_elsewhere_than_asked(run: Run) -> None:
    good = next(exchange for exchange in run.history if exchange.outcome == 201)
    run.history.append(msgspec.structs.replace(good, quota=run.quota.replace(".0800.", ".0900.")))


PLANTED: list[tuple[Callable[[Run], Awaitable[None]], set[Rule]]] = [
    (oversold, {Rule.OVERSOLD, Rule.BOOKED_DIFFERS, Rule.REPLAY_DIFFERS}),
    (miscounted, {Rule.COUNTS_DIFFER, Rule.REPLAY_DIFFERS}),
    (lambda run: miscounted(run, "confirmed", -1), {Rule.COUNTS_DIFFER, Rule.REPLAY_DIFFERS, Rule.BOOKED_DIFFERS}),
    (lambda run: miscounted(run, "returning", -1), {Rule.COUNTS_DIFFER, Rule.REPLAY_DIFFERS}),
    (lambda run: miscounted(run, "held", -2), {Rule.OVERSOLD, Rule.COUNTS_DIFFER, Rule.REPLAY_DIFFERS}),
    (two_live, {Rule.TWO_LIVE, Rule.PERSONS_DIFFER, Rule.REPLAY_DIFFERS}),
    (person_unmapped, {Rule.PERSONS_DIFFER}),
    (person_mapped_elsewhere, {Rule.PERSONS_DIFFER}),
    (person_left_over, {Rule.PERSONS_DIFFER}),
    (deadline_lost, {Rule.TIMER_DIFFERS}),
    (deadline_left_over, {Rule.TIMER_DIFFERS}),
    (
        reservation_lost,
        {
            Rule.COUNTS_DIFFER,
            Rule.PERSONS_DIFFER,
            Rule.BOOKING_UNKNOWN,
            Rule.REPLAY_DIFFERS,
            Rule.CLAIM_FORGOTTEN,
            Rule.CONFIRMATION_FORGOTTEN,
        },
    ),
    (
        confirmed_again_held,
        {
            Rule.COUNTS_DIFFER,
            Rule.TIMER_DIFFERS,
            Rule.BOOKING_UNKNOWN,
            Rule.HOLD_DIFFERS,
            Rule.REPLAY_DIFFERS,
            Rule.CONFIRMATION_FORGOTTEN,
        },
    ),
    (
        cancelled_again_confirmed,
        {
            Rule.COUNTS_DIFFER,
            Rule.PERSONS_DIFFER,
            Rule.BOOKING_MISSING,
            Rule.REPLAY_DIFFERS,
            Rule.CANCELLATION_FORGOTTEN,
        },
    ),
    (fenced, {Rule.FENCED}),
    (booking_lost, {Rule.BOOKING_MISSING, Rule.BOOKED_DIFFERS, Rule.CONFIRMATION_FORGOTTEN}),
    (booking_of_nobody, {Rule.BOOKING_UNKNOWN, Rule.BOOKED_DIFFERS, Rule.PERSONS_DIFFER}),
    (booking_twice, {Rule.BOOKING_DOUBLED, Rule.BOOKED_DIFFERS, Rule.CONFIRMATION_FORGOTTEN}),
    (code_twice, {Rule.BOOKING_DOUBLED}),
    (booking_elsewhere, {Rule.BOOKING_UNKNOWN, Rule.BOOKED_DIFFERS}),
    (person_booked_twice, {Rule.BOOKING_DOUBLED}),
    (applicant_lost, {Rule.PERSONS_DIFFER}),
    (booked_miscounted, {Rule.BOOKED_DIFFERS}),
    (capacity_differs, {Rule.BOOKED_DIFFERS}),
    (hold_lost, {Rule.HOLD_DIFFERS}),
    (journal_entry_lost, {Rule.JOURNAL_GAP, Rule.REPLAY_DIFFERS}),
    (journal_entry_rewritten, {Rule.JOURNAL_GAP, Rule.TIME_DIFFERS}),
    (stream_goes_on, {Rule.JOURNAL_GAP}),
    (position_ahead, {Rule.POSITION_DIFFERS}),
    (joined_miscounted, {Rule.OPENING_DIFFERS, Rule.REPLAY_DIFFERS}),
    (opening_row_lost, {Rule.OPENING_DIFFERS}),
    (mark_row_ahead, {Rule.OPENING_DIFFERS}),
    (dead_letter, {Rule.DEAD_LETTER}),
    (told_of_an_unknown_claim, {Rule.CLAIM_FORGOTTEN}),
    (told_another_quota, {Rule.CLAIM_FORGOTTEN, Rule.ORDER_DIFFERS}),
    (told_sold_out_after_all, {Rule.ANSWER_CHANGED}),
    (told_another_token, {Rule.ANSWER_CHANGED}),
    (told_confirmed_while_held, {Rule.CONFIRMATION_FORGOTTEN}),
    (told_another_code, {Rule.CONFIRMATION_FORGOTTEN}),
    (told_cancelled, {Rule.CANCELLATION_FORGOTTEN}),
    (told_cancelling, {Rule.CANCELLATION_FORGOTTEN}),
    (told_two_places, {Rule.TWO_LIVE, Rule.ORDER_DIFFERS}),
    (told_the_past, {Rule.ORDER_DIFFERS}),
    (told_sold_out_while_a_place_remained, {Rule.ANSWER_DIFFERS}),
    (told_of_a_change_that_is_another, {Rule.ANSWER_DIFFERS}),
    (told_held_elsewhere_than_asked, {Rule.ANSWER_DIFFERS}),
]


@pytest.mark.parametrize(("plant", "expected"), PLANTED)
async def test_a_planted_violation_is_named(
    run: Run, plant: Callable[[Run], Awaitable[None]], expected: set[Rule]
) -> None:
    await plant(run)
    assert await run.rules() == expected


async def test_a_recorder_that_lags_is_waited_for_and_then_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.evidence.RECORDED_TIMEOUT_S", 0.2)
    await run.sql("UPDATE positions SET seq = seq - 1 WHERE program = $1", run.program)
    assert await run.rules() == {Rule.NOT_RECORDED, Rule.POSITION_DIFFERS}


def test_the_replay_sees_what_was_set_right_again() -> None:
    """Two people on one place, and one person on two: the end shows neither."""
    model = Model()

    def held(seq: int, person: str) -> Held:
        return Held(
            seq=seq,
            reservation_id=f"r{seq}",
            quota="q",
            deadline_ms=1,
            fingerprint="f",
            sealed="s",
            persons=(person,),
        )

    def follow(event: AnyEvent) -> tuple[bool, bool, bool]:
        second = model.second_life(event) is not None
        return second, model.apply(event) is not None, model.oversold("q") is not None

    released: dict[str, Any] = {"state": State.RELEASED, "quota": "q", "places": 1, "returns_at_ms": 0}
    assert follow(QuotaSet(seq=1, quota="q", version=1, terms=terms(1))) == (False, False, False)
    assert follow(held(2, "ani")) == (False, False, False)
    assert follow(held(3, "budi")) == (False, False, True)
    assert follow(Ended(seq=4, reservation_id="r3", **released)) == (False, False, False)
    assert follow(held(5, "ani")) == (True, False, True)
    assert follow(Ended(seq=6, reservation_id="r5", **released)) == (False, False, False)
    assert follow(Ended(seq=7, reservation_id="r5", **released)) == (False, True, False)


DRAWN = replace(opening_of(), drawn=True, joined=5, arrived=7, admitted_through=3, beacon="b", version=2)


@pytest.mark.parametrize(
    ("after", "wrong"),
    [
        (replace(DRAWN, admitted_through=7), False),
        (replace(DRAWN, arrived=9, paused=True, version=3), False),
        (replace(DRAWN, admitted_through=2), True),
        (replace(DRAWN, admitted_through=8), True),
        (replace(DRAWN, joined=6), True),
        (replace(DRAWN, drawn=False), True),
        (replace(DRAWN, arrived=6), True),
        (replace(DRAWN, beacon="c"), True),
        (replace(DRAWN, version=1), True),
        (replace(DRAWN, terms=replace(DRAWN.terms, opens_at_ms=1)), True),
        (replace(DRAWN, terms=replace(DRAWN.terms, commitment="d" * 64)), True),
    ],
)
def test_the_replay_follows_the_mark_and_the_draw(after: Opening, wrong: bool) -> None:
    model = Model()
    assert model.apply(OpeningSet(seq=1, opening=opening_of())) is None
    assert model.apply(OpeningSet(seq=2, opening=DRAWN)) is None
    assert (model.apply(OpeningSet(seq=3, opening=after)) is not None) == wrong


async def test_every_rule_is_planted() -> None:
    named = set().union(*(expected for _, expected in PLANTED)) | {Rule.NOT_RECORDED}
    assert named == set(Rule)


async def test_the_command_names_violations_and_fails(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history.jsonl"
    with history.open("w") as file:
        for exchange in run.history:
            HistoryWriter(file).write(exchange)
    assert read_history(history) == run.history
    arguments = [f"--redis-url={run.redis_url}", f"--postgres-dsn={run.dsn}", f"--history={history}"]

    assert await asyncio.to_thread(main, arguments) == 0
    assert "0 violations in 1 programs" in capsys.readouterr().out
    await booking_lost(run)
    assert await asyncio.to_thread(main, arguments) == 1
    assert f"VIOLATION booking-missing: {run.id(1)}" in capsys.readouterr().out


async def test_the_command_says_when_it_cannot_check(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--redis-url=redis://127.0.0.1:1", f"--postgres-dsn={database}"]
    assert await asyncio.to_thread(main, arguments) == 2
    assert "cannot be checked" in capsys.readouterr().err
