"""Reads the schema revision of a database without loading the migration libraries, so that a check is fast."""

from pathlib import Path

import asyncpg
import msgspec

from reservasi.records.pool import CONNECT_TIMEOUT_S, unavailable

VERSIONS = Path(__file__).parent / "migrations" / "versions"
CURRENT = "SELECT version_num FROM alembic_version"


class SchemaState(msgspec.Struct, frozen=True, kw_only=True):
    """The schema revision of a database and the one that this program needs."""

    current: str  # revision; "" for an empty database
    wanted: str

    @property
    def up_to_date(self) -> bool:
        """Whether the database has the needed revision."""
        return self.current == self.wanted

    @property
    def newer(self) -> bool:
        """Whether a later version migrated the database. Revisions are numbers of four digits."""
        return self.current > self.wanted


def newest_revision() -> str:
    """The revision that this program needs: that of the last migration, whose file is `r<revision>_<what>.py`."""
    return max(path.name for path in VERSIONS.glob("r*_*.py"))[1:].partition("_")[0]


async def check(dsn: str) -> SchemaState:
    """Compare the database's revision with the needed one; changes nothing.

    Raises:
        RecordsUnavailable: no connection.
    """
    with unavailable():
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
        try:
            current = await connection.fetchval(CURRENT, timeout=CONNECT_TIMEOUT_S)
        except asyncpg.UndefinedTableError:
            current = None
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)
    return SchemaState(current=current or "", wanted=newest_revision())
