"""The rows that the recorder wrote, written again by PostgreSQL's own fastest ways."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

TABLES = ("bookings", "applicants", "journal")
COUNTED = """
UPDATE quotas SET booked = booked + taken.places
FROM (SELECT quota, count(*) AS places FROM unnest($2::text[]) AS quota GROUP BY quota) AS taken
WHERE quotas.program = $1 AND quotas.id = taken.quota
"""
MOVED = "UPDATE positions SET seq = seq + $2, updated_at = now() WHERE program = $1"
FIRST = "INSERT INTO positions (program, epoch, seq, chain) VALUES ($1, 1, 0, '')"


class Rows:
    """What one program's bookings consist of, in the batches of the recorder."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", program: str, per_transaction: int) -> None:
        self._connection = connection
        self._program = program
        self._per_transaction = per_transaction
        self._inserts: dict[str, str] = {}
        self._names: dict[str, list[str]] = {}
        self._columns: dict[str, list[list[Sequence[Any]]]] = {}  # of each table, by batch
        self._bookings: list[list[tuple[Any, ...]]] = []  # the rows of each batch, for COPY
        self._quotas: list[tuple[Any, ...]] = []
        self._quota_names: list[str] = []

    @classmethod
    @asynccontextmanager
    async def opened(cls, dsn: str, program: str, per_transaction: int) -> AsyncIterator["Rows"]:
        """On a connection of its own; so many bookings are written in one transaction."""
        connection = await asyncpg.connect(dsn)
        try:
            yield cls(connection, program, per_transaction)
        finally:
            await connection.close()

    async def read(self, bookings: int) -> None:
        """Read what the recorder wrote for so many bookings, and arrange it in advance."""
        transactions = -(-bookings // self._per_transaction)
        for table in TABLES:
            types = await self._connection.fetch(
                "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
                " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                table,
            )
            names = self._names[table] = [row["attname"] for row in types]
            arrays = ", ".join(f"${number}::{row['type']}[]" for number, row in enumerate(types, start=1))
            self._inserts[table] = f"INSERT INTO {table} ({', '.join(names)}) SELECT * FROM unnest({arrays})"  # noqa: S608
            found = await self._connection.fetch(f"SELECT * FROM {table} WHERE program = $1", self._program)  # noqa: S608
            share = -(-len(found) // transactions)
            parts = [found[first : first + share] for first in range(0, len(found), share)]
            self._columns[table] = [[list(column) for column in zip(*part, strict=True)] for part in parts]
            if table == "bookings":
                self._bookings = [[tuple(row) for row in part] for part in parts]
        quotas = await self._connection.fetch("SELECT * FROM quotas WHERE program = $1", self._program)
        self._quota_names = list(quotas[0].keys())
        self._quotas = [tuple({**dict(row), "booked": 0}.values()) for row in quotas]

    async def clear(self) -> None:
        """Take everything of the program out again."""
        async with self._connection.transaction():
            await self._connection.execute(f"TRUNCATE {', '.join(TABLES)}, holds")
            for table in ("quotas", "positions"):
                await self._connection.execute(f"DELETE FROM {table} WHERE program = $1", self._program)  # noqa: S608

    async def check(self, bookings: int) -> None:
        """Every booking is there.

        Raises:
            RuntimeError: one is not.
        """
        found = await self._connection.fetchval("SELECT count(*) FROM bookings WHERE program = $1", self._program)
        if found != bookings:
            raise RuntimeError(f"{found} bookings instead of {bookings}")

    async def unnest_everywhere(self) -> float:
        """All tables, the counts and the position in each transaction; the seconds that it took."""
        await self._connection.copy_records_to_table("quotas", records=self._quotas, columns=self._quota_names)
        await self._connection.execute(FIRST, self._program)
        quota_column = self._names["bookings"].index("quota")
        started_s = time.perf_counter()
        for number, bookings in enumerate(self._columns["bookings"]):
            async with self._connection.transaction():
                for table in TABLES:
                    if number < len(self._columns[table]):
                        await self._connection.execute(self._inserts[table], *self._columns[table][number])
                await self._connection.execute(COUNTED, self._program, bookings[quota_column])
                await self._connection.execute(MOVED, self._program, len(bookings[0]))
        return time.perf_counter() - started_s

    async def unnest_bookings(self) -> float:
        """The bookings alone, one statement a transaction; the seconds that it took."""
        started_s = time.perf_counter()
        for columns in self._columns["bookings"]:
            await self._connection.execute(self._inserts["bookings"], *columns)
        return time.perf_counter() - started_s

    async def copy_bookings(self) -> float:
        """The same by COPY."""
        started_s = time.perf_counter()
        for rows in self._bookings:
            await self._connection.copy_records_to_table("bookings", records=rows, columns=self._names["bookings"])
        return time.perf_counter() - started_s
