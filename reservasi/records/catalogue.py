"""Programs and their quotas in the records."""

import asyncpg
import msgspec

from reservasi.model import QuotaTerms
from reservasi.programs import Program
from reservasi.records.partitions import make_room
from reservasi.records.pool import Connection

SAVE_PROGRAM = """
INSERT INTO programs (id, spec) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, updated_at = now() WHERE programs.spec <> excluded.spec
"""
PROGRAMS = "SELECT spec::text AS spec FROM programs ORDER BY id"
QUOTAS = """
SELECT id, office, service, channel, coalesce(slot_date::text, '') AS slot_date, slot_start, slot_end, capacity, booked,
  opens_at_ms, closes_at_ms, cancel_until_ms, hold_ms, return_min_ms, return_max_ms, closed, version, imported,
  retired_at_ms
FROM quotas WHERE program = $1
"""
IN_LEDGER = f"{QUOTAS} AND retired_at_ms = 0 ORDER BY id"
RETIRED_SINCE = f"{QUOTAS} AND retired_at_ms > $2 ORDER BY id"
ONE = f"{QUOTAS} AND id = $2"


class QuotaRow(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded quota."""

    id: str
    terms: QuotaTerms
    booked: int  # places of confirmed reservations that are not retired
    version: int
    imported: tuple[int, ...] = ()  # `model.Quota.imported`
    retired_at_ms: int = 0  # 0: it is in the ledger


async def save_program(connection: Connection, program: Program) -> None:
    """Store a program, replacing the one with the same id, and create its partitions. Requires the owner's rights.

    Raises:
        ConfigurationError: the id belonged to an archived program.
    """
    async with connection.transaction():
        await make_room(connection, program.id)
        await connection.execute(SAVE_PROGRAM, program.id, msgspec.json.encode(program).decode())


async def load_programs(connection: Connection) -> list[Program]:
    """All programs, by id."""
    return [msgspec.json.decode(row["spec"], type=Program) for row in await connection.fetch(PROGRAMS)]


async def load_quotas(connection: Connection, program: str) -> list[QuotaRow]:
    """The recorded quotas of a program that are in its ledger, by id."""
    return [_quota(row) for row in await connection.fetch(IN_LEDGER, program)]


async def load_retired(connection: Connection, program: str, since_ms: int) -> list[QuotaRow]:
    """The quotas that were retired after `since_ms`."""
    return [_quota(row) for row in await connection.fetch(RETIRED_SINCE, program, since_ms)]


async def find_quota(connection: Connection, program: str, quota: str) -> QuotaRow | None:
    """One recorded quota, also when it has left the ledger."""
    row = await connection.fetchrow(ONE, program, quota)
    return None if row is None else _quota(row)


def _quota(row: asyncpg.Record) -> QuotaRow:
    return QuotaRow(
        id=row["id"],
        booked=row["booked"],
        version=row["version"],
        imported=tuple(row["imported"]),
        retired_at_ms=row["retired_at_ms"],
        terms=QuotaTerms(
            capacity=row["capacity"],
            opens_at_ms=row["opens_at_ms"],
            closes_at_ms=row["closes_at_ms"],
            cancel_until_ms=row["cancel_until_ms"],
            hold_ms=row["hold_ms"],
            return_min_ms=row["return_min_ms"],
            return_max_ms=row["return_max_ms"],
            closed=row["closed"],
            office=row["office"],
            service=row["service"],
            channel=row["channel"],
            date=row["slot_date"],
            start=row["slot_start"],
            end=row["slot_end"],
        ),
    )
