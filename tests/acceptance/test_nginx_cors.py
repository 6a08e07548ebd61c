"""Booking frontends on other origins, through nginx with one of them in its map."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from loadtest.stage.http import HOST
from loadtest.stage.nginx import nginx
from reservasi.bootstrap.fronts import open_front
from tests.acceptance.conftest import Stack

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("nginx_installed")]

OURS, STRANGER = "https://antrean.example.id", "https://evil.example"
LINE_OF_THE_FILE = "# https://antrean.example.id $http_origin;"
ALLOW = "Access-Control-Allow-Origin"


class Proxy:
    """nginx before a front of its own, which can be stopped alone."""

    def __init__(self, stack: Stack, front: AsyncExitStack) -> None:
        self.stack = stack  # speaks through nginx
        self.stop_front = front.aclose


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(stack: Stack, listening: Any, tmp_path: Path) -> AsyncIterator[Proxy]:
    settings = stack.front.settings.model_copy(update={"cors_origins": (OURS,)})
    async with AsyncExitStack() as opened:
        front = await opened.enter_async_context(open_front(settings))

        async def serves() -> bool:
            return front.catalogue.program(stack.program) is not None and front.availability.knows(stack.program)

        await stack.eventually(serves)
        url = await opened.enter_async_context(listening(front))
        uncommented = (LINE_OF_THE_FILE, LINE_OF_THE_FILE.removeprefix("# "))
        async with nginx(tmp_path, url.removeprefix("http://"), uncommented) as port:
            yield Proxy(stack.at(f"http://{HOST}:{port}"), opened)


async def test_what_is_kept_for_one_origin_is_not_given_to_another(proxy: Proxy) -> None:
    path = f"/v1/availability?program={proxy.stack.program}"
    for _ in range(2):  # the second time out of nginx's cache
        for origin, allowed in ((OURS, OURS), (STRANGER, None), ("", None)):
            headers = {"Origin": origin} if origin else {}
            answer = await proxy.stack.request("GET", path, headers=headers)
            assert (answer.status, answer.headers.get(ALLOW)) == (200, allowed), origin


async def test_a_browser_may_ask_before_it_claims(proxy: Proxy) -> None:
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}
    for origin, allowed in ((OURS, OURS), (STRANGER, None)):
        answer = await proxy.stack.request("OPTIONS", "/v1/reservations", headers={"Origin": origin, **headers})
        assert (answer.status, answer.headers.get(ALLOW)) == (204, allowed)
        assert ("Access-Control-Allow-Headers" in answer.headers) == bool(allowed)


async def test_a_frontend_may_read_what_nginx_itself_refuses(proxy: Proxy) -> None:
    headers = {"Origin": OURS, "Idempotency-Key": "large", "Content-Type": "application/json"}
    large = await proxy.stack.request("POST", "/v1/reservations", headers=headers, data=b"x" * 2_000_000)
    assert (large.status, large.headers.get(ALLOW)) == (413, OURS)
    await proxy.stop_front()
    for origin, allowed in ((OURS, OURS), (STRANGER, None)):
        away = await proxy.stack.request("GET", "/v1/programs", headers={"Origin": origin})
        assert (away.status, away.headers.get(ALLOW)) == (503, allowed)
        assert ("Retry-After" in away.headers.get("Access-Control-Expose-Headers", "")) == bool(allowed)
