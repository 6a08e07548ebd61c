"""Who added, renamed, rotated or revoked a staff key, and when.

Revision ID: 0013
Revises: 0012
"""

from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels = None
depends_on = None

STAFF_CHANGES = """
CREATE TABLE staff_changes (
    id BIGSERIAL NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now(),
    actor TEXT NOT NULL,
    change TEXT NOT NULL,
    staff_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    after JSONB NOT NULL,
    CONSTRAINT staff_changes_pk PRIMARY KEY (id)
)
"""


def upgrade() -> None:
    """A new table: the running version does not use it, and writes no rows for its changes."""
    op.execute(STAFF_CHANGES)
