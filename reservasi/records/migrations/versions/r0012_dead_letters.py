"""Dead letters that were recorded later, or that a person settled.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels = None
depends_on = None

# The previous version still adds letters, which are open, and counts closed ones as well.
COLUMNS = """
ALTER TABLE dead_letters
    ADD COLUMN outcome TEXT NOT NULL DEFAULT 'open',
    ADD COLUMN closed_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN closed_by TEXT NOT NULL DEFAULT '',
    ADD COLUMN reason TEXT NOT NULL DEFAULT '',
    ADD CONSTRAINT dead_letters_outcome_known CHECK (outcome IN ('open', 'recorded', 'settled')),
    ADD CONSTRAINT dead_letters_closed_unless_open CHECK ((outcome = 'open') = (closed_at IS NULL))
"""
OPEN = "CREATE INDEX dead_letters_open ON dead_letters (program, epoch, seq) WHERE outcome = 'open'"


def upgrade() -> None:
    """All existing letters are open."""
    op.execute(COLUMNS)
    op.execute(OPEN)
