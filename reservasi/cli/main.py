"""Every command under one name."""

import typer

from reservasi.cli import (
    checks,
    database,
    keys,
    openings,
    person,
    programs,
    quotas,
    recovery,
    reservations,
    serve,
    staff,
    up,
    verify,
)
from reservasi.cli.output import run_app

app = typer.Typer(
    name="reservasi",
    help="Fair, exact and verifiable reservations for the minute when a public quota opens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(up.up)
app.command("api")(serve.api)
app.command("worker")(serve.worker)
app.add_typer(database.app, name="db")
app.add_typer(programs.app, name="program")
app.add_typer(quotas.app, name="quota")
app.add_typer(openings.app, name="opening")
app.add_typer(reservations.app, name="reservation")
app.add_typer(staff.app, name="staff")
app.add_typer(keys.app, name="keys")
app.add_typer(person.app, name="person")
app.add_typer(verify.app, name="verify")
app.command("reconcile")(recovery.reconcile)
app.command("rebuild")(recovery.rebuild)
app.command("doctor")(checks.doctor)
app.command("openapi")(checks.openapi)
app.command("version")(checks.version)


def main() -> None:
    """Run a command: exit 0 ok, 1 failed, 2 usage, 3 drift found."""
    run_app(app)
