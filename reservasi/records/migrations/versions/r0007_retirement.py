"""Quotas and bookings that have left the ledger since their date passed.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column with a constant default is added without touching a row."""
    op.execute("ALTER TABLE quotas ADD COLUMN retired_at_ms BIGINT NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE bookings ADD COLUMN retired_at_ms BIGINT NOT NULL DEFAULT 0")
    op.execute("CREATE INDEX quotas_in_ledger ON quotas (program, id) WHERE retired_at_ms = 0")
