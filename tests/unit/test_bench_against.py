"""The comparison with another revision: what is asked, how it is reckoned, and how it ends where there is none."""

import dataclasses
import itertools
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from loadtest.bench.__main__ import main, read_arguments
from loadtest.bench.against import comparison
from loadtest.bench.against.checkout import Build, NoRevision, commit_of
from loadtest.bench.against.comparison import FRONT, LEDGER, OPERATIONS, Comparison, figure
from loadtest.bench.against.operations import ALL, Operation
from loadtest.bench.against.stand import Stand
from loadtest.bench.claims import get, send
from loadtest.bench.client import check
from loadtest.bench.figures import Pair, WrongResult
from loadtest.openloop import commands, overload
from loadtest.openloop.outcomes import HELD, OVERLOADED, Outcomes
from loadtest.stage.cores import Cores
from loadtest.stage.http import Answer
from loadtest.stage.verdicts import open_console

QUEUE = OPERATIONS["queue"]


def pair(here: float, there: float, ledger: float = 0.0) -> Pair:
    return Pair(base={FRONT: there, LEDGER: ledger}, other={FRONT: here, LEDGER: ledger})


def test_the_median_of_the_rounds_is_held_against_the_target() -> None:
    pairs = [pair(5e-5, 1e-4), pair(9e-5, 1e-4, 1e-4), pair(2e-5, 1e-4)]
    compared = figure(QUEUE, pairs)
    assert compared.value == pytest.approx(0.5)
    assert compared.met is True
    assert "100 -> 50 us; rounds 0.20 to 0.90; with the ledger's 0.50" in compared.note
    assert figure(dataclasses.replace(QUEUE, target=0.4), pairs).met is False


def test_both_are_measured_by_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    costs = itertools.cycle([1.0, 6.0, 2.0, 3.0])  # this tree: 1 and 3, the other: 6 and 2

    def measure(stand: Stand, operation: Operation, scale: float) -> dict[str, float]:
        calls.append(f"{stand}{operation.name}")
        return {FRONT: next(costs), LEDGER: 0.0}

    monkeypatch.setattr(comparison, "measure", measure)
    some = [QUEUE, OPERATIONS["claim"]]
    messages: list[str] = []
    result = Comparison("v1")
    result.compare(cast(tuple[Stand, Stand], ("a", "b")), some, rounds=2, scale=1.0, say=messages.append)
    order = ("claim", "queue", "queue", "claim", "claim", "queue")  # each round reverses it
    assert calls == [f"{side}{name}" for name in order for side in "abba"]
    assert [(each.name, each.value) for each in result.figures] == [("queue", 0.5), ("claim", 0.5)]
    assert list(result.pairs.values()) == [2 * [pair(2.0, 4.0)]] * 2  # blocks of a round weigh the same
    assert messages == ["warming up", "round 1 of 2", "round 2 of 2"]


def test_a_block_is_tried_again_only_where_it_may_be_over_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def fail_twice(stand: Stand, operation: Operation, scale: float) -> dict[str, float]:
        tried.append(operation.name)
        if len(tried) < 3:
            raise WrongResult("503 instead of 503 overloaded")
        return {FRONT: 1.0}

    monkeypatch.setattr(comparison, "_measure_once", fail_twice)
    overloaded = OPERATIONS["503 overloaded"]
    assert comparison.measure(cast(Stand, "a"), overloaded, 1.0) == {FRONT: 1.0}
    tried.clear()
    with pytest.raises(WrongResult):
        comparison.measure(cast(Stand, "a"), QUEUE, 1.0)
    assert tried == ["queue"]
    tried.clear()
    with pytest.raises(WrongResult):
        comparison.measure(cast(Stand, "a"), dataclasses.replace(overloaded, tries=2), 1.0)


def test_every_operation_of_a_journey_is_there_with_its_target() -> None:
    targets = {operation.name: operation.target for operation in ALL}
    assert len(targets) == len(ALL) == 22
    assert {name for name, target in targets.items() if target == 0.95} == {
        "availability",
        "join",
        "claim",
        "409 sold out",
        "403 not admitted",
        "403 waiting room required",
        "503 overloaded",
    }
    assert set(targets.values()) == {0.6, 0.95}


def test_an_answer_is_what_is_measured_or_nothing_is() -> None:
    refused = Answer(409, b"", b'{"type":"/problems/sold-out"}')
    assert check(refused, 409, "sold-out") is refused
    for status, problem in ((201, ""), (409, "duplicate-applicant")):
        with pytest.raises(WrongResult, match=f"409 instead of {status} {problem}"):
            check(refused, status, problem)


def test_requests_are_whole() -> None:
    head, _, body = send("/v1/x", {"name": "é"}, "token", key="k", method="PUT").partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /v1/x HTTP/1.1\r\n")
    assert {b"Authorization: Bearer token", b"Idempotency-Key: k"} <= set(head.split(b"\r\n"))
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert json.loads(body) == {"name": "é"}
    assert get("/v1/x").endswith(b"\r\n\r\n")


def test_refusals_a_second_are_those_of_the_middle_run() -> None:
    def facts(refused: int) -> dict[str, Any]:
        return {"outcomes": {"503 overloaded": refused, "201": 100}, "seconds": 10.0}

    refusals, places = comparison.overload_figures([facts(90), facts(200), facts(120)], [facts(100)])
    assert (refusals.value, refusals.met) == (1.2, True)
    assert (places.value, places.target) == (1.0, None)


async def test_an_overload_run_of_this_tree_writes_what_is_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @asynccontextmanager
    async def scene(*_: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(ground=None, check=AsyncMock(return_value=[]))

    outcomes = Outcomes(2.0, counts=Counter({OVERLOADED: 8, HELD: 3}))
    monkeypatch.setattr(overload, "open_scene", scene)
    monkeypatch.setattr(overload, "describe", AsyncMock(return_value={}))
    monkeypatch.setattr(overload, "overload", AsyncMock(return_value=SimpleNamespace(outcomes=outcomes)))
    monkeypatch.setattr(overload, "judge", lambda _: [])
    written = tmp_path / "overload.json"
    options = commands.parser_of("overload", "", seconds=2.0, slowed=True).parse_args(["--json", str(written)])
    assert await overload.run(Cores.split(), open_console(), options) == 0
    facts = json.loads(written.read_text())
    assert [figure.value for figure in comparison.overload_figures([facts], [facts])] == [1.0, 1.0]
    assert [figure.note for figure in comparison.overload_figures([facts], [facts])] == ["4 -> 4", "2 -> 2"]


@pytest.mark.parametrize("revision", ["no-such-revision", "--help", "HEAD:README.md", ""])
def test_an_unknown_revision_is_named(revision: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoRevision, match=f"^--against {revision}: "):
        commit_of(revision)
    assert main([f"--against={revision}"]) == 1
    assert f"--against {revision}: " in " ".join(capsys.readouterr().err.split())


def test_it_is_a_measurement_whatever_it_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def given(value: object) -> Iterator[object]:
        yield value

    monkeypatch.setattr(comparison, "commit_of", lambda revision: "f" * 40)
    monkeypatch.setattr(comparison, "checked_out", lambda revision, say: given(Build(revision, tmp_path)))
    monkeypatch.setattr(comparison, "started", lambda builds, cores: given(("a", "b")))
    monkeypatch.setattr(comparison, "measure", lambda *_: {FRONT: 1e-4, LEDGER: 0.0})
    written = tmp_path / "against.json"
    arguments = ["--against", "v1", "--operations", "queue", "--rounds", "1", "--json", str(written)]
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-m", "loadtest.bench", *arguments])
    assert main(arguments) == 0
    assert "not met" in capsys.readouterr().out
    facts = json.loads(written.read_text())
    assert facts["command"] == f"python -m loadtest.bench --against v1 --operations queue --rounds 1 --json {written}"
    assert facts["tables"][0]["title"] == "This tree against v1 (ffffffffff)"
    assert facts["figures"][0]["value"] == 1.0
    costs = {FRONT: 1e-4, LEDGER: 0.0}
    assert facts["rounds"] == {"queue": [{"base": costs, "other": costs, "drift": 0.0, "counts": True}]}
    columns = facts["tables"][0]["columns"]
    assert [dict(zip(columns, row, strict=True))["figure"] for row in facts["tables"][0]["rows"]] == ["queue"]


def test_what_was_measured_before_a_failure_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(result: Comparison, *_: object) -> None:
        result.pairs["queue"].append(pair(1e-4, 1e-4))
        raise WrongResult("the front closed the connection")

    monkeypatch.setattr(comparison, "_measure", measured)
    assert main(["--against", "HEAD"]) == 1
    shown = capsys.readouterr()
    assert "queue" in shown.out
    assert "the front closed the connection" in shown.err


def test_operations_are_named_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = read_arguments(["--against", "v1", "--operations", "claim, queue"]).operations
    assert chosen == {"queue", "claim"}
    assert read_arguments(["--against", "v1"]).operations is None
    with pytest.raises(SystemExit):
        read_arguments(["--against", "v1", "--operations", "sleep"])
    assert "sleep: is none of page of openings" in capsys.readouterr().err
