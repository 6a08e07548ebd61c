#!/usr/bin/env bash
# What one would guess: a stream of aiohttp-sse answers `Connection: close` to a caller that asked for it, as every other
# answer of aiohttp does.
# What happens: it always answers `Connection: keep-alive`, and the server closes the connection after the stream all the
# same.
# Whom it hurts: proxies that keep a connection by what the answer says, and lose the next request on it; probes that
# check the header.
# What helps: a response class that deletes the header again, so that aiohttp sets the right one.
# aiohttp-sse 3.0 and aiohttp 3.14.5 from PyPI, Python 3.11; seen on 2026-11-30. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiohttp-sse==3.0 aiohttp==3.14.5
cat >look.py <<'PY'
import asyncio
import sys
from importlib.metadata import version

from aiohttp import web
from aiohttp_sse import sse_response


async def stream(request):
    async with sse_response(request) as response:
        await response.send("one")
    return response


async def plain(_request):
    return web.Response(text="one")


async def answer_to(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    whole = await asyncio.wait_for(reader.read(), 10)  # to the end of the connection
    writer.close()
    lines = whole.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return next((line for line in lines if line.lower().startswith("connection:")), "no Connection header")


async def look():
    app = web.Application()
    app.router.add_get("/stream", stream)
    app.router.add_get("/plain", plain)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        return [await answer_to(port, path) for path in ("/plain", "/stream")]
    finally:
        await runner.cleanup()


print("aiohttp-sse", version("aiohttp-sse"), "aiohttp", version("aiohttp"))
answers = asyncio.run(look())
print(f"asked for close: a plain answer says {answers[0]!r}, a stream says {answers[1]!r}, and both connections ended")
is_as_described = [each.split(": ")[1] for each in answers] == ["close", "keep-alive"]
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
