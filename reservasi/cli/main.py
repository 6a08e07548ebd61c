"""Every command under one name. The modules of a command are imported when it is run, so that each starts fast."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import msgspec
import typer
from typer.core import TyperGroup

from reservasi.cli.output import run_app


class Listed(msgspec.Struct, frozen=True):
    """A command, or a group of commands, as `reservasi --help` lists it."""

    name: str
    source: str  # "module:attribute" below reservasi.cli: a function, or a Typer app
    help: str  # the first line of its own help


COMMANDS = (
    Listed("up", "up:up", "Start Valkey, PostgreSQL, the worker and the fronts; Ctrl-C stops them all."),
    Listed(
        "api",
        "serve:api",
        'Run the HTTP fronts alone; a worker must run somewhere, or confirmations stay "confirming".',
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
        "Show who changed quotas and openings of a program, and ended reservations, when and why; newest first.",
    ),
    Listed("keys", "keys:app", "The sealing keys: which there are, and a new one."),
    Listed("person", "person:app", "What is owed to people whose data we keep."),
    Listed("verify", "verify:app", "Check what was promised, with nothing but what is public."),
    Listed(
        "reconcile",
        "recovery:reconcile",
        "Compare ledgers and records at one position; exit 3 when they differ. The service may run meanwhile.",
    ),
    Listed(
        "rebuild",
        "recovery:rebuild",
        "Rebuild lost or old ledgers from the records; claims answer 503 meanwhile. Safe to interrupt and to repeat.",
    ),
    Listed("doctor", "checks:doctor", "Look at everything the promises rest on; exit 1 when something is not well."),
    Listed("openapi", "openapi:openapi", "Print the OpenAPI 3.1 document of the HTTP API."),
    Listed("version", "version:version", "Print the versions that matter when a fault is reported."),
)


class CommandsOnDemand(TyperGroup):
    """The group of all commands: what help lists is known beforehand, a command's own module when it is named."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the named command, then go on as any group does."""
        listed = next((each for each in COMMANDS if each.name == args[0]), None)
        if listed is not None:
            self.commands[listed.name] = command_of(listed)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="reservasi",
    help="Fair, exact and verifiable reservations for the minute when a public quota opens.",
    cls=CommandsOnDemand,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _not_imported_yet() -> None:
    """Stand for a command in the list of all; `CommandsOnDemand` replaces it before it is run."""


for _listed in COMMANDS:
    app.command(_listed.name, help=_listed.help)(_not_imported_yet)


def command_of(listed: Listed) -> Any:
    """The command, or the group of commands, imported now."""
    module, attribute = listed.source.split(":")
    found: typer.Typer | Callable[..., None] = getattr(import_module(f"reservasi.cli.{module}"), attribute)
    alone = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=listed.name)
        return typer.main.get_group(alone).commands[listed.name]
    alone.command(listed.name)(found)
    return typer.main.get_command(alone)


def main() -> None:
    """Run a command: exit 0 ok, 1 failed, 2 usage, 3 drift found."""
    run_app(app)
