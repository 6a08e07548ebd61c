"""Differences of Debian's Redis 7.0, and how they are reported."""

from pathlib import Path

import pytest

from reservasi.bootstrap.commands import open_operations
from reservasi.bootstrap.fronts import open_front
from reservasi.bootstrap.worker import open_worker
from reservasi.cli.findings import server_findings
from reservasi.errors import ConfigurationError
from reservasi.ledger.topology.clients import open_client
from reservasi.ledger.topology.server_facts import read_facts
from reservasi.settings import Settings
from tests.any_server import NewLedgerServer
from tests.ledgers import claim, open_ledger, quota_set

pytestmark = pytest.mark.any_server
REDIS = "redis 7.0."


@pytest.fixture
async def settings(valkey_url: str, database: str, data_dir: Path) -> Settings:
    return Settings(redis_url=valkey_url, postgres_dsn=database, data_dir=data_dir)


async def _is_redis(url: str) -> bool:
    async with open_client(url) as client:
        facts = await read_facts(client)
    assert facts.recent_enough
    return facts.version.startswith(REDIS)


async def test_each_kind_of_server_is_what_it_is_called(valkey_url: str, request: pytest.FixtureRequest) -> None:
    assert await _is_redis(valkey_url) == ("redis-7.0" in request.node.callspec.id)


async def test_a_server_without_waitaof_is_not_asked_to_acknowledge_by_it(settings: Settings) -> None:
    asking = settings.model_copy(update={"aof_ack": "local"})
    if not await _is_redis(settings.redis_url):
        async with open_front(asking), open_worker(asking):
            return
    for opened in (open_front(asking), open_worker(asking)):
        with pytest.raises(ConfigurationError, match=r"aof_ack = local needs WAITAOF, which redis 7\.0\.\d+ does not"):
            async with opened:
                pass
    async with open_front(settings), open_worker(settings):
        pass
    async with open_operations(asking) as operations:
        assert [each.check for each in await server_findings(operations) if not each.ok] == ["WAITAOF"]


async def test_a_default_user_without_rights_is_named_before_a_restart_forgets_everything(
    settings: Settings, data_dir: Path, program: str, ledger_server: NewLedgerServer
) -> None:
    server = ledger_server(data_dir / "other", 60)
    await server.start()
    try:
        async with open_operations(settings.model_copy(update={"redis_url": server.url})) as operations:
            assert [each.check for each in await server_findings(operations) if not each.ok] == []
            async with open_ledger(server.url, program) as ledger:
                await ledger.run(quota_set(), claim())
                before = await ledger.entries()
                await ledger.connection.drop()
                await server.stop()
                await server.start()
                assert await ledger.entries() == before
                await ledger.client.acl_setuser("default", enabled=False, reset_keys=True, categories=["-@all"])
            assert [each.check for each in await server_findings(operations) if not each.ok] == ["replay"]
    finally:
        await server.stop()
