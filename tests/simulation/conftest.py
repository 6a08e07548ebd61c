"""One Valkey for all runs: each empties it before it begins."""

from collections.abc import Iterator

import pytest

from tests.simulation.server import Server, running_valkey


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A Valkey that is asked synchronously."""
    with running_valkey() as url:
        server = Server(url)
        yield server
        server.close()
