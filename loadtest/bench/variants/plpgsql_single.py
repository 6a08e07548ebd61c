"""One plpgsql call a request through asyncpg's pool, with everybody after the same quota, as at a real opening."""

import os
from typing import ClassVar

import asyncpg
from aiohttp import web

from loadtest.bench.serving import POSTGRES_DSN_VARIABLE, Baseline
from loadtest.bench.variants import tables
from loadtest.bench.variants.essentials import HOLD_MS, Claim, Verdict, claim_app
from loadtest.bench.variants.variant import Rival

SCHEMA = "bench_single"
POOL = 16
CALL = "SELECT outcome, deadline_ms FROM claim_one($1, $2, $3, $4, $5)"
# The quota's row comes last, so that its lock is held for as short a time as a commit allows.
FUNCTION = """
CREATE FUNCTION claim_one(
  wanted_id text, wanted_quota text, wanted_person text, wanted_fingerprint text, hold_ms bigint,
  OUT outcome text, OUT deadline_ms bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  deadline_ms := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + hold_ms;
  INSERT INTO reservations (id, person, quota, fingerprint, deadline_ms)
  VALUES (wanted_id, wanted_person, wanted_quota, wanted_fingerprint, claim_one.deadline_ms) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    SELECT r.deadline_ms INTO claim_one.deadline_ms FROM reservations r WHERE r.id = wanted_id;
    outcome := CASE WHEN FOUND THEN 'exists' ELSE 'duplicate_applicant' END;
    deadline_ms := coalesce(claim_one.deadline_ms, 0);
    RETURN;
  END IF;
  UPDATE quotas SET remaining = remaining - 1 WHERE id = wanted_quota AND remaining > 0;
  IF FOUND THEN
    outcome := 'held';
    RETURN;
  END IF;
  DELETE FROM reservations WHERE id = wanted_id;
  PERFORM 1 FROM quotas WHERE id = wanted_quota;
  outcome := CASE WHEN FOUND THEN 'sold_out' ELSE 'unknown_quota' END;
  deadline_ms := 0;
END $$;
"""


class PlpgsqlSingle(Rival):
    """One function call a request, on one hot row."""

    name: ClassVar[str] = "plpgsql_single"
    title: ClassVar[str] = f"one plpgsql call per request, asyncpg pool of {POOL}, all claims on one quota"
    hot: ClassVar[bool] = True

    async def prepare(self) -> None:
        ground = self.ground
        places = ground.capacity * len(ground.quotas)
        await tables.create(ground.postgres_dsn, SCHEMA, {ground.quotas[0]: places}, statements=[FUNCTION])

    async def held(self) -> int | None:
        return await tables.held(self.ground.postgres_dsn, SCHEMA)


async def make_app() -> web.Application:
    pool = await asyncpg.create_pool(
        os.environ[POSTGRES_DSN_VARIABLE], min_size=POOL, max_size=POOL, server_settings=tables.session(SCHEMA)
    )

    async def decide(claim: Claim) -> Verdict:
        row = await pool.fetchrow(CALL, *claim, HOLD_MS)
        assert row is not None
        return Verdict(*row)

    return claim_app(decide, pool.close)


if __name__ == "__main__":
    Baseline(make_app).run()
