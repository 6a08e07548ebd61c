"""Both transports give the same answers to every operation, page and problem, sent in two forms."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.web_protocol import RequestHandler

from reservasi.bootstrap.fronts import open_front
from reservasi.front.api.declarations import COMMON_PROBLEMS
from reservasi.front.api.operations import OPERATIONS
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.front.pages import PAGES, REDIRECTS
from tests.acceptance.two_ways import WAYS, Answer, Case, comparable, exchange
from tests.acceptance.two_ways_cases import shared_cases
from tests.acceptance.two_ways_order import order_cases
from tests.acceptance.two_ways_refusals import refusal_cases
from tests.acceptance.two_ways_requests import SUCCEEDING
from tests.acceptance.two_ways_world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")
CASES = {case.name: case for case in (*shared_cases(), *refusal_cases(), *order_cases())}
NOT_MADE = {
    **{
        (operation, "internal-error"): "nothing in it can fail but the encoding of a constant"
        for operation in ("describeApi", "describeProblem")
    },
}
STREAMS = ("streamAvailability", "streamQueue")  # which aiohttp carries whatever their form
SLOW_PER_S = 0.001  # so slow that nothing comes back while a test runs
TRIES = 3  # on a busy machine a view may be too old for an answer from memory, and a request meet the turn of a second
PERSON = {"rate_person_per_s": SLOW_PER_S, "rate_person_burst": 1}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(stack: Any, listening: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The service, and beside its usual front one that limits networks, one that does not reach the
    ledger and one that waits briefly for requests."""
    nobody = tmp_path_factory.mktemp("two-ways") / "nobody.sock"
    changes: dict[str, dict[str, Any]] = {
        "limited": {"rate_network_per_s": SLOW_PER_S, "rate_network_burst": 1, **PERSON},
        "early": {"redis_url": f"unix://{nobody}", "command_timeout_ms": 200},
        "hasty": {"head_timeout_ms": 500},
    }
    instance = World(stack)
    instance.urls["usual"] = stack.url
    async with contextlib.AsyncExitStack() as opened:
        for name, change in changes.items():
            settings = stack.front.settings.model_copy(update=change)
            front = await opened.enter_async_context(open_front(settings))
            instance.urls[name] = await opened.enter_async_context(listening(front))
        yield instance


def declared() -> set[tuple[str, str]]:
    """Every operation with every problem and every success, and every page with its status."""
    pairs = {(each.id, kind.name) for each in OPERATIONS for kind in (*each.problems, *COMMON_PROBLEMS)}
    pairs |= {(each.id, str(status)) for each in OPERATIONS for status in each.successes}
    pairs |= {(page.path, "200") for page in PAGES} | {(each.path, "Location") for each in REDIRECTS}
    return pairs | {("any", name) for name in PROBLEM_TYPES.keys() - {outcome for _, outcome in pairs}}


async def test_every_operation_every_problem_and_every_page_has_a_case() -> None:
    covered = {(case.operation, case.outcome) for case in CASES.values()}
    assert declared() - covered == NOT_MADE.keys()


@pytest.mark.parametrize("name", CASES)
async def test_both_ways_answer_alike(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    case = CASES[name]
    for _ in range(TRIES):
        plain, doubted = await answers(world, case, monkeypatch)
        if outcome(plain) == case.outcome and comparable(plain, case) == comparable(doubted, case):
            return
    assert outcome(plain) == case.outcome, plain
    assert comparable(plain, case) == comparable(doubted, case)


@pytest.mark.parametrize("operation", SUCCEEDING)
async def test_each_form_takes_its_own_transport(world: World, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Else one of them would be compared with itself."""
    fed: list[bytes] = []
    data_received = RequestHandler.data_received

    def note(self: RequestHandler, data: bytes) -> None:
        fed.append(data)
        data_received(self, data)

    sent = await SUCCEEDING[operation](world)
    monkeypatch.setattr(RequestHandler, "data_received", note)
    for way in WAYS:
        fed.clear()
        answer = await exchange(world.urls["usual"], sent.raw(way), sent.method)
        assert answer.status < 300
        assert any(fed) == (way == "doubted" or operation in STREAMS)


async def answers(world: World, case: Case, monkeypatch: pytest.MonkeyPatch) -> tuple[Answer, Answer]:
    """What is answered to the plain form and to the other one."""
    requests = [await case.make(world)]
    requests.append(await case.make(world) if case.fresh else requests[0])
    with monkeypatch.context() as patched:
        if case.fault is not None:
            case.fault(patched)
        url = world.urls[case.front]
        exchanges = [exchange(url, sent.raw(way), sent.method) for sent, way in zip(requests, WAYS, strict=True)]
        if case.front == "early":  # which lets a second command wait for the first one, and then refuses it otherwise
            plain, doubted = await exchanges[0], await exchanges[1]
        else:
            plain, doubted = await asyncio.gather(*exchanges)
    return plain, doubted


def outcome(answer: Answer) -> str:
    """As the case names it: the problem, or the status of what is none and of a page."""
    return answer.problem or ("Location" if 300 <= answer.status < 304 or answer.status == 308 else str(answer.status))
