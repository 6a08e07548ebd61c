"""What each kind of process may do in the database: rights that `upgrade` grants to its role, where there is one.

The schema belongs to its owner, who migrates. A front reads, and a worker adds: neither can drop or alter anything, and
what is written once (journal, dead letters, facts of the deployment) no one but the owner can change or delete.
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
    "applicants": MOVE,  # those of a hold that ended are removed
    "bookings": KEEP,
    "dead_letters": APPEND,
    "deployment": APPEND,
    "epochs": CLAIM,  # one that was never taken up branched off nowhere
    "holds": MOVE,  # until they are confirmed or end
    "journal": APPEND,
    "openings": KEEP,
    "positions": KEEP,
    "programs": READ,
    "quotas": KEEP,
    "restorations": READ,  # an operator's work
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
    """Give each runtime role that the server has exactly its rights on the tables that are there; again is harmless."""
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
