"""The servers that the service ships and starts."""

import redis.asyncio as redis


async def test_the_fixture_answers(valkey_url: str, program: str) -> None:
    async with redis.Redis.from_url(valkey_url) as client:
        await client.set(program, "1")
        assert await client.get(program) == b"1"
