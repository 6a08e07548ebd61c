"""What a ledger must hold according to the records: all live reservations, and ended ones that are still remembered.

Read in one transaction, so that it is the state at one position, and in pages, so that memory is bounded.
"""

from collections.abc import AsyncIterator

import asyncpg
import msgspec

from reservasi.contents import EndedReservation, KeptReservation
from reservasi.model import Opening, Position, State
from reservasi.records.catalogue import QuotaRow, load_quotas, load_retired
from reservasi.records.openings import load_openings
from reservasi.records.ownership import REMOVED_RUN
from reservasi.records.pool import Connection
from reservasi.records.transaction import stored_position

PAGE_ROWS = 1000
COUNT_LIVE = """
SELECT (SELECT count(*) FROM holds WHERE program = $1)
  + (SELECT count(*) FROM bookings WHERE program = $1 AND state = 'confirmed' AND retired_at_ms = 0)
"""
PERSONS = """
ARRAY(SELECT a.person FROM applicants a WHERE a.program = $1 AND a.reservation_id = r.reservation_id
  AND a.held_epoch = {epoch} AND a.held_seq = {seq} ORDER BY a.position) AS persons
"""
HOLDS = f"""
SELECT reservation_id, quota, 'held' AS state, fingerprint, deadline_ms, seq AS held_seq, seq, '' AS payment_reference,
  {PERSONS.format(epoch="r.epoch", seq="r.seq")}
FROM holds r WHERE program = $1
"""  # noqa: S608 - constants of this file
BOOKINGS = f"""
SELECT reservation_id, quota, state, fingerprint, deadline_ms, held_seq, seq, payment_reference,
  greatest(ended_at_ms, retired_at_ms) AS ended_at_ms,
  {PERSONS.format(epoch="r.held_epoch", seq="r.held_seq")}
FROM bookings r WHERE program = $1
"""  # noqa: S608 - the same
CONFIRMED = f"{BOOKINGS} AND state = 'confirmed' AND retired_at_ms = 0"
CANCELLED = f"{BOOKINGS} AND state = 'cancelled' AND ended_at_ms > $2"
RETIRED = f"{BOOKINGS} AND retired_at_ms > $2"
LONGEST = """
SELECT coalesce(max(hold_ms), 0) AS hold_ms, coalesce(max(return_max_ms), 0) AS return_ms
FROM quotas WHERE program = $1 AND (retired_at_ms = 0 OR retired_at_ms > $2)
"""
LAST_ENTRY_AT = "SELECT at_ms FROM journal WHERE program = $1 ORDER BY epoch DESC, first_seq DESC LIMIT 1"
JOURNAL = """
SELECT first_seq, last_seq, at_ms, chain, payload FROM (
  SELECT epoch, first_seq, last_seq, at_ms, chain, payload FROM journal WHERE program = $1 AND at_ms >= $2
  UNION ALL
  SELECT epoch, first_seq, first_seq, at_ms, '', payload FROM restored_events WHERE program = $1 AND at_ms >= $2
) AS entries ORDER BY epoch, first_seq
"""
JOURNAL_AFTER = """
SELECT first_seq, last_seq, at_ms, chain, payload FROM journal WHERE program = $1 AND last_seq > $2
ORDER BY epoch, first_seq
"""
CHAIN_AT = "SELECT chain FROM journal WHERE program = $1 AND last_seq = $2"
GAPS = """
SELECT count(*) FROM (
  SELECT first_seq, lag(last_seq, 1, 0::bigint) OVER (ORDER BY epoch, first_seq) AS before
  FROM journal WHERE program = $1
) AS entries
WHERE first_seq - before <> 1 AND NOT EXISTS (
  SELECT FROM restorations r WHERE r.program = $1 AND r.last_seq = before AND r.next_seq = first_seq
)
"""


REMOVED_AT = "SELECT coalesce(max(base_seq), -1) FROM epochs WHERE program = $1 AND run_id = $2"


class JournalRow(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded entry with the ledger's packed payload."""

    first_seq: int
    last_seq: int
    at_ms: int
    chain: str
    payload: bytes


class Standing:
    """One program's records at one position; valid during the transaction in which it was read."""

    def __init__(self, connection: Connection, program: str, position: Position | None) -> None:
        self.position = position
        self._connection = connection
        self._program = program

    @classmethod
    async def read(cls, connection: Connection, program: str) -> "Standing":
        """Begin to read, in a transaction that sees one state."""
        return cls(connection, program, await stored_position(connection, program))

    async def count_live(self) -> int:
        """How many reservations are held or confirmed."""
        return int(await self._connection.fetchval(COUNT_LIVE, self._program))

    async def quotas(self) -> list[QuotaRow]:
        """The quotas in the ledger."""
        return await load_quotas(self._connection, self._program)

    async def retired_quotas(self, since_ms: int) -> list[QuotaRow]:
        """The quotas that left the ledger after `since_ms`."""
        return await load_retired(self._connection, self._program, since_ms)

    async def longest_ms(self, since_ms: int) -> tuple[int, int]:
        """The longest hold, and the longest time until a place returns, of the quotas in the ledger since then."""
        ((hold_ms, return_ms),) = await self._connection.fetch(LONGEST, self._program, since_ms)
        return hold_ms, return_ms

    async def openings(self) -> list[Opening]:
        return await load_openings(self._connection, self._program)

    async def live(self) -> AsyncIterator[list[tuple[str, KeptReservation]]]:
        """All held and confirmed reservations, page by page."""
        for query in (HOLDS, CONFIRMED):
            async for page in self._pages(query):
                yield [(row["reservation_id"], _kept(row)) for row in page]

    async def ended_bookings(self, since_ms: int) -> AsyncIterator[list[EndedReservation]]:
        """The bookings that were cancelled or retired after `since_ms`, page by page."""
        for query, state in ((CANCELLED, State.CANCELLED), (RETIRED, State.RETIRED)):
            async for page in self._pages(query, since_ms):
                yield [
                    EndedReservation(
                        reservation_id=row["reservation_id"],
                        reservation=msgspec.structs.replace(_kept(row), state=state),
                        ended_at_ms=row["ended_at_ms"],
                    )
                    for row in page
                ]

    async def last_entry_at_ms(self) -> int:
        """When the last recorded entry was accepted; 0 if there is none."""
        return int(await self._connection.fetchval(LAST_ENTRY_AT, self._program) or 0)

    async def removed_seq(self) -> int:
        """The last seq before the program was removed; -1 if it never was."""
        return int(await self._connection.fetchval(REMOVED_AT, self._program, REMOVED_RUN))

    async def journal(self, since_ms: int) -> AsyncIterator[JournalRow]:
        """The entries accepted since, in order, and the restored events of missing entries."""
        async for page in self._pages(JOURNAL, since_ms):
            for row in page:
                yield JournalRow(**row)

    async def journal_after(self, seq: int) -> AsyncIterator[JournalRow]:
        """The entries with changes after that seq, in order."""
        async for page in self._pages(JOURNAL_AFTER, seq):
            for row in page:
                yield JournalRow(**row)

    async def chains_at(self, seq: int) -> set[str]:
        """The chain hash of the entry that ends at that seq, if there is one."""
        return {row["chain"] for row in await self._connection.fetch(CHAIN_AT, self._program, seq)}

    async def gaps(self) -> int:
        """How many entries do not begin where the previous one ends, except for gaps left by a restoration."""
        return int(await self._connection.fetchval(GAPS, self._program))

    async def _pages(self, query: str, *arguments: object) -> AsyncIterator[list[asyncpg.Record]]:
        cursor = await self._connection.cursor(query, self._program, *arguments)
        while page := await cursor.fetch(PAGE_ROWS):
            yield page


def _kept(row: asyncpg.Record) -> KeptReservation:
    return KeptReservation(
        quota=row["quota"],
        state=State(row["state"]),
        fingerprint=row["fingerprint"],
        deadline_ms=row["deadline_ms"],
        held_seq=row["held_seq"],
        seq=row["seq"],
        reference=row["payment_reference"],
        persons=tuple(row["persons"]),
    )
