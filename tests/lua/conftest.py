"""A new ledger for each test, on both shared servers."""

from collections.abc import AsyncIterator

import pytest

from tests import any_server
from tests.ledgers import Ledger, open_ledger

valkey_url = any_server.valkey_url


@pytest.fixture
async def ledger(valkey_url: str, program: str) -> AsyncIterator[Ledger]:
    """An owned, empty ledger."""
    async with open_ledger(valkey_url, program) as opened:
        yield opened
