"""Opening and closing the graph of objects, explicitly and in one place. Nothing is opened at import.

`fronts.open_front` builds what a front process needs, `worker.open_worker` what a worker process needs, and
`open_operations` what a command of the command line needs. Each closes what it opened, in the reverse order. The first
two are not imported here, so that a command starts without them.
"""

from reservasi.bootstrap.commands import Operations, open_operations, open_program, open_rebuilder, open_reconciler
from reservasi.bootstrap.ledgers import Ledgers
from reservasi.bootstrap.stores import postgres_dsn, redis_url, with_rights_of

__all__ = [
    "Ledgers",
    "Operations",
    "open_operations",
    "open_program",
    "open_rebuilder",
    "open_reconciler",
    "postgres_dsn",
    "redis_url",
    "with_rights_of",
]
