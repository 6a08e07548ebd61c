"""A ledger of each test's own, on the shared server."""

from collections.abc import AsyncIterator

import pytest

from tests.ledgers import Ledger, open_ledger


@pytest.fixture
async def ledger(valkey_url: str, program: str) -> AsyncIterator[Ledger]:
    """An owned, empty ledger."""
    async with open_ledger(valkey_url, program) as opened:
        yield opened
