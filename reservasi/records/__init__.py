"""The records: everything that PostgreSQL stores, enough to rebuild the ledger from nothing.

`upgrades` is not imported here: only commands that change the schema need the migration libraries.
"""

from reservasi.records.audit import AuditQuery, AuditRow
from reservasi.records.bookings import BookingRow, HoldRow, LiveRow
from reservasi.records.catalogue import QuotaRow
from reservasi.records.dead_letters import Letter, LetterOutcome, LetterPosition, Tried
from reservasi.records.ownership import EpochRow, OwnedRun
from reservasi.records.pool import Lead
from reservasi.records.removal import Removed
from reservasi.records.restoration import KnownEvents, Restored
from reservasi.records.staff import StaffChange, StaffRow
from reservasi.records.standing import JournalRow, Standing
from reservasi.records.store import Records
from reservasi.records.transaction import Batch, DeadLetter, Recorded
from reservasi.records.writes import BookingCode

__all__ = [
    "AuditQuery",
    "AuditRow",
    "Batch",
    "BookingCode",
    "BookingRow",
    "DeadLetter",
    "EpochRow",
    "HoldRow",
    "JournalRow",
    "KnownEvents",
    "Lead",
    "Letter",
    "LetterOutcome",
    "LetterPosition",
    "LiveRow",
    "OwnedRun",
    "QuotaRow",
    "Recorded",
    "Records",
    "Removed",
    "Restored",
    "StaffChange",
    "StaffRow",
    "Standing",
    "Tried",
]
