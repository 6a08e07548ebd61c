#!/usr/bin/env bash
# What one would guess: gunicorn's `--backlog` (2048 by default) is the number of connections that wait to be accepted,
# whichever worker class serves them.
# What happens: gunicorn listens with that number. aiohttp's worker then starts its server on the same socket without naming
# a backlog, and asyncio listens again with aiohttp's default: 128. Nothing is logged.
# Whom it hurts: whoever expects a crowd. While the workers are busy, the 129th connection is dropped and tries again after
# a second, then after two, four, ...
# What helps: a runner of one's own that sets the site's backlog; it can be checked with `ss -ltn` (Send-Q).
# gunicorn 27.0.1 and aiohttp 3.14.5 from PyPI, Python 3.11; seen on 2026-11-30. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gunicorn==27.0.1 aiohttp==3.14.5
cat >site_of.py <<'PY'
import os
import socket
import struct

from aiohttp import web

MAX_BACKLOG_AT = 28  # in Linux' `tcp_info` of a listening socket


def backlog_of(listening):
    facts = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return struct.unpack_from("I", facts, MAX_BACKLOG_AT)[0]


async def show(_request):
    for name in os.listdir("/proc/self/fd"):
        try:
            each = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with each:
            if each.family == socket.AF_INET and each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return web.Response(text=str(backlog_of(each)))
    return web.Response(text="0")


app = web.Application()
app.router.add_get("/", show)
PY
cat >look.py <<'PY'
import http.client
import socket
import subprocess
import sys
import time
from importlib.metadata import version

BACKLOG = 1000
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = ("-m", "gunicorn", "site_of:app", "--worker-class", "aiohttp.GunicornWebWorker", "--workers", "1")
running = subprocess.Popen([sys.executable, *command, "--bind", f"127.0.0.1:{port}", "--backlog", str(BACKLOG)])
try:
    for _ in range(100):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/")
            seen = int(connection.getresponse().read())
            break
        except OSError:
            time.sleep(0.1)
    else:
        sys.exit("gunicorn did not start")
finally:
    running.terminate()
    running.wait(10)
print("gunicorn", version("gunicorn"), "aiohttp", version("aiohttp"))
print(f"asked for a backlog of {BACKLOG}, the socket has {seen}")
is_as_described = seen == 128
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
