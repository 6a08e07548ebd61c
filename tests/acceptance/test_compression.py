"""Frequent answers are compressed once, if the caller accepts it, on both transports."""

import gzip
import threading
from typing import Any

import pytest

from reservasi.front.api.request import Head, Request
from reservasi.front.handlers.cached import THREAD_BYTES_MIN, unkept
from reservasi.front.views.quota_json import COMPRESSED_BYTES_MIN, encoded
from tests.acceptance.conftest import Reply

OPENS_AT_MS = 1_798_761_600_000  # 2027-01-01
pytestmark = pytest.mark.asyncio(loop_scope="session")

PATHS = [
    "/v1/availability",
    "/v1/availability/days",
    "/v1/offices",
    "/v1/openings?program={program}",
    "/v1/openings.ics?program={program}",
    "/openapi.json",
    "/openings",
    "STATIC",
]


async def ask(stack: Any, path: str, accepted: str, method: str = "GET", **headers: str) -> Reply:
    """Answer as it was sent: aiohttp's client would open it. A fragment sends it the other way through the front."""
    sent = {"Accept-Encoding": accepted, **headers}
    async with stack.client.request(method, stack.url + path, headers=sent, auto_decompress=False) as response:
        return Reply(response.status, response.headers.copy(), await response.read())


async def address_of(stack: Any, path: str) -> str:
    if path != "STATIC":
        return path.format(program=stack.program)
    page: str = (await stack.request("GET", "/openings")).text
    return "/static/" + page.split("/static/")[1].split("/", maxsplit=1)[0] + "/style.css"


async def fill(stack: Any) -> None:
    for number in range(8):
        await stack.quota(date=f"2027-04-{number + 1:02}", opens_at_ms=OPENS_AT_MS + number * 60_000)


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
        for tag in tags.values():
            again = await ask(stack, path, accepted, **{"If-None-Match": f'"other", {tag}'})
            assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
            assert "Content-Encoding" not in again.headers
            assert "Accept-Encoding" in again.headers["Vary"]
        assert (await ask(stack, path, accepted, **{"If-None-Match": "*"})).headers["ETag"] == own


@pytest.mark.parametrize("list_of", ["quotas", "audit", "closures"])
async def test_what_staff_read_is_compressed_and_kept_by_nobody(stack: Any, list_of: str) -> None:
    quotas = [await stack.quota(date="2027-04-20") for _ in range(6)]
    for quota in quotas:
        await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json={"capacity": 11})
    method, path, body = {
        "quotas": ("GET", f"/v1/staff/quotas?program={stack.program}", None),
        "audit": ("GET", f"/v1/staff/audit?program={stack.program}", None),
        "closures": ("POST", "/v1/staff/closures", {"program": stack.program, "date": "2027-04-20"}),
    }[list_of]

    async def read(accepted: str) -> Reply:
        headers = {"X-API-Key": stack.operator_key, "Accept-Encoding": accepted}
        sent = stack.client.request(method, stack.url + path, headers=headers, json=body, auto_decompress=False)
        async with sent as response:
            return Reply(response.status, response.headers.copy(), await response.read())

    async def enough() -> bool:
        return len((await read("identity")).body) >= COMPRESSED_BYTES_MIN

    await stack.eventually(enough)  # the trail follows the records
    plain, small = await read("identity"), await read("gzip, br")
    assert small.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(small.body) == plain.body
    assert small.headers["Content-Length"] == str(len(small.body))
    for reply in (plain, small):
        assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
        assert (reply.headers["Vary"], reply.headers["Cache-Control"]) == ("Accept-Encoding", "no-store")


@pytest.mark.asyncio(loop_scope="function")
async def test_a_long_answer_is_compressed_beside_the_event_loop() -> None:
    request = Request("GET", "/", Head({b"accept-encoding": "gzip"}))
    threads: set[str] = set()
    compress = gzip.compress

    def noting(*args: Any, **options: Any) -> bytes:
        threads.add(threading.current_thread().name)
        return compress(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzip, "compress", noting)
        for size, own in ((COMPRESSED_BYTES_MIN, True), (THREAD_BYTES_MIN, False)):
            threads.clear()
            assert (await unkept(request, b"a" * size)).headers["Content-Encoding"] == "gzip"
            assert (threads == {threading.current_thread().name}) is own
        assert "Vary" not in (await unkept(request, b"a")).headers


async def test_both_ways_through_the_front_say_the_same(stack: Any) -> None:
    await fill(stack)
    path = f"/v1/availability?program={stack.program}"
    for accepted in ("gzip", "identity", "gzip;q=0", "x;;q"):
        short = await ask(stack, path, accepted)
        long = await ask(stack, path, accepted, Trailer="x")  # which is left to aiohttp
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
