"""The servers that we ship: a real Valkey and a real PostgreSQL, started by us in a data directory.

`occupied` ensures that one process uses a data directory; `EmbeddedValkey` and `EmbeddedPostgres` run the servers;
`embedded_redis_url` and `embedded_postgres_dsn` give their addresses to other processes. Linux only.
"""

from reservasi.embedded.binaries import postgres_binaries, valkey_binary
from reservasi.embedded.places import Places, embedded_postgres_dsn, occupied
from reservasi.embedded.postgres import EmbeddedPostgres
from reservasi.embedded.users import embedded_redis_url
from reservasi.embedded.valkey import EmbeddedValkey

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "Places",
    "embedded_postgres_dsn",
    "embedded_redis_url",
    "occupied",
    "postgres_binaries",
    "valkey_binary",
]
