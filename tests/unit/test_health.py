"""When a worker says that it is not ready, and what it says then."""

from reservasi.front.admin import worker_readiness
from reservasi.health import GRACE_S, Health


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
    said = readiness()
    assert (said["ledger"], said["records"]) == (False, True)
    assert said["missing"] == {"surabaya": "ledger: fenced: behind the records"}
    served.fresh = False
    assert readiness()["records"] is False


def test_a_worker_that_starts_is_not_ready() -> None:
    said = worker_readiness(Health(), lambda: None)()
    assert said["worker"] is False
    assert "starting" in str(said["missing"])
