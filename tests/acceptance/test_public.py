"""What anyone may read, and how it may be cached."""

import asyncio
import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from reservasi.front.problem_types import PROBLEM_TYPES
from reservasi.front.stream import STREAMS_MAX

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_programs_and_offices(stack: Any) -> None:
    programs = (await stack.request("GET", "/v1/programs")).json["programs"]
    program = next(p for p in programs if p["id"] == stack.program)
    assert program["timezone"] == "Asia/Jakarta"
    assert {channel["id"]: channel["public"] for channel in program["channels"]}["walk-in"] is False
    offices = (await stack.request("GET", f"/v1/offices?program={stack.program}")).json["offices"]
    assert "kanim" in {office["id"] for office in offices}
    assert (await stack.request("GET", "/v1/offices?program=nowhere")).json == {"offices": []}


async def test_availability_shows_what_remains(stack: Any) -> None:
    quota = await stack.quota()
    await stack.held(quota, 3)
    seen = await stack.seen(quota, lambda q: q.counts.held == 3)
    day = seen.terms.date
    path = f"/v1/availability?program={stack.program}&office=kanim&service=baru&channel=online&from={day}&to={day}"
    reply = await stack.request("GET", path)
    assert reply.headers["Cache-Control"] == "public, max-age=1, stale-while-revalidate=5"
    listed = {q["id"]: q for q in reply.json["quotas"]}
    assert listed[quota] == {
        "id": quota,
        "office": "kanim",
        "service": "baru",
        "channel": "online",
        "date": day,
        "start": seen.terms.start,
        "end": "23:59",
        "capacity": 10,
        "remaining": 7,
        "state": "open",
        "opens_at": None,
    }
    for filters in ("office=nowhere", "service=nothing", "channel=none", "to=2027-02-28", "program=nowhere"):
        assert (await stack.request("GET", f"/v1/availability?{filters}")).json == {"quotas": []}


@pytest.mark.parametrize("path", ["/v1/programs", "/v1/offices", "/v1/openings", "/v1/availability", "/openapi.json"])
async def test_an_etag_saves_the_body(stack: Any, path: str) -> None:
    await stack.quota()
    reply = await stack.request("GET", path)
    etag = reply.headers["ETag"]
    for known in (etag, f"W/{etag}", "*", f'"x", {etag}'):
        again = await stack.request("GET", path, headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    assert (await stack.request("GET", path, headers={"If-None-Match": '"x"'})).status == 200
    head = await stack.request("HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(reply.body)))


async def test_the_etag_changes_with_the_places(stack: Any) -> None:
    quota = await stack.quota()
    path = f"/v1/availability?program={stack.program}"
    before = (await stack.request("GET", path)).headers["ETag"]
    await stack.held(quota)
    await stack.seen(quota, lambda q: q.counts.held == 1)

    async def has_changed() -> bool:
        return bool((await stack.request("GET", path)).headers["ETag"] != before)

    await stack.eventually(has_changed)


async def test_live_availability(stack: Any) -> None:
    quota = await stack.quota()
    day = stack.front.availability.quota(quota).terms.date
    path = f"/v1/availability/stream?program={stack.program}&from={day}&to={day}"
    async with asyncio.timeout(20), stack.client.get(stack.url + path) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        first = await next_event(response)
        assert quota in {q["id"] for q in first}
        await stack.held(quota, 2)
        changed = await next_event(response)
        assert [(q["id"], q["remaining"]) for q in changed if q["id"] == quota] == [(quota, 8)]
        assert len(changed) < max(2, len(first))


async def next_event(response: Any) -> list[dict[str, Any]]:
    lines = []
    while line := (await response.content.readline()).decode().strip():
        lines.append(line)
    if lines[0].startswith(":"):
        return await next_event(response)
    assert lines[0] == "event: availability"
    quotas: list[dict[str, Any]] = json.loads(lines[1].removeprefix("data: "))["quotas"]
    return quotas


async def test_streams_are_bounded(stack: Any) -> None:
    path = f"{stack.url}/v1/availability/stream?program={stack.program}&office=nowhere"
    host, _, port = stack.url.removeprefix("http://").partition(":")
    request = f"GET {path.removeprefix(stack.url)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    await stack.eventually(no_streams)  # those of other tests end when their readers are found to be gone
    writers, statuses = [], []
    for _ in range(STREAMS_MAX + 1):
        reader, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)
        writer.write(request)
        statuses.append((await reader.readline()).split()[1])
    assert statuses == [b"200"] * STREAMS_MAX + [b"503"]
    (await stack.request("GET", path.removeprefix(stack.url))).is_problem("too-many-streams", 503)
    for writer in writers:
        writer.close()
    await stack.eventually(no_streams)
    async with stack.client.get(path) as response:
        assert response.status == 200


async def no_streams() -> bool:
    return not REGISTRY.get_sample_value("reservasi_open_streams")


async def test_problem_types_explain_themselves(stack: Any) -> None:
    for name in PROBLEM_TYPES:
        as_json = await stack.request("GET", f"/problems/{name}")
        assert (as_json.status, as_json.json["type"]) == (200, f"/problems/{name}")
        assert "{" not in as_json.json["detail"]
    as_html = await stack.request("GET", "/problems/sold-out", headers={"Accept": "text/html,*/*"})
    assert as_html.headers["Content-Type"].startswith("text/html")
    assert "Tempat habis" in as_html.text
    (await stack.request("GET", "/problems/nothing")).is_problem("not-found", 404)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/availability", "GET,HEAD"),
        ("GET", "/v1/reservations", "POST"),
        ("OPTIONS", "/v1/programs", "GET,HEAD"),
    ],
)
async def test_a_method_that_is_not_there(stack: Any, method: str, path: str, allow: str) -> None:
    reply = await stack.request(method, path)
    reply.is_problem("method-not-allowed", 405)
    assert reply.headers["Allow"] == allow


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/availability/", "/v2/programs", "/%00", "/problems/"])
async def test_an_address_that_is_not_there(stack: Any, path: str) -> None:
    reply = await stack.request("GET", path)
    reply.is_problem("not-found", 404)
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Server"] == "reservasi"
