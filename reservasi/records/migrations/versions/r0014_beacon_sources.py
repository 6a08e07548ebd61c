"""An opening names where its beacon comes from, before anybody joins.

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision: str | None = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those that are there name none. The version that runs still finds its columns."""
    op.execute("ALTER TABLE openings ADD COLUMN beacon_source TEXT NOT NULL DEFAULT ''")
