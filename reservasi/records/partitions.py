"""One partition per program for every table that grows with the number of people, created when the program is stored.

A program's rows are stored together, vacuumed separately, and dropped at once when the program ends. There is no
DEFAULT partition: attaching a partition would then lock and scan the default one, and fail if it holds rows of the new
one. Without it, attaching takes a lock that does not block reads or writes of other programs. Rows of a program without
partitions are refused as `SchemaMissing`, and do not become dead letters.

PostgreSQL checks rights on the table that a statement names, so that partitions need no grants; only their owner
creates them.
"""

import asyncpg

from reservasi.errors import ConfigurationError
from reservasi.records.pool import Connection

PARTITIONED = ("holds", "bookings", "applicants", "journal")
SCHEMA_KEY = 7_302_716_945_117_190_004  # advisory lock: one schema change of a database at a time
LOCK_TIMEOUT_MS = 5_000  # give up rather than queue running transactions
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
    """The name of a program's partition of a table. It is unique and short enough not to be truncated.

    Ids have no underscore, so that the suffixes that PostgreSQL adds to index names cannot produce another program's
    name.
    """
    return f"{table}_of_{program}"


async def make_room(connection: Connection, program: str) -> None:
    """Create the partitions that the program lacks, in one transaction, which the caller may have begun.

    Requires the owner's rights. Also works for a program that is not stored.

    Raises:
        ConfigurationError: tables of that name exist that are not partitions: they belonged to an ended program.
        asyncpg.LockNotAvailableError: another schema change takes longer than the timeout.
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
                    f"{program}: a table {names['partition']} of an ended program is kept: choose another id"
                ) from error
            await connection.execute(ATTACH.format(**names))


async def make_room_for_all(connection: Connection) -> None:
    """Create the missing partitions of all stored programs, such as those stored by a version without partitions."""
    for row in await connection.fetch(STORED):
        await make_room(connection, row["id"])


async def _missing(connection: Connection, program: str) -> list[str]:
    names = [partition(table, program) for table in PARTITIONED]
    attached = {row[0] for row in await connection.fetch(ATTACHED, names)}
    return [table for table in PARTITIONED if table not in attached]
