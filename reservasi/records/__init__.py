"""The records: what PostgreSQL remembers, and enough of it to rebuild the ledger from nothing."""

from reservasi.records.bookings import BookingRow, HoldRow
from reservasi.records.catalogue import QuotaRow, StaffRow
from reservasi.records.pool import Lead
from reservasi.records.recording import DeadLetter, Recorded
from reservasi.records.store import Records
from reservasi.records.upgrades import SchemaState, check, upgrade
from reservasi.records.writes import BookingCode

__all__ = [
    "BookingCode",
    "BookingRow",
    "DeadLetter",
    "HoldRow",
    "Lead",
    "QuotaRow",
    "Recorded",
    "Records",
    "SchemaState",
    "StaffRow",
    "check",
    "upgrade",
]
