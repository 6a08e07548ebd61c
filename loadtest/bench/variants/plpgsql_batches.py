"""Group commit without Redis: claims that arrive during a call go into the next call of one plpgsql function.

The tables here are used by every rival with PostgreSQL, each in its own schema.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import asyncpg
from aiohttp import web

from loadtest.bench.figures import WrongResult
from loadtest.bench.ground import CAPACITY
from loadtest.bench.variants.variant import HOLD_MS, Baseline, Claim, Rival, Verdict, claim_app, connected

SCHEMA = "bench_batches"
BATCH_MAX = 256
Entry: TypeAlias = "tuple[Claim, asyncio.Future[Verdict]]"
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
CALL = "SELECT outcome, deadline_ms FROM claim_batch($1, $2, $3, $4, $5)"
# No two claims of a batch are of one person, so that only the places of a quota have to be counted in order.
FUNCTION = """
CREATE FUNCTION claim_batch(ids text[], wanted text[], people text[], fingerprints text[], hold_ms bigint)
RETURNS TABLE (outcome text, deadline_ms bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  new_deadline_ms bigint := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + hold_ms;
BEGIN
  PERFORM 1 FROM quotas WHERE id = ANY (wanted) ORDER BY id FOR UPDATE;
  RETURN QUERY
  WITH asked AS (
    SELECT * FROM unnest(ids, wanted, people, fingerprints)
      WITH ORDINALITY AS a (id, quota, person, fingerprint, number)
  ), looked_up AS (
    SELECT a.*, known.deadline_ms AS known_deadline_ms, live.id AS live_id, q.remaining,
      row_number() OVER (PARTITION BY a.quota, live.id IS NULL ORDER BY a.number) AS place
    FROM asked a
    LEFT JOIN reservations known ON known.id = a.id
    LEFT JOIN reservations live ON live.person = a.person
    LEFT JOIN quotas q ON q.id = a.quota
  ), decided AS MATERIALIZED (
    SELECT l.*, CASE
      WHEN l.known_deadline_ms IS NOT NULL THEN 'exists'
      WHEN l.live_id IS NOT NULL THEN 'duplicate_applicant'
      WHEN l.remaining IS NULL THEN 'unknown_quota'
      WHEN l.place > l.remaining THEN 'sold_out'
      ELSE 'held' END AS decision
    FROM looked_up l
  ), inserted AS (
    INSERT INTO reservations (id, person, quota, fingerprint, deadline_ms)
    SELECT d.id, d.person, d.quota, d.fingerprint, new_deadline_ms FROM decided d WHERE d.decision = 'held'
  ), counted AS (
    UPDATE quotas SET remaining = quotas.remaining - taken.places
    FROM (SELECT d.quota, count(*) AS places FROM decided d WHERE d.decision = 'held' GROUP BY d.quota) taken
    WHERE quotas.id = taken.quota
  )
  SELECT d.decision, CASE d.decision WHEN 'held' THEN new_deadline_ms ELSE coalesce(d.known_deadline_ms, 0) END
  FROM decided d ORDER BY d.number;
END $$;
"""


class PlpgsqlBatches(Rival):
    name = "plpgsql_batches"
    title = "micro-batches by one plpgsql call into PostgreSQL, no Redis, synchronous_commit on"

    async def prepare(self) -> None:
        quotas = dict.fromkeys(self.ground.quotas, CAPACITY)
        await create(self.ground.postgres_dsn, SCHEMA, quotas, statements=[FUNCTION])

    async def held(self) -> int:
        return await held(self.ground.postgres_dsn, SCHEMA)


class Batches:
    """One call in flight; claims that arrive meanwhile wait for the next one."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._waiting: list[Entry] = []
        self._running: asyncio.Task[None] | None = None

    async def decide(self, claim: Claim) -> Verdict:
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((claim, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def close(self) -> None:
        if self._running is not None:
            await self._running
        await self._connection.close()

    async def _run(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            try:
                verdicts = await self._call([claim for claim, _ in batch])
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), verdict in zip(batch, verdicts, strict=True):
                if not future.done():
                    future.set_result(verdict)
        self._running = None

    def _next_batch(self) -> list[Entry]:
        """The claims that wait, in order, one for each person."""
        batch: list[Entry] = []
        later: list[Entry] = []
        people: set[str] = set()
        for entry in self._waiting:
            person = entry[0].person
            if person in people or len(batch) >= BATCH_MAX:
                later.append(entry)
            else:
                people.add(person)
                batch.append(entry)
        self._waiting = later
        return batch

    async def _call(self, claims: list[Claim]) -> list[Verdict]:
        columns = [list(column) for column in zip(*claims, strict=True)]
        return [Verdict(*row) for row in await self._connection.fetch(CALL, *columns, HOLD_MS)]


async def plpgsql_batches() -> web.Application:
    connection = await asyncpg.connect(Baseline.read().postgres_dsn, server_settings=session(SCHEMA))
    batches = Batches(connection)
    return claim_app(batches.decide, batches.close)


def session(schema: str) -> dict[str, str]:
    """Settings of a connection that keep plans suited to full tables, although they are made for empty ones."""
    return {
        "search_path": schema,
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
    }


async def create(dsn: str, schema: str, quotas: Mapping[str, int], statements: Sequence[str] = ()) -> None:
    """Make the schema with its quotas and their capacities, and whatever else the rival wants in it."""
    async with connected(dsn, **session(schema)) as connection:
        await connection.execute(f"CREATE SCHEMA {schema}")
        for statement in (TABLES, *statements):
            await connection.execute(statement)
        rows = [(quota, capacity, capacity) for quota, capacity in quotas.items()]
        await connection.executemany("INSERT INTO quotas VALUES ($1, $2, $3)", rows)


async def held(dsn: str, schema: str) -> int:
    """The number of taken places; rows and counts must agree."""
    rows, taken = await counts(dsn, schema)
    if rows != taken:
        raise WrongResult(f"{schema}: {taken} places are taken, and there are {rows} rows")
    return rows


async def counts(dsn: str, schema: str) -> tuple[int, int]:
    async with connected(dsn, **session(schema)) as connection:
        rows = await connection.fetchval("SELECT count(*) FROM reservations")
        return rows, await connection.fetchval("SELECT coalesce(sum(capacity - remaining), 0) FROM quotas")
