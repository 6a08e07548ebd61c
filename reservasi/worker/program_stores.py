"""A program's ledger and its records, as whoever makes one of them out of the other works with both."""

import msgspec

from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.stream import Journal
from reservasi.records import BookingCode, Records


class ProgramStores(msgspec.Struct, frozen=True, kw_only=True):
    """The two sides of one program."""

    program: str
    connection: LedgerConnection
    journal: Journal
    records: Records
    booking_code: BookingCode
    tombstone_ms: int  # how long the ledger remembers what has ended
