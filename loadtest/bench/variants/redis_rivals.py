"""The rivals that send one EVALSHA per request: over redis-py's pool, or over one pipelined connection.

The recorded one adds a second store: the script queues each claim, and a worker writes it to PostgreSQL.
"""

import asyncio
import sys
from collections import deque
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import asyncpg
import hiredis
import msgpack
import redis.asyncio as redis_asyncio
from aiohttp import web

from loadtest.bench.figures import WrongResult
from loadtest.bench.ground import CAPACITY, Ground
from loadtest.bench.variants.plpgsql_batches import counts, create
from loadtest.bench.variants.variant import HOLD_MS, Baseline, Claim, Rival, Verdict, claim_app, quieten_backends
from loadtest.stage.cores import yield_to_others

CONNECTIONS_MAX = 256  # with more than so many requests in flight redis-py refuses
SCHEMA = "bench_recorded"
QUEUE = "{bench-pipelined_recorded}:queue"
ROWS_MAX = 2000  # in one transaction
IDLE_S = 0.02
SETTLE_TIMEOUT_S = 120.0
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
# With a list at the end of the keys from which a worker records what was sold.
CLAIM_QUEUED = CLAIM.replace(
    "return {'held', deadline}", "redis.call('RPUSH', KEYS[5], cmsgpack.pack(ARGV))\nreturn {'held', deadline}"
)
# A worker that ended between the two stores finds rows that it has written.
INSERT = """
INSERT INTO reservations (id, quota, person, fingerprint, deadline_ms)
SELECT id, quota, person, fingerprint, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + hold_ms::bigint
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS a (id, quota, person, fingerprint, hold_ms)
ON CONFLICT (id) DO NOTHING
"""


class Keys(NamedTuple):
    quotas: str  # hash: quota -> places left
    persons: str  # hash: person -> reservation id
    reservations: str  # hash: reservation id -> "<deadline>:<quota>:<fingerprint>"
    deadlines: str  # sorted set: reservation id by deadline

    @classmethod
    def of(cls, variant: str) -> "Keys":
        return cls(*(f"{{bench-{variant}}}:{field}" for field in cls._fields))


class ScriptRival(Rival):
    """A rival whose places are in Redis, under keys of its name."""

    async def prepare(self) -> None:
        async with redis_asyncio.Redis.from_url(self.ground.redis_url) as client:
            await client.hset(Keys.of(self.name).quotas, mapping=dict.fromkeys(self.ground.quotas, CAPACITY))

    async def held(self) -> int:
        keys = Keys.of(self.name)
        async with redis_asyncio.Redis.from_url(self.ground.redis_url) as client:
            left = sum([int(places) for places in await client.hvals(keys.quotas)])
            records = {await client.hlen(keys.persons), await client.hlen(keys.reservations)}
        taken = CAPACITY * len(self.ground.quotas) - left
        if records != {taken}:
            raise WrongResult(f"{keys.quotas}: {taken} places are taken, and there are {records} records")
        return taken


class Evalsha(ScriptRival):
    name = "evalsha"
    title = "one EVALSHA per request, redis-py's pool, appendfsync always"


class Pipelined(ScriptRival):
    name = "pipelined"
    title = "one EVALSHA per request, one pipelined hiredis connection, appendfsync always"


class PipelinedRecorded(ScriptRival):
    name = "pipelined_recorded"
    title = "one EVALSHA per request, pipelined; a worker moves what is sold from a list into PostgreSQL"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.roles["worker"] = self.role("worker", sys.executable, "-m", __name__)

    async def prepare(self) -> None:
        await super().prepare()
        await create(self.ground.postgres_dsn, SCHEMA, {})

    async def settle(self) -> None:
        """Wait until the worker has emptied the queue."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S), redis_asyncio.Redis.from_url(self.ground.redis_url) as client:
            while await client.llen(QUEUE):  # noqa: ASYNC110 - a list has no event
                await asyncio.sleep(IDLE_S)
        yield_to_others(self.pids["worker"])  # as our own worker does
        await quieten_backends(self.ground.postgres_dsn, SCHEMA)

    async def held(self) -> int:
        taken = await super().held()
        rows, _ = await counts(self.ground.postgres_dsn, SCHEMA)
        if rows != taken:
            raise WrongResult(f"{SCHEMA}: {taken} places are taken, and there are {rows} rows")
        return taken


class Pipe(asyncio.Protocol):
    """Sends commands at once; replies resolve them in the order of sending."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a socket gives a Transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            future = self._waiting.popleft()
            if future.done():  # its request was given up
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionResetError("the server closed the connection"))

    def ask(self, *command: str | int) -> asyncio.Future[Any]:
        if self.transport is None:
            raise ConnectionResetError("the server closed the connection")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(future)
        self.transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub knows one item
        return future


async def evalsha() -> web.Application:
    client = redis_asyncio.Redis.from_url(Baseline.read().redis_url, max_connections=CONNECTIONS_MAX)
    sha = await client.script_load(CLAIM)
    keys = Keys.of(Evalsha.name)

    async def decide(claim: Claim) -> Verdict:
        return _verdict(await client.evalsha(*_arguments(sha, keys, claim)))  # type: ignore[arg-type]

    return claim_app(decide, client.aclose)


async def pipelined() -> web.Application:
    return await _pipelined(CLAIM, Keys.of(Pipelined.name))


async def pipelined_recorded() -> web.Application:
    return await _pipelined(CLAIM_QUEUED, (*Keys.of(PipelinedRecorded.name), QUEUE))


async def _pipelined(source: str, keys: tuple[str, ...]) -> web.Application:
    url = urlsplit(Baseline.read().redis_url)
    _, pipe = await asyncio.get_running_loop().create_unix_connection(Pipe, url.path)
    if url.username and url.password:
        await pipe.ask("AUTH", unquote(url.username), unquote(url.password))
    sha = (await pipe.ask("SCRIPT", "LOAD", source)).decode()

    async def decide(claim: Claim) -> Verdict:
        return _verdict(await pipe.ask("EVALSHA", *_arguments(sha, keys, claim)))

    async def close() -> None:
        if pipe.transport is not None:
            pipe.transport.close()

    return claim_app(decide, close)


def _arguments(sha: str, keys: tuple[str, ...], claim: Claim) -> tuple[str | int, ...]:
    return (sha, len(keys), *keys, claim.reservation_id, claim.quota, claim.person, claim.fingerprint, str(HOLD_MS))


def _verdict(reply: Any) -> Verdict:
    return Verdict(reply[0].decode(), int(reply[1].partition(b":")[0]) if len(reply) > 1 else 0)


async def record() -> None:
    """Move what is queued into PostgreSQL, for ever."""
    baseline, session = Baseline.read(), {"search_path": SCHEMA, "application_name": SCHEMA}
    connection = await asyncpg.connect(baseline.postgres_dsn, server_settings=session)
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
    asyncio.run(record())
