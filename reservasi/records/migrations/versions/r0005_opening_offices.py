"""An opening has offices, so that two of them may be at one moment.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Existing openings are for all offices. The running version still finds its columns."""
    op.execute("ALTER TABLE openings ADD COLUMN offices TEXT NOT NULL DEFAULT ''")
    op.execute(
        "ALTER TABLE openings ADD CONSTRAINT openings_program_opens_at_ms_offices_unique"
        " UNIQUE (program, opens_at_ms, offices) DEFERRABLE INITIALLY IMMEDIATE"
    )
    op.execute("ALTER TABLE openings DROP CONSTRAINT openings_program_opens_at_ms_unique")
