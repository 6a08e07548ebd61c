"""One partition a program of every table that grows with people, made when the program is stored.

A program's rows lie together, are vacuumed without the others', and leave at once when the program has ended. There is
no partition for "all others": while it exists, each new partition must lock it and search it for rows that belong to
the new one, and fails when it finds any. Without one nobody waits: attaching takes a lock that no reading or writing
of other programs meets. What names a program without partitions is refused as `SchemaMissing`, and is no dead letter.

Rights are looked up on the table that is named in a statement, so roles that have none on a partition work through
the table it belongs to, and partitions need no grants; only their owner makes them.
"""

import asyncpg

from reservasi.errors import ConfigurationError
from reservasi.records.pool import Connection

PARTITIONED = ("holds", "bookings", "applicants", "journal")
SCHEMA_KEY = 7_302_716_945_117_190_004  # advisory lock: one change of a database's schema at a time
LOCK_TIMEOUT_MS = 5_000  # give up rather than queue in front of running transactions
LITERAL = "SELECT quote_literal($1::text)"
STORED = "SELECT id FROM programs ORDER BY id"
ATTACHED = """
SELECT parent.relname FROM pg_inherits
JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class part ON part.oid = inhrelid
WHERE parent.relnamespace = current_schema()::regnamespace AND part.relname = ANY($1::text[])
"""
LIKE_THE_TABLE = 'CREATE TABLE "{partition}" (LIKE {table} INCLUDING ALL)'
ATTACH = 'ALTER TABLE {table} ATTACH PARTITION "{partition}" FOR VALUES IN ({program})'


def partition(table: str, program: str) -> str:
    """The name of a program's part of a table: no other program's, index's or table's, and short enough to be kept.

    Ids have no underscore, so what PostgreSQL appends to name an index gives no other program's name.
    """
    return f"{table}_of_{program}"


async def make_room(connection: Connection, program: str) -> None:
    """Create the partitions that the program lacks, in one transaction that the caller may have begun.

    This is the owner's right. A program that is not stored can be recorded then as well.

    Raises:
        ConfigurationError: tables of that name are there and no partitions: what an ended program left.
        asyncpg.LockNotAvailableError: somebody changes the schema for longer than the timeout.
    """
    if not await _missing(connection, program):
        return
    literal = await connection.fetchval(LITERAL, program)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS:d}")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", SCHEMA_KEY)
        for table in await _missing(connection, program):
            names = {"table": table, "partition": partition(table, program), "program": literal}
            try:
                await connection.execute(LIKE_THE_TABLE.format(**names))
            except asyncpg.DuplicateTableError as error:
                raise ConfigurationError(
                    f"{program}: a table {names['partition']} is kept of an ended program: choose another id"
                ) from error
            await connection.execute(ATTACH.format(**names))


async def make_room_for_all(connection: Connection) -> None:
    """The same for every program that is stored; such as those of a version that knew no partitions."""
    for row in await connection.fetch(STORED):
        await make_room(connection, row["id"])


async def _missing(connection: Connection, program: str) -> list[str]:
    names = [partition(table, program) for table in PARTITIONED]
    attached = {row[0] for row in await connection.fetch(ATTACHED, names)}
    return [table for table in PARTITIONED if table not in attached]
