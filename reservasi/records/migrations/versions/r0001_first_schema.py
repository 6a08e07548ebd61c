"""The first schema: quotas, holds, bookings, applicants, the journal, its position and epochs, programs and staff.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE applicants (
        reservation_id TEXT NOT NULL,
        held_epoch BIGINT NOT NULL,
        held_seq BIGINT NOT NULL,
        position SMALLINT NOT NULL,
        program TEXT NOT NULL,
        person TEXT NOT NULL,
        live BOOLEAN NOT NULL,
        CONSTRAINT applicants_pk PRIMARY KEY (reservation_id, held_epoch, held_seq, position),
        CONSTRAINT applicants_position_in_range CHECK (position BETWEEN 0 AND 4)
    )
    """,
    """
    CREATE UNIQUE INDEX applicants_one_live_reservation ON applicants (program, person) WHERE live
    """,
    """
    CREATE TABLE bookings (
        reservation_id TEXT NOT NULL,
        held_epoch BIGINT NOT NULL,
        held_seq BIGINT NOT NULL,
        program TEXT NOT NULL,
        booking_code TEXT NOT NULL,
        quota TEXT NOT NULL,
        places SMALLINT NOT NULL,
        state TEXT NOT NULL,
        payment_reference TEXT NOT NULL,
        deadline_ms BIGINT NOT NULL,
        fingerprint TEXT NOT NULL,
        sealed TEXT NOT NULL,
        held_at_ms BIGINT NOT NULL,
        confirmed_at_ms BIGINT NOT NULL,
        ended_at_ms BIGINT NOT NULL,
        returns_at_ms BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        CONSTRAINT bookings_pk PRIMARY KEY (reservation_id, held_epoch, held_seq),
        CONSTRAINT bookings_places_in_range CHECK (places BETWEEN 1 AND 5),
        CONSTRAINT bookings_state_known CHECK (state IN ('confirmed', 'cancelled', 'attended', 'absent')),
        CONSTRAINT bookings_ended_when_not_confirmed CHECK ((state = 'confirmed') = (ended_at_ms = 0))
    )
    """,
    """
    CREATE TABLE dead_letters (
        id BIGSERIAL NOT NULL,
        program TEXT NOT NULL,
        epoch BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        reservation_id TEXT,
        event JSON NOT NULL,
        error TEXT NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT dead_letters_pk PRIMARY KEY (id),
        CONSTRAINT dead_letters_program_epoch_seq_unique UNIQUE (program, epoch, seq)
    )
    """,
    """
    CREATE TABLE deployment (
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        CONSTRAINT deployment_pk PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE epochs (
        program TEXT NOT NULL,
        epoch BIGINT NOT NULL,
        base_seq BIGINT NOT NULL,
        run_id TEXT NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT epochs_pk PRIMARY KEY (program, epoch),
        CONSTRAINT epochs_in_range CHECK (epoch >= 1 AND base_seq >= 0)
    )
    """,
    """
    CREATE TABLE holds (
        reservation_id TEXT NOT NULL,
        program TEXT NOT NULL,
        quota TEXT NOT NULL,
        places SMALLINT NOT NULL,
        deadline_ms BIGINT NOT NULL,
        fingerprint TEXT NOT NULL,
        sealed TEXT NOT NULL,
        held_at_ms BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        CONSTRAINT holds_pk PRIMARY KEY (reservation_id),
        CONSTRAINT holds_places_in_range CHECK (places BETWEEN 1 AND 5)
    )
    """,
    """
    CREATE TABLE journal (
        program TEXT NOT NULL,
        epoch BIGINT NOT NULL,
        first_seq BIGINT NOT NULL,
        last_seq BIGINT NOT NULL,
        at_ms BIGINT NOT NULL,
        chain TEXT NOT NULL,
        payload BYTEA NOT NULL,
        CONSTRAINT journal_pk PRIMARY KEY (program, epoch, first_seq),
        CONSTRAINT journal_not_empty CHECK (last_seq >= first_seq)
    )
    """,
    """
    CREATE TABLE positions (
        program TEXT NOT NULL,
        epoch BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        chain TEXT NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT positions_pk PRIMARY KEY (program),
        CONSTRAINT positions_not_negative CHECK (epoch >= 0 AND seq >= 0)
    )
     WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE programs (
        id TEXT NOT NULL,
        spec JSONB NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT programs_pk PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE quotas (
        program TEXT NOT NULL,
        id TEXT NOT NULL,
        office TEXT NOT NULL,
        service TEXT NOT NULL,
        channel TEXT NOT NULL,
        slot_date DATE,
        slot_start TEXT NOT NULL,
        slot_end TEXT NOT NULL,
        capacity INTEGER NOT NULL,
        booked INTEGER DEFAULT 0 NOT NULL,
        opens_at_ms BIGINT NOT NULL,
        closes_at_ms BIGINT NOT NULL,
        cancel_until_ms BIGINT NOT NULL,
        hold_ms BIGINT NOT NULL,
        return_min_ms BIGINT NOT NULL,
        return_max_ms BIGINT NOT NULL,
        closed BOOLEAN NOT NULL,
        version BIGINT NOT NULL,
        CONSTRAINT quotas_pk PRIMARY KEY (program, id),
        CONSTRAINT quotas_booked_not_negative CHECK (booked >= 0),
        CONSTRAINT quotas_never_oversold CHECK (booked <= capacity)
    )
     WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE staff (
        id BIGSERIAL NOT NULL,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        api_key_hash TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        disabled_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT staff_pk PRIMARY KEY (id),
        CONSTRAINT staff_api_key_hash_unique UNIQUE (api_key_hash)
    )
    """,
    # A payload is mostly ciphertext, which does not compress.
    "ALTER TABLE journal ALTER COLUMN payload SET STORAGE EXTERNAL",
)


def upgrade() -> None:
    """Create everything."""
    for statement in STATEMENTS:
        op.execute(statement)
