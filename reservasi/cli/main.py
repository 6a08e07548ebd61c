"""All commands under one name. A command's modules are imported when it is run, so that each starts fast."""

from reservasi.cli.on_demand import PLAIN, Listed, group_of
from reservasi.cli.output import run_app

COMMANDS = (
    Listed("up", "up:up", "Start Valkey, PostgreSQL, the worker and the fronts; Ctrl-C stops them all."),
    Listed(
        "api",
        "serve:api",
        'Run the HTTP fronts only; without a worker, confirmations stay "confirming".',
    ),
    Listed(
        "worker",
        "serve:worker",
        "Run the recorder: journal to PostgreSQL, expired holds, admission, ownership of the ledger. Several are safe.",
    ),
    Listed("db", "database:app", "The records' schema."),
    Listed("program", "programs:app", "Programs: offices, services, quotas and rules."),
    Listed("quota", "quotas:app", "Quotas: the places of one channel in one slot."),
    Listed("opening", "openings:app", "Openings: the moments at which quotas open, and their waiting rooms."),
    Listed("reservation", "reservations:app", "Reservations of people."),
    Listed("staff", "staff:app", "Staff and their API keys."),
    Listed(
        "audit",
        "audit:audit",
        "Show who changed quotas and openings of a program or ended reservations, when and why; newest first.",
    ),
    Listed("keys", "sealing_keys:app", "The sealing keys of the key ring: list, rotate."),
    Listed("person", "person:app", "Requests of people about their own data."),
    Listed("verify", "verify:app", "Verify draws from public data."),
    Listed(
        "reconcile",
        "recovery:reconcile",
        "Compare ledgers and records at one position while the service runs; exit 3 when they differ.",
    ),
    Listed(
        "rebuild",
        "recovery:rebuild",
        "Rebuild lost or old ledgers from the records; claims answer 503 meanwhile. Safe to interrupt and to repeat.",
    ),
    Listed("dead-letters", "dead_letters:app", "Events that could not be recorded: list, retry, settle."),
    Listed("ledger", "ledgers:app", "The ledger's servers."),
    Listed("doctor", "doctor:doctor", "Check the installation; exit 1 when a check fails."),
    Listed("openapi", "openapi:openapi", "Print the OpenAPI 3.1 document of the HTTP API."),
    Listed("version", "version:version", "Print the versions for a fault report."),
)


app = group_of(
    COMMANDS,
    help="Fair, exact and verifiable reservations for the minute when a public quota opens.",
    name="reservasi",
    **PLAIN,
)


def main() -> None:
    """Run a command: exit 0 ok, 1 failed, 2 usage, 3 drift found."""
    run_app(app)
