"""The audit table: who changed a quota or an opening, or ended a reservation, when and why.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None

AUDIT = """
CREATE TABLE audit (
    program TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    quota TEXT,
    opening TEXT,
    reservation_id TEXT,
    after JSONB NOT NULL,
    CONSTRAINT audit_pk PRIMARY KEY (program, epoch, seq)
)
"""
BY_QUOTA = "CREATE INDEX audit_by_quota ON audit (program, quota) WHERE quota IS NOT NULL"
BY_OPENING = "CREATE INDEX audit_by_opening ON audit (program, opening) WHERE opening IS NOT NULL"


def upgrade() -> None:
    """A new table: the running version does not use it, and needs no right on it."""
    op.execute(AUDIT)
    op.execute(BY_QUOTA)
    op.execute(BY_OPENING)
