"""A deployment accepts only the key ring with which it began."""

from pathlib import Path

import pytest

from reservasi.bootstrap.commands import open_operations
from reservasi.errors import ConfigurationError, RecordsUnavailable
from reservasi.settings import Settings


@pytest.fixture
async def settings(valkey_url: str, database: str, data_dir: Path) -> Settings:
    return Settings(redis_url=valkey_url, postgres_dsn=database, data_dir=data_dir)


async def test_a_new_deployment_makes_its_key_ring_once(settings: Settings) -> None:
    async with open_operations(settings) as first, open_operations(settings) as second:
        assert first.sealing.person("p", "1") == second.sealing.person("p", "1")
    assert settings.secrets_path.stat().st_mode & 0o777 == 0o600


async def test_another_host_with_a_ring_of_its_own_is_refused(settings: Settings, tmp_path: Path) -> None:
    async with open_operations(settings):
        pass
    stranger = settings.model_copy(update={"data_dir": tmp_path})
    with pytest.raises(ConfigurationError, match="missing"):
        async with open_operations(stranger):
            pass
    assert not stranger.secrets_path.exists(), "a second ring would let a person claim twice"
    (tmp_path / "other").mkdir()
    other = Settings(data_dir=tmp_path / "other", redis_url=settings.redis_url, postgres_dsn=settings.postgres_dsn)
    other.secrets_path.write_bytes(settings.secrets_path.read_bytes())
    async with open_operations(other):
        pass
    ring = other.secrets_path.read_text()
    at = ring.index('"identity":"') + len('"identity":"')
    other.secrets_path.write_text(ring[:at] + ("A" if ring[at] != "A" else "B") + ring[at + 1 :])
    with pytest.raises(ConfigurationError, match="not the one of this deployment"):
        async with open_operations(other):
            pass


async def test_a_lost_ring_is_said_and_not_replaced(settings: Settings) -> None:
    async with open_operations(settings):
        pass
    settings.secrets_path.unlink()
    with pytest.raises(ConfigurationError, match="restore it"):
        async with open_operations(settings):
            pass
    assert not settings.secrets_path.exists()


async def test_nothing_is_made_where_no_database_answers(data_dir: Path, valkey_url: str) -> None:
    nowhere = Settings(data_dir=data_dir / "wrong", redis_url=valkey_url)
    with pytest.raises(RecordsUnavailable):
        async with open_operations(nowhere):
            pass
    assert not nowhere.data_dir.exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("redis_url", "http://127.0.0.1"), ("redis_url", "nonsense"), ("postgres_dsn", "mysql://a/b")],
)
async def test_an_address_of_another_kind_is_said_clearly(settings: Settings, setting: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        async with open_operations(settings.model_copy(update={setting: value})):
            pass


async def test_where_no_service_runs_it_says_what_to_do(data_dir: Path) -> None:
    with pytest.raises(RecordsUnavailable, match="start `reservasi up`"):
        async with open_operations(Settings(data_dir=data_dir)):
            pass
