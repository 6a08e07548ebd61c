"""A whole running service for tests of the promises under load."""

from collections.abc import Iterator

import pytest

from loadtest.stage.service import Service, running_service
from tests.fronts import FRONTS, offered_by_all

QUOTAS = 10
PLACES = 10  # in each


@pytest.fixture
def service() -> Iterator[Service]:
    """Two fronts, a recorder and both servers, with 100 places in 10 quotas open."""
    with running_service(quotas=QUOTAS, places=PLACES, processes=FRONTS) as running:
        offered_by_all(running, QUOTAS)
        yield running
