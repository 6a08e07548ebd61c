"""A front without processor time refuses new claims unread, with the usual problem, and serves everything else."""

import json
from typing import Any

import pytest

from reservasi.front.http.shedding import Turns
from reservasi.ledger.group_commit import GroupCommit
from reservasi.metrics import SHED
from tests.acceptance.lines import Line, comparable, connect, request

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every claim comes too late in its turn, until this is undone."""
    monkeypatch.setattr(Turns, "checks", True)
    monkeypatch.setattr(Turns, "refuses", lambda _: True)
    return monkeypatch


def shed() -> float:
    """How many were refused unread so far."""
    return next(
        sample.value for metric in SHED.collect() for sample in metric.samples if sample.name.endswith("_total")
    )


async def sent(line: Line, data: bytes) -> tuple[str, dict[str, str], bytes]:
    line.writer.write(data)
    return await line.answer()


@pytest.mark.parametrize("language", ["id", "en"])
async def test_the_refusal_is_the_one_that_the_long_way_gives(
    stack: Any, no_time: pytest.MonkeyPatch, language: str
) -> None:
    line = await connect(stack.url)
    claim = request(stack, stack.body(await stack.quota()), "shed-" + language * 8, f"Accept-Language: {language}")
    before = shed()
    unread = await sent(line, claim)
    assert shed() == before + 1
    assert unread[0] == "HTTP/1.1 503 Service Unavailable"
    assert 1 <= int(unread[1]["Retry-After"]) <= 5

    no_time.undo()
    no_time.setattr(GroupCommit, "admits_claims", property(lambda _: False))
    assert comparable(await sent(line, claim)) == comparable(unread)
    no_time.undo()
    status, _, body = await sent(line, claim)  # the same connection, the same key
    assert (status, json.loads(body)["status"]) == ("HTTP/1.1 201 Created", "held")
    line.writer.close()


@pytest.mark.usefixtures("no_time")
async def test_whoever_holds_a_place_and_staff_are_served(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = await stack.quota()
    with monkeypatch.context() as calm:
        calm.setattr(Turns, "refuses", lambda _: False)
        held = await stack.held(quota)
    (await stack.claim(stack.body(quota))).is_problem("overloaded", 503)
    assert (await stack.managed("POST", held, "/confirm")).status in (200, 202)
    assert (await stack.managed("GET", held)).status == 200
    assert (await stack.managed("POST", held, "/cancel")).status in (200, 202)
    assert (await stack.request("GET", f"/v1/availability?program={stack.program}")).status == 200
    assert (await stack.staff("GET", f"/v1/staff/quotas?program={stack.program}")).status == 200


async def test_claims_in_one_piece_are_each_answered_once_and_in_order(stack: Any, no_time: pytest.MonkeyPatch) -> None:
    line = await connect(stack.url)
    quota = await stack.quota()
    first, second = (request(stack, stack.body(quota), f"in-one-piece-{number}") for number in (1, 2))
    line.writer.write(first + second)
    answers = [await line.answer() for _ in range(2)]
    assert [status for status, _, _ in answers] == ["HTTP/1.1 503 Service Unavailable"] * 2
    no_time.undo()
    line.writer.write(first + second)
    assert [(await line.answer())[0] for _ in range(2)] == ["HTTP/1.1 201 Created"] * 2
    line.writer.close()


@pytest.mark.usefixtures("no_time")
async def test_a_claim_that_comes_in_parts_is_refused_once_it_is_whole(stack: Any) -> None:
    line = await connect(stack.url)
    claim = request(stack, stack.body(await stack.quota()), "in-two-parts")
    line.writer.write(claim[:-20])
    await line.writer.drain()
    before = shed()
    assert (await stack.request("GET", "/v1/openings")).status == 200  # the first part has been read
    assert shed() == before
    assert (await sent(line, claim[-20:]))[0] == "HTTP/1.1 503 Service Unavailable"
    line.writer.close()
