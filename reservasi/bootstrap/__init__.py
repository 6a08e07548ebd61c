"""Opening and closing the graph of objects, explicitly and in one place. Nothing is opened at import.

`open_front` builds what a front process needs, `open_worker` what the recorder process needs, `open_operations` what
a command of the command line needs. Each closes what it opened, in the reverse order.
"""

from reservasi.bootstrap.commands import Operations, open_operations, open_program, open_rebuilder, open_reconciler
from reservasi.bootstrap.fronts import open_front
from reservasi.bootstrap.ledgers import Ledgers
from reservasi.bootstrap.stores import postgres_dsn, redis_url, with_rights_of
from reservasi.bootstrap.worker import Worker, open_worker

__all__ = [
    "Ledgers",
    "Operations",
    "Worker",
    "open_front",
    "open_operations",
    "open_program",
    "open_rebuilder",
    "open_reconciler",
    "open_worker",
    "postgres_dsn",
    "redis_url",
    "with_rights_of",
]
