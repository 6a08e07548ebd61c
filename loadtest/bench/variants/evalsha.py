"""The usual design: one EVALSHA for each request through redis-py's connection pool, on the same synced server."""

import os
from typing import Any, ClassVar

import redis.asyncio as redis_asyncio
from aiohttp import web

from loadtest.bench.serving import REDIS_URL_VARIABLE, Baseline
from loadtest.bench.variants import script
from loadtest.bench.variants.essentials import Claim, Verdict, claim_app
from loadtest.bench.variants.variant import Rival

CONNECTIONS_MAX = 256  # with more than so many requests in flight redis-py refuses
KEYS = script.Keys.of("evalsha")


class Evalsha(Rival):
    """One EVALSHA a request."""

    name: ClassVar[str] = "evalsha"
    title: ClassVar[str] = "one EVALSHA per request, redis-py's pool, appendfsync always"

    async def prepare(self) -> None:
        await script.fill(self.ground, KEYS)

    async def held(self) -> int | None:
        return await script.held(self.ground, KEYS)


async def make_app() -> web.Application:
    pool = redis_asyncio.ConnectionPool.from_url(os.environ[REDIS_URL_VARIABLE], max_connections=CONNECTIONS_MAX)
    client = redis_asyncio.Redis(connection_pool=pool)
    sha = await client.script_load(script.CLAIM)

    async def decide(claim: Claim) -> Verdict:
        reply: Any = await client.evalsha(*script.arguments(sha, KEYS, claim))  # type: ignore[arg-type]
        return script.verdict(reply)

    async def close() -> None:
        await client.aclose()
        await pool.disconnect()

    return claim_app(decide, close)


if __name__ == "__main__":
    Baseline(make_app).run()
