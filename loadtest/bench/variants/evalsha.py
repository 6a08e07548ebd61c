"""The usual design: one EVALSHA for each request through redis-py's connection pool, on the same synced server."""

from typing import Any

import redis.asyncio as redis_asyncio
from aiohttp import web

from loadtest.bench.serving import Baseline, Gunicorn
from loadtest.bench.variants import script
from loadtest.bench.variants.essentials import Claim, Verdict, claim_app

CONNECTIONS_MAX = 256  # with more than so many requests in flight redis-py refuses


class Evalsha(script.ScriptRival):
    name = "evalsha"
    title = "one EVALSHA per request, redis-py's pool, appendfsync always"


async def make_app() -> web.Application:
    pool = redis_asyncio.ConnectionPool.from_url(Baseline.read().redis_url, max_connections=CONNECTIONS_MAX)
    client = redis_asyncio.Redis(connection_pool=pool)
    sha = await client.script_load(script.CLAIM)
    keys = script.Keys.of(Evalsha.name)

    async def decide(claim: Claim) -> Verdict:
        reply: Any = await client.evalsha(*script.arguments(sha, keys, claim))  # type: ignore[arg-type]
        return script.verdict(reply)

    async def close() -> None:
        await client.aclose()
        await pool.disconnect()

    return claim_app(decide, close)


if __name__ == "__main__":
    Gunicorn(make_app).run()
