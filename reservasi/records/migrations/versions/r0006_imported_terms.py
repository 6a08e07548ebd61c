"""The terms that imports set for each quota, to distinguish them from changes by staff.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The default needs no rewrite of the table: the running version writes rows without the column."""
    op.execute("ALTER TABLE quotas ADD COLUMN imported BIGINT[] NOT NULL DEFAULT '{}'")
