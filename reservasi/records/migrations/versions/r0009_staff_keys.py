"""Staff keys have scopes, programs and an expiry, and names that are unique among valid keys.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels = None
depends_on = None

# The default is for keys that the previous version adds while both run: the fewest rights.
COLUMNS = """
ALTER TABLE staff
    ADD COLUMN scopes TEXT[] NOT NULL DEFAULT '{read}',
    ADD COLUMN programs TEXT[],
    ADD COLUMN expires_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN last_used_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN previous_hash TEXT,
    ADD COLUMN previous_until TIMESTAMP WITH TIME ZONE,
    ADD CONSTRAINT staff_previous_hash_unique UNIQUE (previous_hash)
"""
AS_BEFORE = "UPDATE staff SET scopes = '{read,quotas,openings,reservations}' WHERE role IN ('admin', 'operator')"
# Of several keys with one name the oldest keeps it; the others become "name (2)", "name (3)", if those are free.
UNIQUE_NAMES = """
DO $$
DECLARE
    double record;
    number integer;
BEGIN
    FOR double IN
        SELECT id, name FROM staff AS one WHERE disabled_at IS NULL AND EXISTS (
            SELECT FROM staff AS elder WHERE elder.name = one.name AND elder.disabled_at IS NULL AND elder.id < one.id
        ) ORDER BY id
    LOOP
        number := 2;
        WHILE EXISTS (SELECT FROM staff WHERE name = double.name || ' (' || number || ')' AND disabled_at IS NULL) LOOP
            number := number + 1;
        END LOOP;
        UPDATE staff SET name = double.name || ' (' || number || ')' WHERE id = double.id;
    END LOOP;
END $$
"""
NAME_IN_FORCE = "CREATE UNIQUE INDEX staff_name_in_force ON staff (name) WHERE disabled_at IS NULL"


def upgrade() -> None:
    """Existing keys are for all programs with the rights of their role; equal names get a number."""
    op.execute(COLUMNS)
    op.execute(AS_BEFORE)
    op.execute(UNIQUE_NAMES)
    op.execute(NAME_IN_FORCE)
