"""The tables of the records, with the constraints that repeat the service's promises.

The migrations create these tables; a test compares the two. Columns named `..._ms` are milliseconds since the Unix
epoch by the ledger's clock, 0 for "none", exactly as in the journal, so that a ledger rebuilt from the records equals
the lost one. `epoch` and `seq` name the last event that wrote a row.

There are no foreign keys between the tables that the recorder writes: each would cost a look-up per row in its one
transaction. The same condition is checked once per batch (`writes.py`): a change that finds no quota, hold or booking
to apply to is a dead letter.

Tables that grow with the number of people are partitioned by program (`partitions.py`). A key of such a table must
contain the program; this weakens no key, since reservation ids begin with their program's tag, and everything else is
unique within a program. The reservation id comes first, so that it can be looked up without the program.
"""

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, ExcludeConstraint

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_unique",
        "ck": "%(table_name)s_%(constraint_name)s",
    }
)


def _moment(name: str) -> Column[object]:
    """A time by the database's clock."""
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


programs = Table(
    "programs",
    metadata,
    Column("id", Text, nullable=False),
    Column("spec", JSONB, nullable=False),  # `programs.Program`
    _moment("updated_at"),
    PrimaryKeyConstraint("id"),
)

quotas = Table(
    "quotas",
    metadata,
    Column("program", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("office", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("slot_date", Date),  # local to the office
    Column("slot_start", Text, nullable=False),  # "HH:MM", local to the office
    Column("slot_end", Text, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("booked", Integer, nullable=False, server_default=text("0")),  # confirmed places, not retired
    Column("opens_at_ms", BigInteger, nullable=False),
    Column("closes_at_ms", BigInteger, nullable=False),
    Column("cancel_until_ms", BigInteger, nullable=False),
    Column("hold_ms", BigInteger, nullable=False),
    Column("return_min_ms", BigInteger, nullable=False),
    Column("return_max_ms", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("imported", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),  # `model.Quota.imported`
    Column("retired_at_ms", BigInteger, nullable=False, server_default=text("0")),  # 0: it is in the ledger
    PrimaryKeyConstraint("program", "id"),
    CheckConstraint("booked >= 0", name="booked_not_negative"),
    CheckConstraint("booked <= capacity", name="never_oversold"),
    postgresql_with={"fillfactor": "70"},  # counts change often: leaves room for updates that touch no index
)

Index("quotas_in_ledger", quotas.c.program, quotas.c.id, postgresql_where=text("retired_at_ms = 0"))

# One row per opening, written as a whole with each change: `model.Opening`.
openings = Table(
    "openings",
    metadata,
    Column("program", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("opens_at_ms", BigInteger, nullable=False),
    Column("joins_from_ms", BigInteger, nullable=False),
    Column("ends_at_ms", BigInteger, nullable=False),
    Column("waiting_room", Boolean, nullable=False),
    Column("proof_of_work", Boolean, nullable=False),
    Column("first_rate_per_min", BigInteger, nullable=False),  # of the terms
    Column("rate_max_per_min", BigInteger, nullable=False),
    Column("adaptive", Boolean, nullable=False),
    Column("commitment", Text, nullable=False),
    Column("sealed_seed", Text, nullable=False),
    Column("offices", Text, nullable=False, server_default=""),  # ids, joined by commas; '' for all
    Column("beacon_source", Text, nullable=False, server_default=""),
    Column("version", BigInteger, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("beacon", Text, nullable=False),
    Column("drawn", Boolean, nullable=False),
    Column("joined", BigInteger, nullable=False),
    Column("arrived", BigInteger, nullable=False),
    Column("admitted_through", BigInteger, nullable=False),
    Column("rate_per_min", BigInteger, nullable=False),  # in force
    Column("rate_fixed", Boolean, nullable=False),
    Column("advanced_at_ms", BigInteger, nullable=False),
    Column("cancelled", Boolean, nullable=False, server_default=false()),
    Column("reason", Text, nullable=False, server_default=""),
    Column("reason_en", Text, nullable=False, server_default=""),
    Column("moved_from_ms", BigInteger, nullable=False, server_default="0"),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("revised_at_ms", BigInteger, nullable=False, server_default="0"),
    Column("paused_at_ms", BigInteger, nullable=False, server_default="0"),
    Column("retired_at_ms", BigInteger, nullable=False, server_default=text("0")),  # 0: it is in the ledger
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("program", "id"),
    # The ledger guarantees that no two openings of an office are at one moment; here it is checked after all rows of a
    # statement are written. Cancelled and retired openings do not count.
    ExcludeConstraint(
        ("program", "="),
        ("opens_at_ms", "="),
        ("offices", "="),
        name="openings_one_at_a_moment",
        using="btree",
        where=text("NOT cancelled AND retired_at_ms = 0"),
        deferrable=True,
        initially="IMMEDIATE",
    ),
    CheckConstraint("joined BETWEEN 0 AND arrived AND admitted_through BETWEEN 0 AND arrived", name="only_who_arrived"),
    postgresql_with={"fillfactor": "50"},  # the mark moves several times a second while a waiting room is open
)

holds = Table(
    "holds",
    metadata,
    Column("reservation_id", Text, nullable=False),
    Column("program", Text, nullable=False),
    Column("quota", Text, nullable=False),
    Column("places", SmallInteger, nullable=False),
    Column("deadline_ms", BigInteger, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("sealed", Text, nullable=False),
    Column("held_at_ms", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("reservation_id", "program"),
    CheckConstraint("places BETWEEN 1 AND 5", name="places_in_range"),
    postgresql_partition_by="LIST (program)",
)

# One row per confirmed reservation. The id alone is no key: its idempotency key may be used again a day after the first
# reservation was cancelled, so that the key includes the hold that began the reservation.
bookings = Table(
    "bookings",
    metadata,
    Column("reservation_id", Text, nullable=False),
    Column("held_epoch", BigInteger, nullable=False),
    Column("held_seq", BigInteger, nullable=False),
    Column("program", Text, nullable=False),
    Column("booking_code", Text, nullable=False),
    Column("quota", Text, nullable=False),
    Column("places", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("payment_reference", Text, nullable=False),
    Column("deadline_ms", BigInteger, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("sealed", Text, nullable=False),
    Column("held_at_ms", BigInteger, nullable=False),
    Column("confirmed_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger, nullable=False),
    Column("returns_at_ms", BigInteger, nullable=False),
    # when the ledger retired it, after its date
    Column("retired_at_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("reservation_id", "held_epoch", "held_seq", "program"),
    CheckConstraint("places BETWEEN 1 AND 5", name="places_in_range"),
    CheckConstraint("state IN ('confirmed', 'cancelled', 'attended', 'absent')", name="state_known"),
    CheckConstraint("(state = 'confirmed') = (ended_at_ms = 0)", name="ended_when_not_confirmed"),
    postgresql_partition_by="LIST (program)",
)

# The applicants of holds and bookings. Applicants of a hold that ended are removed; the journal still has them.
applicants = Table(
    "applicants",
    metadata,
    Column("reservation_id", Text, nullable=False),
    Column("held_epoch", BigInteger, nullable=False),
    Column("held_seq", BigInteger, nullable=False),
    Column("position", SmallInteger, nullable=False),  # 0 is the first applicant of the group
    Column("program", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("live", Boolean, nullable=False),
    PrimaryKeyConstraint("reservation_id", "held_epoch", "held_seq", "position", "program"),
    CheckConstraint("position BETWEEN 0 AND 4", name="position_in_range"),
    postgresql_partition_by="LIST (program)",
)
Index(
    "applicants_one_live_reservation",
    applicants.c.program,
    applicants.c.person,
    unique=True,
    postgresql_where=applicants.c.live,
)

positions = Table(
    "positions",
    metadata,
    Column("program", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("chain", Text, nullable=False),
    _moment("updated_at"),
    PrimaryKeyConstraint("program"),
    CheckConstraint("epoch >= 0 AND seq >= 0", name="not_negative"),
    postgresql_with={"fillfactor": "50"},  # one row per program, updated by every batch
)

journal = Table(
    "journal",
    metadata,
    Column("program", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("chain", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    PrimaryKeyConstraint("program", "epoch", "first_seq"),
    CheckConstraint("last_seq >= first_seq", name="not_empty"),
    postgresql_partition_by="LIST (program)",
)

# Every epoch under which a ledger was owned. A change of an older epoch counts only up to the base of the next one.
epochs = Table(
    "epochs",
    metadata,
    Column("program", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("base_seq", BigInteger, nullable=False),  # the last seq that it shares with the epoch before it
    Column("run_id", Text, nullable=False),  # of the server run that was owned
    _moment("at"),
    PrimaryKeyConstraint("program", "epoch"),
    CheckConstraint("epoch >= 1 AND base_seq >= 0", name="in_range"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, nullable=False, autoincrement=True),
    Column("program", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("reservation_id", Text),
    # json, not jsonb: an event may be here because of a NUL character, which jsonb refuses.
    Column("event", JSON, nullable=False),
    Column("error", Text, nullable=False),
    _moment("at"),
    Column("outcome", Text, nullable=False, server_default="open"),
    Column("closed_at", DateTime(timezone=True)),
    Column("closed_by", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),  # why a person settled it
    PrimaryKeyConstraint("id"),
    UniqueConstraint("program", "epoch", "seq"),
    CheckConstraint("outcome IN ('open', 'recorded', 'settled')", name="outcome_known"),
    CheckConstraint("(outcome = 'open') = (closed_at IS NULL)", name="closed_unless_open"),
)
Index(
    "dead_letters_open",
    dead_letters.c.program,
    dead_letters.c.epoch,
    dead_letters.c.seq,
    postgresql_where=text("outcome = 'open'"),
)

# Who changed a quota or an opening, or ended another person's reservation, when and why: one row per journaled event
# that names an actor or a reason. Changes by the public are not here.
audit = Table(
    "audit",
    metadata,
    Column("program", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("quota", Text),  # of a changed quota or an ended reservation
    Column("opening", Text),
    Column("reservation_id", Text),
    Column("after", JSONB, nullable=False),  # state after the change
    PrimaryKeyConstraint("program", "epoch", "seq"),
)
Index("audit_by_quota", audit.c.program, audit.c.quota, postgresql_where=audit.c.quota.isnot(None))
Index("audit_by_opening", audit.c.program, audit.c.opening, postgresql_where=audit.c.opening.isnot(None))

# Restorations: where records that were an older copy were completed from the ledger, and which seqs the journal lacks.
restorations = Table(
    "restorations",
    metadata,
    Column("program", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # position of the ledger
    Column("seq", BigInteger, nullable=False),
    Column("from_epoch", BigInteger, nullable=False),  # position of the records
    Column("from_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),  # of the last entry before the gap
    Column("next_seq", BigInteger, nullable=False),  # of the first change after the gap
    Column("bookings", BigInteger, nullable=False),
    Column("holds", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("without_envelope", BigInteger, nullable=False),
    _moment("at"),
    PrimaryKeyConstraint("program", "epoch", "seq"),
)

# Reservations that the ledger could not fully restore: the parts that their rows lack, separated by commas.
restored_reservations = Table(
    "restored_reservations",
    metadata,
    Column("program", Text, nullable=False),
    Column("reservation_id", Text, nullable=False),
    Column("held_epoch", BigInteger, nullable=False),
    Column("held_seq", BigInteger, nullable=False),
    Column("lacks", Text, nullable=False),
    PrimaryKeyConstraint("program", "reservation_id", "held_epoch", "held_seq"),
)

# Events of a gap that follow from the ledger's state: ended holds and returning places. Not part of the chain.
restored_events = Table(
    "restored_events",
    metadata,
    Column("program", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    PrimaryKeyConstraint("program", "epoch", "first_seq"),
)

staff = Table(
    "staff",
    metadata,
    Column("id", BigInteger, nullable=False, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("api_key_hash", Text, nullable=False),
    _moment("created_at"),
    Column("disabled_at", DateTime(timezone=True)),  # when it was revoked
    Column("scopes", ARRAY(Text), nullable=False, server_default=text("'{read}'")),  # `model.StaffScope`
    Column("programs", ARRAY(Text)),  # NULL: all
    Column("expires_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),  # written by fronts, at most once a minute
    Column("previous_hash", Text),  # of the secret before the last rotation
    Column("previous_until", DateTime(timezone=True)),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("api_key_hash"),
    UniqueConstraint("previous_hash"),
)
Index("staff_name_in_force", staff.c.name, unique=True, postgresql_where=staff.c.disabled_at.is_(None))

# Who changed a staff key: one row per change, written in the same transaction. A key may be valid for all programs, and
# its changes are in no journal, so that they are not rows of `audit`.
staff_changes = Table(
    "staff_changes",
    metadata,
    Column("id", BigInteger, nullable=False, autoincrement=True),
    _moment("at"),
    Column("actor", Text, nullable=False),
    Column("change", Text, nullable=False),  # added, renamed, rotated, revoked
    Column("staff_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),  # the key's name before the change
    Column("after", JSONB, nullable=False),  # state after the change; never a secret or its hash
    PrimaryKeyConstraint("id"),
)

# Facts that must be the same on all hosts of one deployment.
deployment = Table(
    "deployment",
    metadata,
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("name"),
)
