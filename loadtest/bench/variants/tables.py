"""The tables of the rivals that claim or record in PostgreSQL, each in a schema of its own."""

from collections.abc import Mapping, Sequence

import asyncpg

from loadtest.bench.turns import WrongResult

TABLES = """
CREATE TABLE quotas (id text PRIMARY KEY, capacity int NOT NULL, remaining int NOT NULL CHECK (remaining >= 0))
    WITH (fillfactor = 50);
CREATE TABLE reservations (
    id text PRIMARY KEY,
    person text NOT NULL UNIQUE,
    quota text NOT NULL,
    fingerprint text NOT NULL,
    deadline_ms bigint NOT NULL
);
CREATE INDEX ON reservations (deadline_ms);
"""


def session(schema: str) -> dict[str, str]:
    """Settings of a connection: plans that suit a full table, though they are made while it is empty."""
    return {
        "search_path": schema,
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
    }


async def create(dsn: str, schema: str, quotas: Mapping[str, int], statements: Sequence[str] = ()) -> None:
    """Make the schema with its quotas and their capacities, and whatever else the rival wants in it."""
    connection = await asyncpg.connect(dsn, server_settings=session(schema))
    try:
        await connection.execute(f"CREATE SCHEMA {schema}")
        for statement in (TABLES, *statements):
            await connection.execute(statement)
        rows = [(quota, capacity, capacity) for quota, capacity in quotas.items()]
        await connection.executemany("INSERT INTO quotas VALUES ($1, $2, $3)", rows)
    finally:
        await connection.close()


async def held(dsn: str, schema: str) -> int:
    """How many places are taken, by the rows as well as by the counts."""
    found, taken = await counts(dsn, schema)
    if found != taken:
        raise WrongResult(f"{schema}: {taken} places are taken, and there are {found} rows")
    return found


async def counts(dsn: str, schema: str) -> tuple[int, int]:
    """How many reservations there are, and how many places are taken."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": schema})
    try:
        return (
            await connection.fetchval("SELECT count(*) FROM reservations"),
            await connection.fetchval("SELECT coalesce(sum(capacity - remaining), 0) FROM quotas"),
        )
    finally:
        await connection.close()
