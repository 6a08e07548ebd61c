"""What many ask for is compressed when they ask for that, once for all of them, both ways through the front."""

import gzip
from typing import Any

import pytest

from reservasi.front.encoding import COMPRESSED_BYTES_MIN, encoded
from tests.acceptance.conftest import Reply

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATHS = ["/v1/availability", "/v1/offices", "/openapi.json", "/openings", "STATIC"]


async def ask(stack: Any, path: str, accepted: str, method: str = "GET", **headers: str) -> Reply:
    """Answer as it was sent: aiohttp's client would open it. A fragment sends it the other way through the front."""
    sent = {"Accept-Encoding": accepted, **headers}
    async with stack.client.request(method, stack.url + path, headers=sent, auto_decompress=False) as response:
        return Reply(response.status, response.headers.copy(), await response.read())


async def address_of(stack: Any, path: str) -> str:
    if path != "STATIC":
        return path
    page: str = (await stack.request("GET", "/openings")).text
    return "/static/" + page.split("/static/")[1].split("/", maxsplit=1)[0] + "/style.css"


async def fill(stack: Any) -> None:
    for _ in range(8):
        await stack.quota()


@pytest.mark.parametrize("path", PATHS)
async def test_who_takes_gzip_gets_it(stack: Any, path: str) -> None:
    await fill(stack)
    path = await address_of(stack, path)
    plain, small = await ask(stack, path, "identity"), await ask(stack, path, "gzip, deflate, br")
    assert len(plain.body) >= COMPRESSED_BYTES_MIN
    assert gzip.decompress(small.body) == plain.body
    assert len(small.body) < len(plain.body)
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert small.headers["Content-Length"] == str(len(small.body))
    assert plain.headers["ETag"] != small.headers["ETag"]
    for reply in (plain, small):
        assert "Accept-Encoding" in reply.headers["Vary"]
        assert not reply.headers["ETag"].startswith("W/")
    head = await ask(stack, path, "gzip", "HEAD")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(small.body)))
    assert head.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("path", PATHS)
async def test_either_tag_saves_the_body(stack: Any, path: str) -> None:
    await fill(stack)
    path = await address_of(stack, path)
    tags = {accepted: (await ask(stack, path, accepted)).headers["ETag"] for accepted in ("identity", "gzip")}
    for accepted, own in tags.items():
        for known in tags.values():
            again = await ask(stack, path, accepted, **{"If-None-Match": f'"other", {known}'})
            assert (again.status, again.body, again.headers["ETag"]) == (304, b"", known)
            assert "Content-Encoding" not in again.headers
            assert "Accept-Encoding" in again.headers["Vary"]
        assert (await ask(stack, path, accepted, **{"If-None-Match": "*"})).headers["ETag"] == own


async def test_both_ways_through_the_front_say_the_same(stack: Any) -> None:
    await fill(stack)
    path = f"/v1/availability?program={stack.program}"
    for accepted in ("gzip", "identity", "gzip;q=0", "x;;q"):
        short = await ask(stack, path, accepted)
        long = await ask(stack, path, accepted, **{"If-None-Match": '"other"'})  # goes the long way
        assert short.body == long.body
        for name in ("ETag", "Vary", "Content-Type", "Cache-Control", "Content-Length"):
            assert short.headers[name] == long.headers[name]
        assert short.headers.get("Content-Encoding") == long.headers.get("Content-Encoding")


async def test_a_year_of_windows_is_a_small_answer(stack: Any) -> None:
    """Each answer is compressed once, however many ask."""
    await fill(stack)
    path, calls = f"/v1/availability/days?program={stack.program}&office=kanim", 0
    compress = gzip.compress

    def counting(*args: Any, **options: Any) -> bytes:
        nonlocal calls
        calls += 1
        return compress(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzip, "compress", counting)
        view = encoded(b"a" * 100_000)
        assert len({id(view.variant(gzip=True)) for _ in range(100)}) == 1
        for _ in range(20):
            await ask(stack, path, "gzip")
    assert calls <= 2
    assert len(view.variant(gzip=True).body) < 1000
