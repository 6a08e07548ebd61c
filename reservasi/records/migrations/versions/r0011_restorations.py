"""Restorations of records from the ledger: the gap, and what could not be restored.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision: str | None = "0010"
branch_labels = None
depends_on = None

RESTORATIONS = """
CREATE TABLE restorations (
    program TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    from_epoch BIGINT NOT NULL,
    from_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    next_seq BIGINT NOT NULL,
    bookings BIGINT NOT NULL,
    holds BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    without_envelope BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT restorations_pk PRIMARY KEY (program, epoch, seq)
)
"""
RESERVATIONS = """
CREATE TABLE restored_reservations (
    program TEXT NOT NULL,
    reservation_id TEXT NOT NULL,
    held_epoch BIGINT NOT NULL,
    held_seq BIGINT NOT NULL,
    lacks TEXT NOT NULL,
    CONSTRAINT restored_reservations_pk PRIMARY KEY (program, reservation_id, held_epoch, held_seq)
)
"""
EVENTS = """
CREATE TABLE restored_events (
    program TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    CONSTRAINT restored_events_pk PRIMARY KEY (program, epoch, first_seq)
)
"""


def upgrade() -> None:
    """New tables: the running version does not use them, and needs no right on them."""
    op.execute(RESTORATIONS)
    op.execute(RESERVATIONS)
    op.execute(EVENTS)
