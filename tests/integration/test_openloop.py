"""The open loop keeps to its timetable, counts every request once, and hides no wait. Never the service's timings."""

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loadtest.openloop.client import OpenLoop, poisson
from loadtest.openloop.outcomes import HELD, NONE, OVERLOADED, Outcomes, outcome_of
from loadtest.stage.shims import can_build

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
TIMEOUT_S = 110

Answer = Callable[[int], bytes]


def answer(status: int, body: bytes = b"{}", *lines: str) -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status} X", *lines, f"Content-Length: {len(body)}"))
    return head.encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def server(answer_to: Answer, pause_s: float = 0.0) -> AsyncIterator[int]:
    """Answers the n-th request (from 0) with those bytes, or hangs up when there are none; its port."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                number, count = count, count + 1
                await asyncio.sleep(pause_s)
                content = answer_to(number)
                if not content:
                    break
                writer.write(content)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def offered(
    port: int, arrivals: list[float], *, connections_max: int = 10, seconds: float = 1.0, patience_s: float = 30.0
) -> Outcomes:
    load = OpenLoop(port, [REQUEST] * len(arrivals), arrivals, seconds, connections_max=connections_max)
    return await load.run(patience_s)


def test_a_timetable_is_drawn_beforehand() -> None:
    drawn = poisson(1000, 10, seed=1)
    assert drawn == poisson(1000.0, 10.0, seed=1) != poisson(1000, 10, seed=2)
    assert list(drawn) == sorted(drawn)
    assert 0 < drawn[0] <= drawn[-1] < 10
    assert 9500 < len(drawn) < 10_500  # five standard deviations
    gaps = [after - before for before, after in itertools.pairwise(drawn)]
    longer = sum(gap > 0.001 for gap in gaps) / len(gaps)
    assert 0.34 < longer < 0.40  # exponential: 1/e of the gaps are longer than the mean
    with pytest.raises(ValueError, match="above zero"):
        poisson(0, 10)


def test_answers_are_named_by_status_and_problem() -> None:
    assert outcome_of(201, b"") == HELD
    assert outcome_of(503, b'{"type":"/problems/overloaded","status":503}') == OVERLOADED
    assert outcome_of(503, b'{"type":"/problems/recovering"}') == "503 recovering"
    assert outcome_of(503, b"") == "503 without a type"


async def test_who_waits_for_a_slow_service_is_counted_from_the_intended_moment() -> None:
    """All are meant for the same moment, one goes at a time: the n-th has waited for all before."""
    pause_s, people = 0.02, 20
    async with server(lambda _: answer(201), pause_s) as port:
        outcomes = await offered(port, [0.0] * people, connections_max=1)
    assert outcomes.counts == {HELD: people}
    assert outcomes.connections == 1
    latency = outcomes.latency_ms(HELD)
    assert latency["max"] >= people * pause_s * 1000 * 0.99
    assert latency["p50"] >= people / 2 * pause_s * 1000 * 0.99


async def test_every_request_is_counted_once_by_what_it_met() -> None:
    overloaded = b'{"type":"/problems/overloaded"}'
    turns = (
        answer(201),
        answer(409),
        answer(503, overloaded, "Retry-After: 2"),
        answer(503, overloaded),
        answer(429, b"{}", "Connection: close"),
        b"",
    )
    async with server(lambda number: turns[number % len(turns)]) as port:
        outcomes = await offered(port, [number / 1000 for number in range(60)], connections_max=5)
    assert outcomes.counts.total() == outcomes.offered == 60
    assert outcomes.counts == {HELD: 10, "409": 10, OVERLOADED: 20, "429": 10, NONE: 10}
    assert outcomes.hasty == 20  # half of the 503, and the 429


async def test_nobody_is_forgotten_when_nothing_answers() -> None:
    async with server(lambda _: b"HTTP/1.1 201 but never whole") as port:
        outcomes = await offered(port, [0.0] * 7, connections_max=3, patience_s=0.2)
    assert outcomes.counts == {NONE: 7}


async def test_nobody_is_forgotten_when_nobody_listens() -> None:
    async with server(lambda _: b"") as port:
        pass
    outcomes = await offered(port, [0.0] * 7, patience_s=0.5)
    assert outcomes.counts == {NONE: 7}
    assert outcomes.goodput == 0


def test_only_what_came_in_time_is_goodput() -> None:
    outcomes = Outcomes(seconds=2.0, offered=3)
    outcomes.count(HELD, 0.1, in_time=True)
    outcomes.count(HELD, 0.1, in_time=True)
    outcomes.count(HELD, 3.0, in_time=False)
    assert outcomes.goodput == 1.0
    assert outcomes.latency_ms(OVERLOADED) == {}


@pytest.mark.skipif(not can_build(), reason="no compiler to slow the disk with")
def test_a_curve_is_measured_drawn_and_checked(tmp_path: Path) -> None:
    svg, written = tmp_path / "latency.svg", tmp_path / "latency.json"
    options = ("--seconds", "0.5", "--loads", "50,300", "--svg", str(svg), "--json", str(written))
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.openloop", *options],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout
    assert "slowed on purpose" in done.stdout
    assert svg.read_text().lstrip().startswith("<?xml")
    (table,) = json.loads(written.read_text())["tables"]
    points = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert [point["load %"] for point in points] == ["50", "300"]
    for point in points:
        assert point["others"] == "0"  # neither held nor refused as overloaded
        assert float(point["goodput/s"].replace(",", "")) > 0
