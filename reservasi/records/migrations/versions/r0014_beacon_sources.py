"""The announced source of an opening's beacon.

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision: str | None = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Existing openings have no source. The running version still finds its columns."""
    op.execute("ALTER TABLE openings ADD COLUMN beacon_source TEXT NOT NULL DEFAULT ''")
