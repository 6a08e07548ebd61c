"""Holds, bookings, applicants and the journal are partitioned by program, whose column becomes part of their keys.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None

STATEMENT_TIMEOUT_MS = 3_600_000  # rows are copied
KEYS = {
    "holds": "reservation_id, program",
    "bookings": "reservation_id, held_epoch, held_seq, program",
    "applicants": "reservation_id, held_epoch, held_seq, position, program",
    "journal": "program, epoch, first_seq",
}
# A recorder writes the position first: while it is locked, no recording is in progress.
LOCKS = "LOCK TABLE positions, journal, holds, bookings, applicants IN ACCESS EXCLUSIVE MODE"
ONE_LIVE_RESERVATION = """
CREATE UNIQUE INDEX applicants_one_live_reservation ON applicants (program, person) WHERE live
"""
PROGRAMS = """
CREATE TEMPORARY TABLE programs_with_rows ON COMMIT DROP AS
SELECT id FROM programs UNION SELECT program FROM old_holds UNION SELECT program FROM old_bookings
UNION SELECT program FROM old_applicants UNION SELECT program FROM old_journal
"""
PARTITIONS = """
DO $$
DECLARE
    program text;
    part text;
BEGIN
    FOR program IN SELECT id FROM programs_with_rows ORDER BY id LOOP
        part := '{table}_of_' || program;
        EXECUTE format('CREATE TABLE %I (LIKE {table} INCLUDING ALL)', part);
        EXECUTE format('ALTER TABLE {table} ATTACH PARTITION %I FOR VALUES IN (%L)', part, program);
    END LOOP;
END $$
"""
COPIED = """
DO $$
DECLARE
    copied bigint;
BEGIN
    INSERT INTO {table} SELECT * FROM old_{table};
    GET DIAGNOSTICS copied = ROW_COUNT;
    IF copied <> (SELECT count(*) FROM old_{table}) THEN
        RAISE EXCEPTION 'not every row of {table} was copied';
    END IF;
END $$
"""


def upgrade() -> None:
    """Copy all rows while nobody writes; the running version finds the same names and columns afterwards."""
    op.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS:d}")
    op.execute(LOCKS)
    for table in KEYS:
        op.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
        op.execute(f"ALTER TABLE old_{table} RENAME CONSTRAINT {table}_pk TO old_{table}_pk")
    op.execute("ALTER INDEX applicants_one_live_reservation RENAME TO old_applicants_one_live_reservation")
    op.execute(PROGRAMS)
    for table, key in KEYS.items():
        op.execute(
            f"CREATE TABLE {table} (LIKE old_{table} INCLUDING ALL EXCLUDING INDEXES,"
            f" CONSTRAINT {table}_pk PRIMARY KEY ({key})) PARTITION BY LIST (program)"
        )
    op.execute(ONE_LIVE_RESERVATION)
    for table in KEYS:
        op.execute(PARTITIONS.format(table=table))
        op.execute(COPIED.format(table=table))
    for table in KEYS:
        op.execute(f"DROP TABLE old_{table}")
