"""The ledger of tests that run on the shipped Valkey and again on Debian's Redis 7.0.

They are marked `any_server`, or in `tests/lua/`; the `conftest.py` of their directory takes its `valkey_url` from here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from reservasi.embedded import EmbeddedValkey
from tests.debian import DebianRedis

LedgerServer: TypeAlias = EmbeddedValkey | DebianRedis
NewLedgerServer: TypeAlias = Callable[[Path, float], LedgerServer]
SERVERS: dict[str, NewLedgerServer] = {"valkey": EmbeddedValkey, "redis-7.0": DebianRedis}


@pytest.fixture
def valkey_url(valkey_url: str, ledger_server: NewLedgerServer, request: pytest.FixtureRequest) -> str:
    """The server of this test run that is of that kind."""
    if ledger_server is EmbeddedValkey:
        return valkey_url
    url: str = request.getfixturevalue("redis_url")
    return url
