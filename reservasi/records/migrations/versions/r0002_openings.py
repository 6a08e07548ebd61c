"""Openings: their terms, and the state of their waiting rooms.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None

OPENINGS = """
CREATE TABLE openings (
    program TEXT NOT NULL,
    id TEXT NOT NULL,
    opens_at_ms BIGINT NOT NULL,
    joins_from_ms BIGINT NOT NULL,
    ends_at_ms BIGINT NOT NULL,
    waiting_room BOOLEAN NOT NULL,
    proof_of_work BOOLEAN NOT NULL,
    first_rate_per_min BIGINT NOT NULL,
    rate_max_per_min BIGINT NOT NULL,
    adaptive BOOLEAN NOT NULL,
    commitment TEXT NOT NULL,
    sealed_seed TEXT NOT NULL,
    version BIGINT NOT NULL,
    paused BOOLEAN NOT NULL,
    beacon TEXT NOT NULL,
    drawn BOOLEAN NOT NULL,
    joined BIGINT NOT NULL,
    arrived BIGINT NOT NULL,
    admitted_through BIGINT NOT NULL,
    rate_per_min BIGINT NOT NULL,
    rate_fixed BOOLEAN NOT NULL,
    advanced_at_ms BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    CONSTRAINT openings_pk PRIMARY KEY (program, id),
    CONSTRAINT openings_program_opens_at_ms_unique UNIQUE (program, opens_at_ms),
    CONSTRAINT openings_only_who_arrived CHECK (
        joined BETWEEN 0 AND arrived AND admitted_through BETWEEN 0 AND arrived
    )
)
WITH (fillfactor = 50)
"""


def upgrade() -> None:
    """Compatible with the running version: columns are added first, and removed one release later."""
    op.execute(OPENINGS)
