#!/usr/bin/env bash
# What one would guess: a caller that closes its half of the connection after a complete request, as HTTP allows and as
# `nc -N` and simple clients do, gets the answer.
# What happens: aiohttp takes the closed half for a caller that has left. The handler runs to its end and does its work, and
# the answer is thrown away: the caller reads nothing. Nothing is logged.
# Whom it hurts: whoever serves something that must not be done twice: the caller does not know that it was done.
# What helps: an idempotency key, under which a repeated request gets the first answer. Behind nginx,
# `proxy_ignore_client_abort on`: nginx keeps its own connection to aiohttp open.
# aiohttp 3.14.5 from PyPI, Python 3.11; seen on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiohttp==3.14.5
cat >look.py <<'PY'
import asyncio
import sys

import aiohttp
from aiohttp import web

REQUEST = b"POST /places HTTP/1.1\r\nHost: example.id\r\nContent-Length: 2\r\n\r\n{}"
taken = 0


async def take(request):
    global taken
    await request.read()
    await asyncio.sleep(0.2)  # a store is asked
    taken += 1
    return web.Response(status=201)


async def ask(port, *, half_closed):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    if half_closed:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(200), 5)
    writer.close()
    return answer.split(b"\r\n")[0].decode()


async def main():
    app = web.Application()
    app.router.add_post("/places", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    whole, half = await ask(port, half_closed=False), await ask(port, half_closed=True)
    await asyncio.sleep(0.5)
    await runner.cleanup()
    return whole, half


whole, half = asyncio.run(main())
print("aiohttp", aiohttp.__version__)
print("an open connection is answered:", repr(whole))
print("a half-closed one is answered:", repr(half))
print("places taken:", taken)
is_as_described = whole == "HTTP/1.1 201 Created" and half == "" and taken == 2
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
