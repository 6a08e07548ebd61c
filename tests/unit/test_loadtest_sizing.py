"""What an opening asks of the machines is reckoned from what was measured."""

import json
import re
from pathlib import Path

import pytest

from loadtest.scale_out import recording
from loadtest.scale_out.experiments import ALL, Result
from loadtest.scale_out.idle import REST, WANTED, Idle, IdleResult
from loadtest.scale_out.measuring import Work
from loadtest.scale_out.recording import Recorded, RecordingResult
from loadtest.scale_out.report import markdown, sheets
from loadtest.scale_out.sizing import OPENINGS, Costs, Found, Served, rows

ROOT = Path(__file__).parents[2]
SIZING = ROOT / "loadtest" / "SIZING.md"
ENVIRONMENT = dict.fromkeys(
    ("date", "rounds", "claims", "quotas", "processor", "python", "store", "fsync_us", "load_before"), 0
) | {"load_after": 0}
WORK = Work(
    done=100,
    per_call=64,
    valkey_us=40,
    busiest_us=20,
    front_us=10,
    replica_us=0,
    follower_us=0,
    file_bytes=700,
    link_bytes=0,
    journal_bytes=400,
)
RECORDED = Recorded(done=100, recorder_us=30, postgres_us=50, valkey_us=5, log_bytes=500, row_bytes=1000)


@pytest.fixture
def results() -> list[Found]:
    measured: list[Found] = [
        Result(experiment=experiment, rounds=({case.name: WORK for case in experiment.cases},)) for experiment in ALL
    ]
    ways = dict.fromkeys((recording.HOLD, recording.LATER, recording.AT_ONCE), RECORDED)
    still = {
        REST: Idle(valkey_us=1000, valkey_more_us=200, follower_us=500),
        WANTED: Idle(valkey_us=1000, valkey_more_us=800, follower_us=2000),
    }
    return [*measured, RecordingResult(rounds=(ways,)), IdleResult(rounds=(still,))]


def test_each_line_is_reckoned_from_what_was_measured(results: list[Found]) -> None:
    costs = Costs.of(results, Served(claim_us=50, refusal_us=40, join_us=60, join_valkey_us=6, live_bytes=300))
    assert costs is not None
    lines: dict[str, list[str]] = {}
    for name, *values in rows(costs):
        lines.setdefault(name, values)  # of lines with the same name the first, which is that of the waiting room
    at = [opening.name for opening in OPENINGS].index("one program, the world")
    assert lines["- cores of primaries, 16 fronts"][at] == "0.0032"  # of 200 us a second
    assert lines["all sold out and still wanted: of each front's core"][at] == "0.002"  # of 2,000 us a second
    assert lines["joins a second, half of all in one minute"][at] == "25,000"  # of 3,000,000 people
    assert lines["- cores of primaries"][at] == "0.15"  # 25,000 of 6 us
    assert lines["claims a second that the marks admit"][at] == "100"
    assert lines["- cores of primaries, the same"][at] == "0.004"  # 100 of 40 us
    assert lines["- minutes until the last place is given"][at] == "17"  # 100,000 places, 6,000 a minute
    assert lines["no waiting room: claims a second, all in 10 s"][at] == "300,000"
    assert lines["- cores of primaries, 64 claims a call"][at] == "0.4"  # 100,000 of 40 us in 10 s
    assert lines["recording holds and confirmations: worker, core seconds"][at] == "6"  # 100,000 of 30 + 30 us
    assert lines["ledger memory, nothing recorded yet, MB"][at] == "70"  # 100,000 of 300 + 400 bytes


def test_a_run_that_lacks_something_reckons_nothing(results: list[Found]) -> None:
    assert Costs.of(results[:-1], Served()) is None
    assert Costs.of(results[1:], Served()) is None
    assert Costs.of([*results[:-2], results[-1]], Served()) is None
    assert "What an opening asks" not in markdown(sheets(results[:-1], None), ENVIRONMENT)


def test_the_tables_are_whole(results: list[Found]) -> None:
    printed = markdown(sheets(results, Costs.of(results, Served())), ENVIRONMENT)
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", printed, re.MULTILINE)]
    assert len(tables) == len(ALL) + 3
    for table in tables:
        assert len({line.count("|") for line in table}) == 1, table[0]


def test_the_page_has_each_table_that_is_measured(results: list[Found]) -> None:
    page = SIZING.read_text()
    for each in sheets(results, Costs.of(results, Served())):
        assert f"**{each.title}**" in page
        for name, *_ in each.rows:
            assert f"| {name} |" in page


def test_what_fronts_cost_is_read_from_the_benchmark(tmp_path: Path) -> None:
    def busy(front: int, valkey: int) -> dict[str, dict[str, int]]:
        return {"busy_us": {"front": front, "valkey": valkey}}

    few = {
        "connections": 64,
        "variants": {"ours": busy(54, 26)},
        "reads": {"sold_out": {"sold_out": busy(41, 0)}, "joins": {"bare": busy(1, 0), "joins": busy(45, 8)}},
    }
    file = tmp_path / "bench.json"
    file.write_text(json.dumps({"suites": [{"connections": 256, "variants": {}, "reads": {}}, few]}))
    assert Served.read(file) == Served(claim_us=54, refusal_us=41, join_us=45, join_valkey_us=8)
