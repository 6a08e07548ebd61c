"""A program's ledger and records, for code that makes one out of the other."""

import msgspec

from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.stream import Journal
from reservasi.records import BookingCode, Records


class ProgramStores(msgspec.Struct, frozen=True, kw_only=True):
    """The two stores of one program."""

    program: str
    connection: LedgerConnection
    journal: Journal
    records: Records
    booking_code: BookingCode
    tombstone_ms: int  # how long the ledger keeps ended reservations
