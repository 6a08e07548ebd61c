"""The measurement of a cluster's work measures what it says, and judges its own ledgers. Never timings."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench.experiments.scale_out import BASE, CASES, COLUMNS, GROUPS, IDLE, Found, new_names
from loadtest.bench.figures import WrongResult
from loadtest.bench.own_ledger import OwnLedger, confirmations, own_ledger
from loadtest.stage.cluster import LocalCluster, local_cluster
from reservasi.ledger.topology.cluster import SLOTS, slot_of
from reservasi.model import Outcome, Release

TIMEOUT_S = 110
PLACES = 20
WORK = {**dict.fromkeys(COLUMNS, 40.0), "replica_us": 0.0}


def smoke(tmp_path: Path, group: str) -> tuple[dict[str, Any], str]:
    """A little of these cases: what was written, and what was printed."""
    written = tmp_path / "scale-out.json"
    arguments = ("--smoke", "--only", group, "--json", str(written))
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench.experiments.scale_out", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(written.read_text())
    assert "--smoke" in report["command"]
    return report, done.stdout


def test_nothing_is_left_out_here() -> None:
    assert GROUPS == ("primaries", "batches", "replicas", "followers", "idle")
    assert {case.group for case in CASES} == {"base", *GROUPS}


@pytest.mark.parametrize("group", [group for group in GROUPS if group != IDLE])
def test_every_case_is_measured_and_holds_what_was_answered(tmp_path: Path, group: str) -> None:
    report, printed = smoke(tmp_path, group)
    (works,) = report["rounds"]
    cases = [case for case in CASES if case.group in ("base", group)]
    assert set(works) == {case.name for case in cases}
    for case in cases:
        assert f" {case.name} " in printed
        work = works[case.name]
        assert work["done"] >= 50
        assert 1 <= work["per_call"] <= case.batch
        assert work["front_us"] > 0
        assert work["valkey_us"] >= work["busiest_us"] > 0
        assert (work["busiest_us"] < work["valkey_us"]) == (case.primaries > 1)
        assert (work["replica_us"] > 0, work["link_bytes"] > 0) == (case.replicas > 0,) * 2
        assert (work["follower_us"] > 0) == (case.followers > 0)
        assert min(work["file_bytes"], work["journal_bytes"]) > 0


def test_idle_fronts_are_measured(tmp_path: Path) -> None:
    report, printed = smoke(tmp_path, "idle")
    (works,) = report["rounds"]
    assert all(f" {name} " in printed for name in works)
    assert works.keys() == {"at rest", "sold out and still asked for"}
    assert 0 < works["at rest"]["follower_us"] < works["sold out and still asked for"]["follower_us"]


def test_figures_are_medians_and_ratios_are_those_of_one_round() -> None:
    works = dict.fromkeys((case.name for case in CASES), WORK)
    slower = {name: {**WORK, "valkey_us": 80.0} for name in works}
    compared, at_rest = Found([works, {**slower, BASE.name: WORK}, slower]).tables()
    for table in (compared, at_rest):
        assert {len(row) for row in table.rows} == {len(table.columns)}
    row = dict(zip(compared.columns, next(row for row in compared.rows if row[0] == "2 primaries"), strict=True))
    assert (row["Valkey"], row["file"], row["replica"]) == ("80.0", "40", "-")
    assert (row["of base"], row["min-max"]) == ("1.00", "1.00-2.00")
    assert at_rest.rows[0] == ("at rest", "80.0", "40.0")


def test_what_was_not_measured_has_no_table() -> None:
    assert [len(table.rows) for table in Found([{BASE.name: WORK}]).tables()] == [1]
    assert [len(table.rows) for table in Found([{"at rest": WORK}]).tables()] == [1]
    assert Found().tables() == []


def test_programs_lie_on_the_primaries_in_turn() -> None:
    names = new_names(3)
    primaries = [slot_of(next(names)) * 3 // SLOTS for _ in range(9)]
    assert primaries == [0, 1, 2] * 3


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    async with local_cluster(1, replicas=0) as running:
        yield running


@pytest.fixture
async def ledger(cluster: LocalCluster) -> AsyncIterator[OwnLedger]:
    async with own_ledger(cluster.url, next(new_names(1)), quotas=5, capacity=PLACES // 5, batch=8) as ledger:
        yield ledger


async def test_a_ledger_that_kept_everything_passes(ledger: OwnLedger) -> None:
    claims = ledger.claims(PLACES)
    await ledger.submit(claims, Outcome.HELD, in_flight=16)
    await ledger.check(claims, confirmed=False)
    await ledger.submit(confirmations(claims), Outcome.CONFIRMED, in_flight=16)
    await ledger.check(claims, confirmed=True)


async def test_a_place_that_is_free_again_shows(ledger: OwnLedger) -> None:
    claims = ledger.claims(PLACES)
    await ledger.submit(claims, Outcome.HELD, in_flight=16)
    await ledger.submit([Release(reservation_id=claims[3].reservation_id)], Outcome.RELEASED, in_flight=1)
    with pytest.raises(WrongResult, match="held"):  # one who came late got it
        await ledger.check(claims, confirmed=False)


async def test_a_place_that_was_answered_and_is_gone_shows(ledger: OwnLedger) -> None:
    claims = ledger.claims(PLACES)
    await ledger.submit(claims, Outcome.HELD, in_flight=16)
    with pytest.raises(WrongResult, match="21 answered, 20 kept"):
        await ledger.check([*claims, *ledger.claims(1)], confirmed=False)


async def test_an_answer_that_was_not_expected_shows(ledger: OwnLedger) -> None:
    with pytest.raises(WrongResult, match="sold_out"):
        await ledger.submit(ledger.claims(PLACES + 5), Outcome.HELD, in_flight=16)
