"""Views of the ledger, which fronts and workers need and commands do not."""

from reservasi.availability import Availability
from reservasi.bootstrap.commands import Operations


def open_view(operations: Operations) -> Availability:
    """A view that follows no program yet; the caller closes it."""
    return Availability(
        operations.ledgers.connection,
        operations.ledgers.journal_of_views,
        server_of=operations.servers.name_of,
        stale_ms=operations.settings.view_stale_ms,
    )
