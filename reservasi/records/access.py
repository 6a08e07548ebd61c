"""The database rights of each kind of process, which `upgrade` grants to its role if the role exists.

The schema belongs to its owner, who runs the migrations. Fronts read and workers add rows: neither can drop or alter a
table. Only the owner can change or delete rows of the journal, dead letters and facts of the deployment.
"""

from sqlalchemy import Connection, text

from reservasi.records.roles import FRONT_ROLE, WORKER_ROLE

READ = ("SELECT",)
APPEND = ("SELECT", "INSERT")
CLAIM = ("SELECT", "INSERT", "UPDATE (base_seq)")
KEEP = ("SELECT", "INSERT", "UPDATE")
NOTE = ("SELECT", "UPDATE (last_used_at)")
MOVE = ("SELECT", "INSERT", "UPDATE", "DELETE")
WORKER_RIGHTS = {
    "alembic_version": READ,
    "audit": APPEND,
    "applicants": MOVE,  # the applicants of a hold that ended are removed
    "bookings": KEEP,
    "dead_letters": APPEND,
    "deployment": APPEND,
    "epochs": CLAIM,  # an epoch that was never owned is corrected
    "holds": MOVE,  # until they are confirmed or end
    "journal": APPEND,
    "openings": KEEP,
    "positions": KEEP,
    "programs": READ,
    "quotas": KEEP,
    "restorations": READ,  # written by an operator's command
    "restored_events": READ,
    "restored_reservations": READ,
    "staff": READ,
    "staff_changes": READ,
}
FRONT_RIGHTS = {
    **dict.fromkeys(WORKER_RIGHTS, READ),
    "deployment": APPEND,
    "staff": NOTE,
}
RIGHTS = {FRONT_ROLE: FRONT_RIGHTS, WORKER_ROLE: WORKER_RIGHTS}
ROLE_EXISTS = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)"
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
SCHEMA = "SELECT quote_ident(current_schema())"


def grant_rights(connection: Connection) -> None:
    """Give each runtime role that exists exactly its rights on the existing tables; repeating it is harmless."""
    schema = connection.execute(text(SCHEMA)).scalar_one()
    tables = set(connection.execute(text(TABLES)).scalars())
    for role, rights in RIGHTS.items():
        if not connection.execute(text(ROLE_EXISTS), {"role": role}).scalar_one():
            continue
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {role}"))
        connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}"))
        connection.execute(text(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}"))
        for table in sorted(rights.keys() & tables):
            connection.execute(text(f"GRANT {', '.join(rights[table])} ON {schema}.{table} TO {role}"))
            if "INSERT" in rights[table] and table == "dead_letters":
                connection.execute(text(f"GRANT USAGE ON SEQUENCE {schema}.dead_letters_id_seq TO {role}"))
