"""A whole running service for tests of the promises under load."""

from collections.abc import Iterator

import pytest

from loadtest.stage.service import Service, running_service

QUOTAS = 10
PLACES = 10  # in each


@pytest.fixture
def service() -> Iterator[Service]:
    """Two fronts, a recorder and both servers, with 100 places in 10 quotas open."""
    with running_service(quotas=QUOTAS, places=PLACES, processes=2) as running:
        yield running
