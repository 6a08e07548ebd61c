"""The checker accepts a correct run, replays changes that the end does not show, and its command names errors."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from loadtest.checker import __main__ as command
from loadtest.checker.__main__ import main
from loadtest.checker.check import check
from loadtest.checker.history import read_history, write_exchange
from loadtest.checker.mutants import MUTANTS
from loadtest.checker.replay import Model
from loadtest.checker.rules import Rule
from reservasi.embedded import embedded_postgres_dsn, embedded_redis_url
from reservasi.events import AnyEvent, Ended, Held, OpeningSet, QuotaSet
from reservasi.model import Opening, State
from tests.integration import test_checker_stored, test_checker_told
from tests.integration.checked_run import Run, terms
from tests.ledgers import opening_of


async def test_a_good_run_has_no_violation(run: Run) -> None:
    (finding,) = await check(run.redis_url, run.dsn, run.history, [run.program])
    assert finding.violations == ()
    assert (finding.capacity, finding.held, finding.confirmed, finding.returning) == (8, 1, 2, 1)
    assert (finding.booked, finding.reservations, finding.changes) == (2, 4, 12)


async def test_a_recorder_that_lags_is_waited_for_and_then_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.checker.evidence.RECORDED_TIMEOUT_S", 0.2)
    await run.sql("UPDATE positions SET seq = seq - 1 WHERE program = $1", run.program)
    assert await run.rules() == {Rule.NOT_RECORDED, Rule.POSITION_DIFFERS}


async def test_every_rule_is_planted() -> None:
    planted = [*test_checker_stored.PLANTED, *test_checker_told.PLANTED]
    named = set().union(*(expected for _, expected in planted), *(mutant.rules for mutant in MUTANTS))
    named |= {Rule.NOT_RECORDED}
    assert named == set(Rule)


async def test_the_command_names_violations_and_fails(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history.jsonl"
    with history.open("w") as file:
        for exchange in run.history:
            write_exchange(file, exchange)
    assert read_history(history) == run.history
    arguments = [f"--redis-url={run.redis_url}", f"--postgres-dsn={run.dsn}", f"--history={history}"]

    assert await asyncio.to_thread(main, arguments) == 0
    assert "0 violations in 1 programs" in capsys.readouterr().out
    await test_checker_stored.booking_lost(run)
    assert await asyncio.to_thread(main, arguments) == 1
    assert f"VIOLATION booking-missing: {run.id(1)}" in capsys.readouterr().out


async def test_the_command_says_when_it_cannot_check(empty_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--redis-url=redis://127.0.0.1:1", f"--postgres-dsn={empty_database}"]
    assert await asyncio.to_thread(main, arguments) == 2
    assert "cannot be checked" in capsys.readouterr().err


def test_a_data_directory_names_both_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    async def note(redis_url: str, postgres_dsn: str, *_: Any) -> list[Any]:
        checked.extend((redis_url, postgres_dsn))
        return []

    monkeypatch.setattr(command, "check", note)
    assert main([f"--data-dir={tmp_path}"]) == 0
    assert checked == [embedded_redis_url(tmp_path), embedded_postgres_dsn(tmp_path)]
    assert main([f"--data-dir={tmp_path}", "--redis-url=redis://other"]) == 0
    assert checked[2:] == ["redis://other", checked[1]]
    for too_little in ([], ["--redis-url=redis://other"], ["--postgres-dsn=postgresql://other"]):
        with pytest.raises(SystemExit, match="2"):
            main(too_little)


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
