"""Moved or cancelled openings: the reason, the former moment, and the beginning of a pause.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE openings
    ADD COLUMN cancelled BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN reason TEXT NOT NULL DEFAULT '',
    ADD COLUMN reason_en TEXT NOT NULL DEFAULT '',
    ADD COLUMN moved_from_ms BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN revision BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN revised_at_ms BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN paused_at_ms BIGINT NOT NULL DEFAULT 0
"""
ONE_AT_A_MOMENT = """
ALTER TABLE openings ADD CONSTRAINT openings_one_at_a_moment
    EXCLUDE USING btree (program WITH =, opens_at_ms WITH =, offices WITH =) WHERE (NOT cancelled)
    DEFERRABLE INITIALLY IMMEDIATE
"""


def upgrade() -> None:
    """The running version still finds its columns, and writes rows without the new ones."""
    op.execute(COLUMNS)
    op.execute(ONE_AT_A_MOMENT)
    op.execute("ALTER TABLE openings DROP CONSTRAINT openings_program_opens_at_ms_offices_unique")
