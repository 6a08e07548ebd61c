"""A booking frontend on another origin, in Chromium: allowed calls work, and no others."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from reservasi.bootstrap.fronts import open_front
from tests.acceptance.conftest import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
BOOK = """async ([url, body, key]) => {
  const headers = {"Content-Type": "application/json", "Idempotency-Key": key};
  const claim = () => fetch(`${url}/v1/reservations`, {method: "POST", headers, body: JSON.stringify(body)});
  const first = await claim(), held = await first.json(), again = await claim();
  const mine = {headers: {Authorization: `Bearer ${held.manage_token}`}};
  const path = `${url}/v1/reservations/${held.id}`;
  const confirmed = await fetch(`${path}/confirm`, {...mine, method: "POST"});
  const listed = await fetch(`${url}/v1/availability?office=mpp`);
  const tag = listed.headers.get("ETag");
  const known = await fetch(`${url}/v1/availability?office=mpp`, {headers: {"If-None-Match": tag}, cache: "no-store"});
  const refused = await fetch(`${url}/v1/reservations`, {method: "POST", headers, body: "{"});
  return {
    claimed: first.status, location: first.headers.get("Location"), id: held.id,
    replayed: again.headers.get("Idempotent-Replayed"), confirmed: confirmed.status,
    shown: (await (await fetch(path, mine)).json()).status, tag, known: known.status,
    refused: (await refused.json()).type, request: known.headers.get("X-Request-Id"),
  };
}"""
CAN_READ = """async (url) => {
  try { return (await fetch(`${url}/v1/programs`)).status; } catch (error) { return error.name; }
}"""
CAN_SEND = """async (url) => {
  const asked = {method: "POST", headers: {"Idempotency-Key": "x", "Content-Type": "application/json"}, body: "{}"};
  try { return (await fetch(`${url}/v1/reservations`, asked)).status; } catch (error) { return error.name; }
}"""
STREAMED = """(url) => new Promise((resolve) => {
  const source = new EventSource(`${url}/v1/availability/stream?office=mpp`);
  source.addEventListener("availability", (event) => { source.close(); resolve("quotas" in JSON.parse(event.data)); });
  source.onerror = () => { source.close(); resolve(false); };
})"""


async def _empty(_: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>booking</title>", content_type="text/html")


@pytest_asyncio.fixture(loop_scope="session")
async def frontends() -> AsyncIterator[list[str]]:
    """Two booking frontends, each an origin of its own."""
    app = web.Application()
    app.router.add_get("/", _empty)
    runner = web.AppRunner(app)
    await runner.setup()
    for _ in range(2):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield [f"http://{host}:{port}" for host, port in runner.addresses]
    await runner.cleanup()


async def test_a_frontend_on_another_origin_books(
    stack: Stack, listening: Any, browser: Any, frontends: list[str]
) -> None:
    ours, stranger = frontends
    settings = stack.front.settings.model_copy(update={"cors_origins": (ours,)})
    quota = await stack.quota()
    async with open_front(settings) as front, listening(front) as url:

        async def serves() -> bool:
            return front.availability.quota(quota) is not None

        await stack.eventually(serves)
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(ours)
        result = await page.evaluate(BOOK, [url, stack.body(quota), "from-another-origin"])
        assert (result["claimed"], result["location"]) == (201, f"/v1/reservations/{result['id']}")
        assert (result["replayed"], result["confirmed"], result["shown"]) == ("true", 200, "confirmed")
        assert result["tag"]
        assert result["known"] in (200, 304)
        assert result["refused"] == "/problems/invalid-request"
        assert await page.evaluate(STREAMED, url)
        await page.goto(stranger)
        assert await page.evaluate(CAN_READ, url) == "TypeError"
        assert await page.evaluate(CAN_SEND, url) == "TypeError"
        assert not await page.evaluate(STREAMED, url)
        await context.close()


async def test_without_the_setting_no_origin_reads(stack: Stack, browser: Any, frontends: list[str]) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(frontends[0])
    assert await page.evaluate(CAN_READ, stack.url) == "TypeError"
    assert await page.evaluate(CAN_SEND, stack.url) == "TypeError"
    await context.close()
