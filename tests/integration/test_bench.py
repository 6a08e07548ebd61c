"""The benchmark measures what it says: every variant runs, every claim counts, refusals are told apart. Never timings."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console
from stdnum.id import nik as stdnum_nik

from loadtest.bench.claims import PEOPLE_MAX, person, requests
from loadtest.bench.client import UnreadableAnswer, run_load
from loadtest.bench.report import show, summarise
from loadtest.bench.rounds import Measured, Round
from loadtest.bench.variants import COMPARED

TIMEOUT_S = 120
QUOTAS = ("p.o.s.20261201.0800.online", "p.o.s.20261201.0900.online")


def test_all_variants_run_and_hold_what_they_answered(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench", "--smoke", "--json", str(written)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads(written.read_text())
    assert set(run["variants"]) == {"bare", "ours", "evalsha"}
    for name, medians in run["variants"].items():
        assert medians["refused"] == 0, name
        assert medians["claims_per_s"] > 0, name
        assert name in done.stdout
    assert [measured["claimed"] for measured in run["rounds"][0]["compared"].values()] == [200, 200]
    assert run["environment"]["synced_always"] is True
    assert run["environment"]["executable"] == sys.executable


def test_people_are_valid_and_distinct() -> None:
    numbers = [*range(30_000), PEOPLE_MAX - 1]
    niks = {person(number)[0] for number in numbers}
    assert len(niks) == len(numbers)
    assert all(stdnum_nik.is_valid(nik) for nik in niks)
    with pytest.raises(ValueError, match="none of them"):
        person(PEOPLE_MAX)


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


def measured(claims_per_s: float, front_us: float = 20.0, variant: str = "v") -> Measured:
    return Measured(
        variant=variant,
        claimed=1,
        refused=0,
        claims_per_s=claims_per_s,
        p50_ms=1,
        p99_ms=1,
        front_share=1,
        busy_us={"front": front_us},
    )


@pytest.mark.parametrize(("after", "counts"), [(1000, True), (910, True), (1100, True), (890, False), (1120, False)])
def test_a_round_counts_only_on_firm_ground(after: float, counts: bool) -> None:
    done = Round(before=measured(1000), compared={"v": measured(500)}, after=measured(after))
    assert done.counts is counts
    assert done.ratio("v") == pytest.approx(500 / ((1000 + after) / 2))


@pytest.mark.parametrize(("bare_us", "front_us", "ratio"), [(20.0, 80.0, 0.25), (0.0, 80.0, None), (20.0, 0.0, None)])
def test_processor_time_below_a_tick_gives_no_ratio(bare_us: float, front_us: float, ratio: float | None) -> None:
    compared = {kind.name: measured(500, front_us, kind.name) for kind in COMPARED}
    done = Round(before=measured(1000, bare_us), compared=compared, after=measured(1000, bare_us))
    environment = {
        "python": "",
        "executable": "",
        "compiler": "",
        "packages": {"aiohttp": ""},
        "store": "",
        "fsync_us": 1.0,
        "cores": 2,
        "processor": "",
    }
    assert {summarise([done])[kind.name]["ratio_by_processor"] for kind in COMPARED} == {ratio}
    show(Console(quiet=True), [done], environment)
