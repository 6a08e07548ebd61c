"""What the rivals share that send one EVALSHA a request: the Lua script, and the keys that it works on."""

from typing import Any, NamedTuple

import redis.asyncio as redis_asyncio

from loadtest.bench.ground import CAPACITY
from loadtest.bench.turns import WrongResult
from loadtest.bench.variants.essentials import HOLD_MS, Claim, Verdict
from loadtest.bench.variants.variant import Rival

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


class Keys(NamedTuple):
    """The keys of one rival, in the order of the script."""

    quotas: str  # hash: quota -> places left
    persons: str  # hash: person -> reservation id
    reservations: str  # hash: reservation id -> "<deadline>:<quota>:<fingerprint>"
    deadlines: str  # sorted set: reservation id by deadline

    @classmethod
    def of(cls, variant: str) -> "Keys":
        return cls(*(f"{{bench-{variant}}}:{field}" for field in cls._fields))


def arguments(sha: str, keys: tuple[str, ...], claim: Claim) -> tuple[str | int, ...]:
    """What follows EVALSHA."""
    return (sha, len(keys), *keys, claim.reservation_id, claim.quota, claim.person, claim.fingerprint, str(HOLD_MS))


def verdict(reply: Any) -> Verdict:
    """What the script's reply says."""
    return Verdict(reply[0].decode(), int(reply[1].partition(b":")[0]) if len(reply) > 1 else 0)


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
