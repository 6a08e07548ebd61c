"""A worker's readiness and its reasons."""

from typing import Any

import pytest

from reservasi.admin import worker_readiness
from reservasi.errors import LedgerUnreachable, RecordsUnavailable
from reservasi.health import GRACE_S, Health
from reservasi.ledger.connection import LedgerMeta
from reservasi.model import Position
from reservasi.worker.at_stake import AtStake
from reservasi.worker.ledger_owner import Comparison, Owner, Ownership


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Served:
    fresh = True

    def programs(self) -> tuple[object, ...]:
        return ()

    def left_out(self) -> tuple[str, ...]:
        return ()


def test_a_program_is_missing_until_its_ledger_was_owned_once() -> None:
    health = Health(Clock())
    health.expect("surabaya")
    assert health.missing() == {"surabaya": ("ledger", "no answer yet")}
    health.note_well("surabaya")
    assert health.missing() == {}


def test_one_slow_answer_is_no_outage_and_a_long_one_is_and_ends_by_itself() -> None:
    clock = Clock()
    health = Health(clock)
    for program in ("batam", "surabaya"):
        health.expect(program)
        health.note_well(program)
    health.note_fault("batam", "records", "PostgreSQL does not answer")
    clock.now += GRACE_S
    assert health.missing() == {}
    clock.now += 0.1
    health.note_well("surabaya")
    assert health.missing() == {"batam": ("records", "PostgreSQL does not answer")}
    health.note_well("batam")
    assert health.missing() == {}


def test_what_is_missing_is_named() -> None:
    health, served = Health(), Served()
    readiness = worker_readiness(health, lambda: served)  # type: ignore[arg-type, return-value]
    assert all(value is True for value in readiness().values() if isinstance(value, bool))
    health.expect("surabaya")
    health.note_fault("surabaya", "ledger", "fenced: behind the records")
    status = readiness()
    assert (status["ledger"], status["records"]) == (False, True)
    assert status["missing"] == {"surabaya": "ledger: fenced: behind the records"}
    served.fresh = False
    assert readiness()["records"] is False


def test_a_worker_that_starts_is_not_ready() -> None:
    status = worker_readiness(Health(), lambda: None)()
    assert status["worker"] is False
    assert "starting" in str(status["missing"])


STAKE = "3 confirmed bookings (4 places) and 2 holds are only in the ledger"


@pytest.mark.parametrize(
    ("outcome", "part", "reason"),
    [
        (RecordsUnavailable("PostgreSQL does not answer"), "records", "PostgreSQL does not answer"),
        (LedgerUnreachable("the ledger does not answer"), "ledger", "the ledger does not answer"),
        (Ownership.BEHIND, "ledger", "fenced: behind the records"),
        (
            Ownership.DIVERGED,
            "ledger",
            f"fenced: its history differs from that of the records: {STAKE}",
        ),
        (
            Ownership.RECORDS_OLD,
            "records",
            f"fenced: the records are an older copy and lack changes of the ledger: {STAKE}",
        ),
    ],
)
async def test_the_owner_says_what_it_found(
    outcome: Exception | Ownership, part: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def compared(*_: object, **__: object) -> Comparison:
        if isinstance(outcome, Exception):
            raise outcome
        meta = LedgerMeta(position=Position(epoch=1, seq=1), owned=False, run_id="r")
        return Comparison(verdict=outcome, meta=meta, recorded=Position(epoch=1, seq=2), latest_epoch=1)

    async def counted(*_: object) -> AtStake:
        return AtStake(confirmed=3, places=4, held=2)

    monkeypatch.setattr("reservasi.worker.ledger_owner.compare_ledger", compared)
    monkeypatch.setattr("reservasi.worker.ledger_owner.count_at_stake", counted)
    nothing: Any = None
    health = Health()
    await Owner("surabaya", nothing, nothing, nothing, health=health)._check()
    assert health.missing() == {"surabaya": (part, reason)}


async def test_what_a_superseded_ledger_knows_is_not_counted_with_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other server goes on, so that the two differ from the look before each time."""
    recorded, counts = iter(range(2, 100)), []

    async def compared(*_: object, **__: object) -> Comparison:
        meta = LedgerMeta(position=Position(epoch=1, seq=1), owned=True, run_id="r")
        position = Position(epoch=2, seq=next(recorded))
        return Comparison(verdict=Ownership.SUPERSEDED, meta=meta, recorded=position, latest_epoch=2)

    async def counted(*_: object) -> AtStake:
        counts.append(1)
        return AtStake(confirmed=3, places=4, held=2)

    monkeypatch.setattr("reservasi.worker.ledger_owner.compare_ledger", compared)
    monkeypatch.setattr("reservasi.worker.ledger_owner.count_at_stake", counted)
    nothing: Any = None
    health = Health()
    owner = Owner("surabaya", nothing, nothing, nothing, health=health)
    for _ in range(5):
        await owner._check()
    assert len(counts) == 1
    assert health.missing() == {"surabaya": ("ledger", f"fenced: another server was owned after this one: {STAKE}")}
    monkeypatch.setattr("reservasi.worker.ledger_owner.STAKE_INTERVAL_S", 0.0)
    await owner._check()
    assert len(counts) == 2


def test_what_a_recorder_lacks_is_named_where_nobody_else_has_an_answer() -> None:
    health = Health()
    health.expect("surabaya")
    health.note_recorder("surabaya", "RecordsUnavailable: PostgreSQL does not answer", "records")
    expected = "no answer yet; its recorder: RecordsUnavailable: PostgreSQL does not answer"
    assert health.missing() == {"surabaya": ("records", expected)}
    health.note_recorder("surabaya", "")
    assert health.missing() == {"surabaya": ("ledger", "no answer yet")}
