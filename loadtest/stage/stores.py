"""Valkey and PostgreSQL of a run's own."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from reservasi.embedded import EmbeddedPostgres, EmbeddedValkey, Places

START_TIMEOUT_S = 60


@contextmanager
def data_directory() -> Iterator[Path]:
    """An empty directory that the servers' account can pass, gone with all that they left when the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="rv-load-"))
    directory.chmod(0o711)  # servers run as another account when we are root
    try:
        yield directory
    finally:
        for left in {Places.of(directory).run, directory}:
            shutil.rmtree(left, ignore_errors=True)


@asynccontextmanager
async def own_stores() -> AsyncIterator[tuple[EmbeddedValkey, EmbeddedPostgres]]:
    """Both of them, gone with all their data when the block ends."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(data_directory())
        valkey = EmbeddedValkey(directory, START_TIMEOUT_S)
        postgres = EmbeddedPostgres(directory, START_TIMEOUT_S)
        for server in (valkey, postgres):
            stack.push_async_callback(server.stop)
            await server.start()
        yield valkey, postgres
