"""Groups of commands that import a command's module when the command is named, so that each starts fast."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import msgspec
import typer
from typer.core import TyperGroup

CONTEXT = {"help_option_names": ["-h", "--help"]}
PLAIN: dict[str, Any] = {  # help without boxes: drawing them imports as much as the rest of a command
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "add_completion": False,
    "context_settings": CONTEXT,
}


class Listed(msgspec.Struct, frozen=True):
    """A command, or a group of commands, as the help of its group lists it."""

    name: str
    source: str  # "module:attribute" below reservasi.cli: a function, or a Typer app
    help: str  # the first line of its own help


def group_of(commands: Sequence[Listed], *, help: str, **options: Any) -> typer.Typer:  # noqa: A002 - Typer's own name
    """A group whose help knows its commands beforehand, and whose modules are imported one by one."""
    app = typer.Typer(help=help, cls=_group_class(commands), no_args_is_help=True, **options)
    for listed in commands:
        app.command(listed.name, help=listed.help, short_help=listed.help)(_not_imported_yet)
    return app


def command_of(listed: Listed) -> Any:
    """The command, or the group of commands, imported now."""
    module, attribute = listed.source.split(":")
    found: typer.Typer | Callable[..., None] = getattr(import_module(f"reservasi.cli.{module}"), attribute)
    alone = typer.Typer(**PLAIN)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=listed.name)
        return _listed_whole(typer.main.get_group(alone).commands[listed.name])
    alone.command(listed.name)(found)
    return typer.main.get_command(alone)


def _listed_whole(group: Any) -> Any:
    """The group, whose help shows the first line of each of its commands' help to its end."""
    for command in group.commands.values():
        command.short_help = command.short_help or " ".join((command.help or "").partition("\n\n")[0].split())
    return group


def _group_class(commands: Sequence[Listed]) -> type[TyperGroup]:
    class OnDemand(TyperGroup):
        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            listed = next((each for each in commands if each.name == args[0]), None)
            if listed is not None:
                self.commands[listed.name] = command_of(listed)
            return super().resolve_command(ctx, args)

    return OnDemand


def _not_imported_yet() -> None:
    """Stand for a command in the list of all; it is replaced before it is run."""
