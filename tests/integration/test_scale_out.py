"""The measurement of a cluster's work measures what it says, and judges its own ledgers. Never timings."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.scale_out.__main__ import NAMES
from loadtest.scale_out.cluster import LocalCluster, local_cluster
from loadtest.scale_out.experiments import ALL, Experiment
from loadtest.scale_out.offices import Office, WrongResult, confirmations, new_names
from reservasi.ledger.topology.cluster import SLOTS, slot_of
from reservasi.ledger.topology.servers import Servers
from reservasi.model import Outcome, Release

TIMEOUT_S = 110
PLACES = 20


def smoke(tmp_path: Path, *names: str) -> tuple[dict[str, Any], str]:
    """A little of these experiments: what was written, and what was printed."""
    written = tmp_path / "scale-out.json"
    arguments = ("--smoke", "--markdown", "--only", ",".join(names), "--json", str(written))
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.scale_out", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(written.read_text())["experiments"]
    assert tuple(found) == names
    return found, done.stdout


def test_nothing_is_left_out_here() -> None:
    assert NAMES == ("primaries", "batches", "replicas", "followers", "recording", "idle")


@pytest.mark.parametrize("experiment", ALL, ids=lambda experiment: experiment.name)
def test_every_case_is_measured_and_holds_what_was_answered(tmp_path: Path, experiment: Experiment) -> None:
    found, printed = smoke(tmp_path, experiment.name)
    cases = found[experiment.name]["cases"]
    assert list(cases) == [case.name for case in experiment.cases]
    assert f"**{experiment.title}**" in printed
    for case in experiment.cases:
        assert f"| {case.name} |" in printed
        (work,) = cases[case.name]["rounds"]
        assert work["done"] >= 50
        assert 1 <= work["per_call"] <= case.batch
        assert work["front_us"] > 0
        assert work["valkey_us"] >= work["busiest_us"] > 0
        assert (work["busiest_us"] < work["valkey_us"]) == (case.primaries > 1)
        assert (work["replica_us"] > 0, work["link_bytes"] > 0) == (case.replicas > 0,) * 2
        assert (work["follower_us"] > 0) == (case.followers > 0)
        assert min(work["file_bytes"], work["journal_bytes"]) > 0


def test_recording_is_measured_and_so_are_idle_fronts(tmp_path: Path) -> None:
    found, printed = smoke(tmp_path, "recording", "idle")
    (recorded,) = found["recording"]["rounds"]
    assert len(recorded) == 3
    for way, work in recorded.items():
        assert f"| {way} |" in printed
        assert work["done"] == 300
        assert min(work["recorder_us"], work["postgres_us"], work["valkey_us"], work["log_bytes"]) > 0
    (still,) = found["idle"]["rounds"]
    assert still["at rest"]["follower_us"] < still["sold out and still wanted"]["follower_us"]
    for way, idle in still.items():
        assert f"| {way} |" in printed
        assert min(idle["valkey_us"], idle["follower_us"]) > 0


def test_programs_lie_on_the_primaries_in_turn() -> None:
    names = new_names(3)
    found = [slot_of(next(names)) * 3 // SLOTS for _ in range(9)]
    assert found == [0, 1, 2] * 3


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    async with local_cluster(1, replicas=0) as running:
        yield running


@pytest.fixture
async def office(cluster: LocalCluster) -> AsyncIterator[Office]:
    servers = Servers(cluster.url)
    opened = Office(servers, next(new_names(1)), quotas=5, batch=8)
    try:
        await opened.open(PLACES)
        yield opened
    finally:
        await opened.close()
        await servers.close()


async def test_a_ledger_that_kept_everything_passes(office: Office) -> None:
    claims = office.claims(PLACES)
    assert await office.carry_out(claims, in_flight=16) == {Outcome.HELD: PLACES}
    await office.check(claims, confirmed=False)
    assert await office.carry_out(confirmations(claims), in_flight=16) == {Outcome.CONFIRMED: PLACES}
    await office.check(claims, confirmed=True)


async def test_a_place_that_is_free_again_shows(office: Office) -> None:
    claims = office.claims(PLACES)
    await office.carry_out(claims, in_flight=16)
    await office.carry_out([Release(reservation_id=claims[3].reservation_id)], in_flight=1)
    with pytest.raises(WrongResult, match="held"):  # one who came late got it
        await office.check(claims, confirmed=False)


async def test_a_place_that_was_answered_and_is_gone_shows(office: Office) -> None:
    claims = office.claims(PLACES)
    await office.carry_out(claims, in_flight=16)
    with pytest.raises(WrongResult, match="21 answered, 20 kept"):
        await office.check([*claims, *office.claims(1)], confirmed=False)


async def test_an_answer_that_was_not_expected_shows(office: Office) -> None:
    told = await office.carry_out(office.claims(PLACES + 5), in_flight=16)
    with pytest.raises(WrongResult, match="sold_out"):
        office.expect_all(told, Outcome.HELD, PLACES + 5)
