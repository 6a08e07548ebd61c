"""The admin port: liveness, readiness and metrics."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiohttp import web

from reservasi.admin import create_admin_app, front_readiness

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def admin(stack: Any) -> AsyncIterator[Any]:
    """The admin port of the front, with one check more that a test may let fail."""
    extra = {"extra": True}
    ready = front_readiness(stack.front.availability, stack.front.catalogue)
    runner = web.AppRunner(create_admin_app(lambda: {**ready(), **extra}), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield stack.at(f"http://{host}:{port}"), extra
    await runner.cleanup()


async def test_alive_and_ready(admin: Any) -> None:
    port, extra = admin
    alive = await port.request("GET", "/livez")
    assert (alive.status, alive.json) == (200, {"live": True})
    ready = await port.request("GET", "/readyz")
    assert ready.status == 200
    assert ready.json["ready"] is True
    assert all(ready.json.values())
    extra["extra"] = False
    waiting = await port.request("GET", "/readyz")
    assert waiting.status == 503
    assert (waiting.json["ready"], waiting.json["extra"]) == (False, False)
    assert (await port.request("GET", "/livez")).status == 200


async def test_no_connection_is_kept(admin: Any) -> None:
    port, _ = admin
    host = urlsplit(port.url)
    for path in ("/livez", "/readyz", "/metrics", "/nothing"):
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(10):
            head, _, _ = (await reader.read()).partition(b"\r\n\r\n")  # up to the connection's end
        assert b"\r\nConnection: close" in head
        writer.close()


async def test_requests_are_counted_by_route(stack: Any, admin: Any) -> None:
    port, _ = admin
    held = await stack.held(await stack.quota())
    await stack.managed("GET", held)
    await stack.request("GET", "/no/such/address/at/all")
    metrics = await port.request("GET", "/metrics")
    assert metrics.status == 200
    assert metrics.headers["Content-Type"].startswith("text/plain")
    assert 'reservasi_requests_total{method="POST",outcome="2xx",route="/v1/reservations"}' in metrics.text
    assert 'reservasi_requests_total{method="GET",outcome="2xx",route="/v1/reservations/{id}"}' in metrics.text
    assert 'reservasi_requests_total{method="GET",outcome="4xx",route="unmatched"}' in metrics.text
    assert 'reservasi_request_seconds_bucket{le="0.1",route="/v1/reservations"}' in metrics.text
    assert "reservasi_requests_in_flight" in metrics.text
    assert held["id"] not in metrics.text
    assert "/no/such" not in metrics.text
