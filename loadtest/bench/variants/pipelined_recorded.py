"""The strongest simple rival, and what it sells in PostgreSQL as well: a worker writes there what the script queued."""

import asyncio
import sys
from functools import partial

import asyncpg
import msgpack
import redis.asyncio as redis_asyncio

from loadtest.bench.ground import Ground
from loadtest.bench.serving import Baseline, Gunicorn
from loadtest.bench.turns import WrongResult
from loadtest.bench.variants import script, tables
from loadtest.bench.variants.pipelined import make_app
from loadtest.bench.variants.variant import pid_of, quieten_backends, start_on
from loadtest.stage.cores import yield_to_others

QUEUE = "{bench-pipelined_recorded}:queue"
SCHEMA = "bench_recorded"
WORKER = "worker"
ROWS_MAX = 2000  # in one transaction
IDLE_S = 0.02
SETTLE_TIMEOUT_S = 120.0
# A worker that ended between the two stores finds rows that it has written.
INSERT = """
INSERT INTO reservations (id, quota, person, fingerprint, deadline_ms)
SELECT id, quota, person, fingerprint, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + hold_ms::bigint
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS a (id, quota, person, fingerprint, hold_ms)
ON CONFLICT (id) DO NOTHING
"""


class PipelinedRecorded(script.ScriptRival):
    name = "pipelined_recorded"
    title = "one EVALSHA per request, pipelined; a worker moves what is sold from a list into PostgreSQL"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._worker = self.role(WORKER)

    @property
    def pids(self) -> dict[str, int]:
        return {**super().pids, "worker": pid_of(self._worker)}

    async def prepare(self) -> None:
        await super().prepare()
        await tables.create(self.ground.postgres_dsn, SCHEMA, {})

    async def start(self) -> None:
        await super().start()
        await start_on(self._worker, self.ground.cores.rest)

    async def stop(self) -> None:
        await super().stop()
        await self._worker.stop()

    async def settle(self) -> None:
        """Wait until PostgreSQL has all that was sold.

        Raises:
            TimeoutError: it has not within `SETTLE_TIMEOUT_S`.
        """
        async with asyncio.timeout(SETTLE_TIMEOUT_S), redis_asyncio.Redis.from_url(self.ground.redis_url) as client:
            while await client.llen(QUEUE):  # noqa: ASYNC110 - a list has no event
                await asyncio.sleep(IDLE_S)
        yield_to_others(pid_of(self._worker))  # as our own worker does
        await quieten_backends(self.ground.postgres_dsn, SCHEMA)

    async def held(self) -> int:
        taken = await super().held()
        rows = await tables.rows(self.ground.postgres_dsn, SCHEMA)
        if rows != taken:
            raise WrongResult(f"{SCHEMA}: {taken} places are taken, and there are {rows} rows")
        return taken


async def record() -> None:
    """Move what is queued into PostgreSQL, for ever."""
    baseline = Baseline.read()
    connection = await asyncpg.connect(
        baseline.postgres_dsn, server_settings={"search_path": SCHEMA, "application_name": SCHEMA}
    )
    async with redis_asyncio.Redis.from_url(baseline.redis_url) as client:
        while True:
            queued = await client.lrange(QUEUE, 0, ROWS_MAX - 1)
            if not queued:
                await asyncio.sleep(IDLE_S)
                continue
            rows = [msgpack.unpackb(packed) for packed in queued]
            await connection.execute(INSERT, *(list(column) for column in zip(*rows, strict=True)))
            await client.ltrim(QUEUE, len(queued), -1)


if __name__ == "__main__":
    if WORKER in sys.argv:
        asyncio.run(record())
    else:
        keys = (*script.Keys.of(PipelinedRecorded.name), QUEUE)
        Gunicorn(partial(make_app, script.CLAIM_QUEUED, keys)).run()
