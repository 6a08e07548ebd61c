"""The servers that the service ships and starts."""

import asyncpg
import redis.asyncio as redis


async def test_the_run_has_both_servers(valkey_url: str, database: str, program: str) -> None:
    async with redis.Redis.from_url(valkey_url) as client:
        await client.set(program, "1")
        assert await client.get(program) == b"1"
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT current_user") == "reservasi"
    assert await connection.fetchval("SELECT current_database()") in database
    await connection.close()
