"""The benchmark measures what it says: every variant runs, every claim counts, refusals are told apart. Never timings."""

import asyncio
import gc
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from loadtest.bench.__main__ import SECTIONS, SMOKE, plans_of, read_arguments
from loadtest.bench.answers import AVAILABILITY, JOINS, SOLD_OUT, check_count
from loadtest.bench.claims import requests
from loadtest.bench.client import run_load
from loadtest.bench.figures import Figure, Measured, Pair, WrongResult, firm, ratio
from loadtest.bench.measuring import JUDGED, ONE_FRONT, bracketed
from loadtest.bench.report import Run, Suite, summarise
from loadtest.bench.variants import COMPARED, Ours
from loadtest.bench.variants.plpgsql_batches import FUNCTION, Batches, create, held, session
from loadtest.bench.variants.variant import Claim, Verdict
from loadtest.stage.environment import ROOT
from loadtest.stage.http import UnreadableAnswer

TIMEOUT_S = 240
QUOTAS = ("p.o.s.20261201.0800.online", "p.o.s.20261201.0900.online")


def test_all_variants_run_and_hold_what_they_answered(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench", "--smoke", "--only", "claims,answers", "--json", str(written)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads(written.read_text())
    names = ["bare", "ours", "ours_recorded", "evalsha", "pipelined", "pipelined_recorded", "plpgsql_batches"]
    assert [suite["connections"] for suite in run["suites"]] == [SMOKE.connections]
    for suite in run["suites"]:
        assert f"{suite['connections']} connections" in done.stdout
        assert list(suite["variants"]) == names
        for name, medians in suite["variants"].items():
            assert medians["claims_per_s"] > 0, name
            assert medians["max_ms"] >= medians["p99_ms"] >= medians["p50_ms"] > 0, name
            assert name in done.stdout
        assert {name: [pair["other"]["claimed"] for pair in pairs] for name, pairs in suite["rounds"].items()} == {
            name: [200] for name in names[1:]
        }
        for name in (AVAILABILITY, SOLD_OUT, JOINS):
            (answered,) = suite["answer_rounds"][name]
            assert answered["other"]["claimed"] == 200
        assert {"name", "value", "target", "met"} <= suite["targets"][0].keys()
        judged = {row["name"] for row in suite["targets"]}
        assert {"ours/bare", "ours/evalsha", "sold_out/bare", "joins/bare"} <= judged
    assert run["experiments"] == {}
    assert run["environment"]["synced_always"] is True
    assert (ROOT / run["environment"]["executable"]).samefile(sys.executable)


def test_only_what_is_named_is_measured() -> None:
    assert read_arguments(["--only", "claims,growth"]).only == {"claims", "growth"}
    assert read_arguments([]).only == {"claims", "answers", "fronts", "memory", "growth"} == set(SECTIONS)
    with pytest.raises(SystemExit):
        read_arguments(["--only", "nonsense"])


def test_everything_is_measured_with_each_number_of_connections() -> None:
    assert [plan.connections for plan in plans_of(read_arguments([]))] == [64, 256]
    assert [plan.connections for plan in plans_of(read_arguments(["--connections", "100,1"]))] == [100, 1]
    for nonsense in ("", "0", "64,64", "257", "64;256"):
        with pytest.raises(SystemExit):
            read_arguments(["--connections", nonsense])


def test_requests_spread_over_the_quotas() -> None:
    built = requests(10, 100, QUOTAS)
    assert [sum(quota.encode() in request for request in built) for quota in QUOTAS] == [50, 50]
    assert len(set(built)) == 100


@pytest.fixture
async def refusing_server() -> AsyncIterator[TestServer]:
    """Refuses every second claim, and closes the connection where it is asked to."""
    count = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        await request.read()
        return web.Response(status=409 if count % 2 else 201, text="x" * 300)

    async def close(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/reservations", answer)
    app.router.add_post("/close", close)
    server = TestServer(app)
    await server.start_server()
    yield server
    await server.close()


async def test_refusals_are_no_successes(refusing_server: TestServer) -> None:
    assert refusing_server.port is not None
    load = await run_load(refusing_server.port, requests(0, 100, QUOTAS), connections=7, timeout_s=TIMEOUT_S)
    assert (load.claimed, load.refused) == (50, 50)
    assert len(load.latencies_s) == 100


async def test_a_lost_connection_ends_the_measurement(refusing_server: TestServer) -> None:
    assert refusing_server.port is not None
    closing = [b"POST /close HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"]
    with pytest.raises(UnreadableAnswer):
        await run_load(refusing_server.port, closing, connections=1, timeout_s=TIMEOUT_S)
    assert gc.get_freeze_count() == 0


async def test_the_generators_own_collector_is_not_measured() -> None:
    looks_at_all: set[bool] = set()

    async def answer(_request: web.Request) -> web.Response:
        looks_at_all.add(gc.get_freeze_count() == 0)  # which counts them, one by one
        return web.Response(status=201)

    app = web.Application()
    app.router.add_post("/v1/reservations", answer)
    async with TestServer(app) as server:
        assert server.port is not None
        await run_load(server.port, requests(0, 3, QUOTAS), connections=1, timeout_s=TIMEOUT_S)
    assert looks_at_all == {False}
    assert gc.get_freeze_count() == 0


async def test_other_statuses_may_be_wanted(refusing_server: TestServer) -> None:
    assert refusing_server.port is not None
    load = await run_load(refusing_server.port, requests(0, 10, QUOTAS), connections=1, timeout_s=TIMEOUT_S, wanted=409)
    assert (load.claimed, load.refused, len(load.answer_bytes)) == (5, 5, 1)


@pytest.mark.parametrize(("counted", "joined"), [(0, 0), (8, 8), (9999, 10_000), (999_900, 1_000_000)])
def test_a_count_of_people_may_lack_one_in_ten_thousand(counted: int, joined: int) -> None:
    check_count(counted, joined)


@pytest.mark.parametrize(("counted", "joined"), [(0, 8), (9, 8), (9998, 10_000), (10_001, 10_000)])
def test_a_count_of_other_people_is_a_wrong_result(counted: int, joined: int) -> None:
    with pytest.raises(WrongResult, match=f"{joined} people joined"):
        check_count(counted, joined)


def claim(number: int, person: int | None = None, quota: str = "q") -> Claim:
    return Claim(f"r{number}", quota, f"p{number if person is None else person}", "f")


async def test_batches_decide_every_claim_once(database: str) -> None:
    await create(database, "s", {"q": 3, "other": 1}, statements=[FUNCTION])
    batches = Batches(await asyncpg.connect(database, server_settings=session("s")))
    claims = [
        *(claim(0), claim(0), claim(1), claim(9, person=1), claim(2, quota="other"), claim(3, quota="other")),
        *(claim(4, quota="none"), claim(5), claim(6)),
    ]
    verdicts = await asyncio.gather(*map(batches.decide, claims))
    again = await batches.decide(claim(0))
    await batches.close()
    outcomes = [verdict.outcome for verdict in verdicts]
    assert outcomes == [
        *("held", "exists", "held", "duplicate_applicant", "held", "sold_out"),
        *("unknown_quota", "held", "sold_out"),
    ]
    assert again == verdicts[1] == Verdict("exists", verdicts[0].deadline_ms)
    assert await held(database, "s") == 4


def measured(claims_per_s: float, front_us: float = 20.0) -> Measured:
    figures = dict.fromkeys(("claimed", "p50_ms", "p99_ms", "max_ms", "front_share"), 1.0)
    return {**figures, "claims_per_s": claims_per_s, "front_us": front_us, "valkey_us": front_us / 2}


def pair(claims_per_s: float, front_us: float = 20.0, bare_us: float = 20.0) -> Pair:
    return Pair(measured(1000, bare_us), measured(claims_per_s, front_us))


@pytest.mark.parametrize(("after", "counts"), [(1000, True), (910, True), (1100, True), (890, False), (1120, False)])
def test_a_measure_counts_only_on_firm_ground(after: float, counts: bool) -> None:
    one = bracketed(measured(1000), measured(500), measured(after))
    assert one.counts is counts
    assert one.ratio("claims_per_s") == pytest.approx(500 / ((1000 + after) / 2))
    assert firm([one]) == [one]
    assert firm([one, pair(500)]) == ([one, pair(500)] if counts else [pair(500)])


def test_ratios_are_taken_pair_by_pair() -> None:
    pairs = [
        Pair({"a": 1, "b": 1}, {"a": 2, "b": 0}),
        Pair({"a": 10, "b": 10}, {"a": 10, "b": 30}),
        Pair({"a": 1}, {"a": 9}),
    ]
    assert ratio(pairs, "a") == 2
    assert ratio(pairs[:2], "a", "b") == 1.5


def test_shaky_measures_are_left_out_where_there_are_others() -> None:
    shaky = bracketed(measured(1000), measured(900), measured(500))
    rounds = {"v": [shaky, pair(300)]}
    assert summarise(rounds)["v"]["ratio"] == pytest.approx(0.3)
    assert summarise({"v": [shaky]})["v"]["ratio"] == pytest.approx(900 / 750)
    assert [figure.value for figure in Suite(ONE_FRONT, 64, {"ours": [shaky, pair(300)]}).figures] == [0.3]


@pytest.mark.parametrize(("bare_us", "front_us", "by_cpu"), [(20.0, 80.0, 0.25), (0.0, 80.0, None), (20.0, 0.0, None)])
def test_processor_time_below_a_tick_gives_no_ratio(bare_us: float, front_us: float, by_cpu: float | None) -> None:
    summary = summarise({kind.name: [pair(500, front_us, bare_us)] for kind in COMPARED})
    assert {summary[kind.name]["ratio_by_processor"] for kind in COMPARED} == {by_cpu}
    assert summary["bare"]["ratio_by_processor"] == (1 if bare_us else None)


def test_every_figure_is_held_against_its_target() -> None:
    rates = {"ours": 800, "evalsha": 400, "pipelined": 700, "plpgsql_batches": 640}
    claims = {name: [pair(rate, 20 if name == "ours" else 50)] for name, rate in rates.items()}
    answers = {name: [pair(850, 40)] for name in (SOLD_OUT, JOINS)}
    suite = Suite(ONE_FRONT, 64, claims, answers)
    assert {figure.name: (round(figure.value, 3), figure.met) for figure in suite.figures} == {
        "ours/bare": (0.8, True),
        "ours/evalsha": (2.0, False),
        "ours/pipelined": (1.143, None),
        "ours/plpgsql_batches": (1.25, None),
        "valkey cpu ours/evalsha": (0.4, True),
        "valkey cpu ours/pipelined": (0.4, True),
        "sold_out/bare": (0.85, False),
        "joins/bare": (0.85, True),
        "joins/bare by cpu": (0.5, False),
    }
    assert Suite(ONE_FRONT, 64).figures == []


def test_several_fronts_on_a_slow_disk_are_held_against_the_rivals_that_record() -> None:
    rates = {"ours": 800, "ours_recorded": 600, "pipelined": 700, "pipelined_recorded": 500, "plpgsql_batches": 640}
    suite = Suite(JUDGED, 256, {name: [pair(rate)] for name, rate in rates.items()})
    assert {figure.name: figure.met for figure in suite.figures} == {
        "ours/pipelined": None,
        "ours/plpgsql_batches": None,
        "ours_recorded/pipelined_recorded": True,
        "ours_recorded/plpgsql_batches": False,
    }


def test_a_run_is_shown_with_its_experiments() -> None:
    figure = Figure(
        name="bytes", title="of memory", value=250.5, unit="B", target=300, sense="at most", note="nota bene"
    )
    claims = {kind.name: [pair(500)] for kind in COMPARED}
    run = Run(suites=[Suite(ONE_FRONT, 64, claims)], experiments={"Memory": [figure]})
    console = Console(record=True, quiet=False, file=io.StringIO(), width=200)
    for table in run.tables():
        table.show(console)
    shown = console.export_text()
    assert "250.50 B" in shown
    assert "at most 300 B" in shown
    assert "not met" in shown  # ours is half of bare
    assert Ours.title in shown
    row = run.as_json()["experiments"]["Memory"][0]
    assert (row["name"], row["value"], row["target"], row["met"]) == ("bytes", 250.5, 300, True)


async def test_rows_and_counts_that_disagree_are_a_wrong_result(database: str) -> None:
    await create(database, "s", {"q": 3})
    assert await held(database, "s") == 0
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE s.quotas SET remaining = 2")
    await connection.close()
    with pytest.raises(WrongResult, match="1 places are taken, and there are 0 rows"):
        await held(database, "s")
