"""What imports set of each quota's terms, so that staff's own changes are told from theirs.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """With a default that is no rewrite: the version that is running writes rows without it."""
    op.execute("ALTER TABLE quotas ADD COLUMN imported BIGINT[] NOT NULL DEFAULT '{}'")
