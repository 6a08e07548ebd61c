"""The usual design: one EVALSHA for each request through redis-py's connection pool, on the same synced server.

It does the same essentials (idempotency record, person check, capacity, hold deadline) and leaves out what makes ours
dearer: full validation, sealed personal data, a journal, metrics. So it is a baseline that is hard to beat.
"""

import hmac
import os
from typing import Any, ClassVar

import msgspec
import redis.asyncio as redis_asyncio
from aiohttp import web

from loadtest.bench.ground import Ground
from loadtest.bench.ports import free_port
from loadtest.bench.serving import REDIS_URL_VARIABLE, Baseline, body_bytes
from loadtest.bench.variants.variant import baseline_front, pid_of, start_on

QUOTAS = "{bench-evalsha}:quotas"  # hash: quota -> places left
PERSONS = "{bench-evalsha}:persons"  # hash: person -> reservation id
RESERVATIONS = "{bench-evalsha}:reservations"  # hash: reservation id -> "<deadline>:<quota>:<fingerprint>"
DEADLINES = "{bench-evalsha}:deadlines"  # sorted set: reservation id by deadline
HOLD_MS = 7_200_000
CONNECTIONS_MAX = 256
KEY = b"a key of the benchmark alone"

CLAIM = """
local id, quota, person, fingerprint, hold_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local known = redis.call('HGET', KEYS[3], id)
if known then
  return {'exists', known}
end
if redis.call('HEXISTS', KEYS[2], person) == 1 then
  return {'duplicate_applicant'}
end
local left = tonumber(redis.call('HGET', KEYS[1], quota) or -1)
if left < 1 then
  return {left == 0 and 'sold_out' or 'unknown_quota'}
end
local time = redis.call('TIME')
local deadline = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + hold_ms)
redis.call('HINCRBY', KEYS[1], quota, -1)
redis.call('HSET', KEYS[2], person, id)
redis.call('HSET', KEYS[3], id, deadline .. ':' .. quota .. ':' .. fingerprint)
redis.call('ZADD', KEYS[4], deadline, id)
return {'held', deadline}
"""


class Evalsha:
    """One EVALSHA a request."""

    name: ClassVar[str] = "evalsha"
    title: ClassVar[str] = "one EVALSHA per request, redis-py's pool, appendfsync always"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.port = free_port()
        self._front = baseline_front(ground, __name__, self.port)

    @property
    def pids(self) -> dict[str, int]:
        return {"front": pid_of(self._front)}

    async def start(self) -> None:
        async with redis_asyncio.Redis.from_url(self._ground.redis_url) as client:
            await client.hset(QUOTAS, mapping=dict.fromkeys(self._ground.quotas, self._ground.capacity))
        await start_on(self._front, self._ground.cores.front)

    async def stop(self) -> None:
        await self._front.stop()

    async def settle(self) -> None:
        """Nothing is left to do."""

    async def held(self) -> int | None:
        async with redis_asyncio.Redis.from_url(self._ground.redis_url) as client:
            left = sum(int(places) for places in await client.hvals(QUOTAS))
        return self._ground.capacity * len(self._ground.quotas) - left


# -- the front, in its own process -------------------------------------------------------------------------------


class Applicant(msgspec.Struct):
    nik: str
    name: str
    birth_date: str


class ClaimBody(msgspec.Struct):
    quota: str
    applicants: list[Applicant]
    contact: dict[str, str]


def _hash(purpose: bytes, content: bytes) -> str:
    return hmac.digest(KEY, purpose + content, "sha256").hex()[:26]


async def make_app() -> web.Application:
    pool = redis_asyncio.ConnectionPool.from_url(os.environ[REDIS_URL_VARIABLE], max_connections=CONNECTIONS_MAX)
    client = redis_asyncio.Redis(connection_pool=pool)
    sha = await client.script_load(CLAIM)
    decoder = msgspec.json.Decoder(ClaimBody)
    total_bytes = body_bytes()

    async def claim(request: web.Request) -> web.Response:
        body = await request.read()
        wanted = decoder.decode(body)
        person = _hash(b"person", wanted.applicants[0].nik.encode())
        reservation_id = _hash(b"reservation", (person + request.headers["Idempotency-Key"]).encode())
        reply: Any = await client.evalsha(
            sha,
            4,
            *(QUOTAS, PERSONS, RESERVATIONS, DEADLINES),
            *(reservation_id, wanted.quota, person, _hash(b"fingerprint", body), str(HOLD_MS)),
        )
        if reply[0] not in (b"held", b"exists"):
            return web.json_response({"outcome": reply[0].decode()}, status=409)
        deadline_ms = int(reply[1].partition(b":")[0])
        answer = {"id": reservation_id, "status": "held", "quota": wanted.quota, "hold_expires_at": deadline_ms}
        text = msgspec.json.encode({**answer, "padding": ""})
        text = text[:-2] + b"x" * (total_bytes - len(text)) + b'"}'
        return web.Response(status=201, body=text, content_type="application/json")

    async def close(_app: web.Application) -> None:
        await client.aclose()
        await pool.disconnect()

    app = web.Application()
    app.router.add_post("/v1/reservations", claim)
    app.on_cleanup.append(close)
    return app


if __name__ == "__main__":
    Baseline(make_app).run()
