"""Public reads and their caching."""

import asyncio
import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.front.views.live_feed import STREAMS_MAX, STREAMS_PER_ADDRESS_MAX

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
    view = await stack.seen(quota, lambda q: q.counts.held == 3)
    day = view.terms.date
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
        "start": view.terms.start,
        "end": view.terms.end,
        "capacity": 10,
        "remaining": 7,
        "state": "open",
        "opens_at": None,
        "opening": None,
        "ticket_required": False,
    }
    for filters in (
        "office=nowhere",
        "service=nothing",
        "channel=none",
        "from=2027-02-27&to=2027-02-28",
        "program=nowhere",
    ):
        assert (await stack.request("GET", f"/v1/availability?{filters}")).json == {"quotas": []}


@pytest.mark.parametrize("path", ["/v1/programs", "/v1/offices", "/v1/openings", "/v1/availability", "/openapi.json"])
async def test_an_etag_saves_the_body(stack: Any, path: str) -> None:
    await stack.quota()
    reply = await stack.request("GET", path)
    etag = reply.headers["ETag"]
    for tag in (etag, f"W/{etag}", "*", f'"x", {etag}'):
        again = await stack.request("GET", path, headers={"If-None-Match": tag})
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
    async with asyncio.timeout(60), stack.client.get(stack.url + path) as response:
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


async def test_two_streams_are_told_the_same(stack: Any) -> None:
    quota = await stack.quota()
    path = f"{stack.url}/v1/availability/stream?program={stack.program}"
    async with asyncio.timeout(60), stack.client.get(path) as early:
        await next_event(early)
        await stack.held(quota)
        assert [(q["id"], q["remaining"]) for q in await next_event(early)] == [(quota, 9)]
        async with stack.client.get(path) as late:
            assert {q["id"]: q["remaining"] for q in await next_event(late)}[quota] == 9
            await stack.held(quota, 2)
            for response in (early, late):
                assert [(q["id"], q["remaining"]) for q in await next_event(response)] == [(quota, 7)]


async def test_streams_are_told_what_the_clock_opens(stack: Any) -> None:
    seconds, _ = await stack.worker.client.time()
    quota = await stack.quota(opens_at_ms=(int(seconds) + 2) * 1000)
    day = stack.front.availability.quota(quota).terms.date
    path = f"{stack.url}/v1/availability/stream?program={stack.program}&from={day}&to={day}"
    async with asyncio.timeout(60), stack.client.get(path) as response:
        assert {q["id"]: q["state"] for q in await next_event(response)}[quota] == "not-open"
        assert [(q["id"], q["state"]) for q in await next_event(response)] == [(quota, "open")]


async def test_streams_are_bounded(stack: Any) -> None:
    path = f"/v1/availability/stream?program={stack.program}&office=nowhere"
    await stack.eventually(no_streams)  # those of other tests end when their readers are found to be gone
    addresses = [f"192.0.2.{1 + number // STREAMS_PER_ADDRESS_MAX}" for number in range(STREAMS_MAX + 1)]
    opened = [await open_stream(stack, path, address) for address in addresses]
    assert [status for status, _ in opened] == [b"200"] * STREAMS_MAX + [b"503"]
    (await stack.request("GET", path)).is_problem("too-many-streams", 503)
    for _, writer in opened:
        writer.close()
    await stack.eventually(no_streams)
    async with stack.client.get(stack.url + path) as response:
        assert response.status == 200


async def test_a_reader_who_has_gone_makes_room_at_once(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await stack.eventually(no_streams)
    monkeypatch.setattr("reservasi.front.views.live_feed.LOOK_S", 3600.0)  # nothing changes meanwhile
    _, writer = await open_stream(stack, f"/v1/availability/stream?program={stack.program}&office=nowhere", "")
    assert not await no_streams()
    writer.close()
    await stack.eventually(no_streams)


@pytest.mark.parametrize(
    "addresses",
    [["203.0.113.9"], ["evil, 203.0.113.9", "10.0.0.1,203.0.113.9"], ["2001:db8::1", "2001:db8::2:3"], [""]],
)
async def test_one_address_does_not_take_all_streams(stack: Any, addresses: list[str]) -> None:
    path = f"/v1/availability/stream?program={stack.program}&office=nowhere"
    await stack.eventually(no_streams)
    opened = [
        await open_stream(stack, path, addresses[number % len(addresses)])
        for number in range(STREAMS_PER_ADDRESS_MAX + 1)
    ]
    opened.append(await open_stream(stack, path, "198.51.100.1"))
    assert [status for status, _ in opened] == [b"200"] * STREAMS_PER_ADDRESS_MAX + [b"503", b"200"]
    for _, writer in opened:
        writer.close()
    await stack.eventually(no_streams)


async def open_stream(stack: Any, path: str, address: str) -> tuple[bytes, asyncio.StreamWriter]:
    """A stream as the proxy on this machine asks for it; the answer's status."""
    host, _, port = stack.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n\r\n".encode())
    return (await reader.readline()).split()[1], writer


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
        ("DELETE", "/v1/availability", "GET, HEAD, OPTIONS"),
        ("GET", "/v1/reservations", "OPTIONS, POST"),
    ],
)
async def test_a_method_that_is_not_there(stack: Any, method: str, path: str, allow: str) -> None:
    reply = await stack.request(method, path)
    reply.is_problem("method-not-allowed", 405)
    assert reply.headers["Allow"] == allow


@pytest.mark.parametrize("path", ["/v1", "/v1/availability/", "/v2/programs", "/%00", "/problems/"])
async def test_an_address_that_is_not_there(stack: Any, path: str) -> None:
    reply = await stack.request("GET", path)
    reply.is_problem("not-found", 404)
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Server"] == "reservasi"


async def test_what_only_staff_may_claim_is_closed_to_the_public(stack: Any) -> None:
    quota = await stack.quota(channel="walk-in")
    shown = await stack.request("GET", f"/v1/availability?program={stack.program}&channel=walk-in")
    assert {each["id"]: each["state"] for each in shown.json["quotas"]}[quota] == "closed"
    staff = await stack.staff("GET", f"/v1/staff/quotas?program={stack.program}&channel=walk-in")
    assert {each["id"]: each["state"] for each in staff.json["quotas"]}[quota] == "open"
