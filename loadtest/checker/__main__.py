"""Was every promise kept? `python -m loadtest.checker --data-dir DIR [--history FILE]`, or with both addresses.

Reads ledger and database after a run and judges them, together and against the clients' answers. Exit code 0:
nothing found; 1: each violation is named on its own line; 2: could not be checked.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec

from loadtest.checker.check import check, show
from loadtest.checker.evidence import Moving
from loadtest.checker.history import read_history
from reservasi.embedded import embedded_postgres_dsn, embedded_redis_url
from reservasi.errors import ReservasiError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.checker", description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="of a `reservasi up` with servers of its own")
    parser.add_argument("--redis-url", help="the ledger, with user and password where it wants them")
    parser.add_argument("--postgres-dsn", help="the records")
    parser.add_argument("--history", type=Path, help="what the clients saw, JSON lines")
    parser.add_argument("--program", action="append", default=[], help="only this one; may be repeated")
    options = parser.parse_args(arguments)
    if not (options.data_dir or (options.redis_url and options.postgres_dsn)):
        parser.error("--data-dir, or both --redis-url and --postgres-dsn, please")
    try:
        redis_url = options.redis_url or embedded_redis_url(options.data_dir)
        postgres_dsn = options.postgres_dsn or embedded_postgres_dsn(options.data_dir)
        history = read_history(options.history) if options.history else []
        findings = asyncio.run(check(redis_url, postgres_dsn, history, options.program))
    except (Moving, ReservasiError, asyncpg.PostgresError, msgspec.DecodeError, OSError) as error:
        print(f"cannot be checked: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return show(findings)


if __name__ == "__main__":
    sys.exit(main())
