"""Openings that have left the ledger since they ended.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels = None
depends_on = None

ONE_AT_A_MOMENT = """
ALTER TABLE openings
    DROP CONSTRAINT openings_one_at_a_moment,
    ADD CONSTRAINT openings_one_at_a_moment EXCLUDE USING btree (program WITH =, opens_at_ms WITH =, offices WITH =)
        WHERE (NOT cancelled AND retired_at_ms = 0) DEFERRABLE INITIALLY IMMEDIATE
"""


def upgrade() -> None:
    """A retired opening does not conflict with others."""
    op.execute("ALTER TABLE openings ADD COLUMN retired_at_ms BIGINT NOT NULL DEFAULT 0")
    op.execute(ONE_AT_A_MOMENT)
