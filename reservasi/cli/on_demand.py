"""Groups of commands that import a command's module only when it is used, so that each starts fast."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import msgspec
import typer
from typer.core import TyperGroup

CONTEXT = {"help_option_names": ["-h", "--help"]}
PLAIN: dict[str, Any] = {  # help without boxes, which would import as much as the rest of a command
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "add_completion": False,
    "context_settings": CONTEXT,
}


class Listed(msgspec.Struct, frozen=True):
    """A command, or a group of commands, in the help of its group."""

    name: str
    source: str  # "module:attribute" below reservasi.cli: a function, or a Typer app
    help: str  # the first line of its own help


def group_of(commands: Sequence[Listed], *, help: str, **options: Any) -> typer.Typer:  # noqa: A002 - Typer's own name
    """A group that has its commands' help in advance and imports their modules one by one."""
    app = typer.Typer(help=help, cls=_group_class(commands), no_args_is_help=True, **options)
    for listed in commands:
        app.command(listed.name, help=listed.help, short_help=listed.help)(_not_imported_yet)
    return app


def command_of(listed: Listed) -> Any:
    """Import the command or the group of commands."""
    module, attribute = listed.source.split(":")
    target: typer.Typer | Callable[..., None] = getattr(import_module(f"reservasi.cli.{module}"), attribute)
    alone = typer.Typer(**PLAIN)
    if isinstance(target, typer.Typer):
        alone.add_typer(target, name=listed.name)
        group = _listed_whole(typer.main.get_group(alone).commands[listed.name])
        for command in group.commands.values():
            _with_plain_help_flag(command)
        return _with_plain_help_flag(group)
    alone.command(listed.name)(target)
    return _with_plain_help_flag(typer.main.get_command(alone))


def _with_plain_help_flag(command: Any) -> Any:
    find = command.get_help_option
    command.get_help_option = lambda ctx: _false_unless_given(find(ctx))
    return command


def _false_unless_given(help_flag: Any) -> Any:
    """The flag, which Typer 0.29 has as None if it is not given.

    Pydantic would convert the None, and importing pydantic takes as long as all the rest of a small command.
    """
    if help_flag is not None:
        help_flag.default = False
    return help_flag


def _listed_whole(group: Any) -> Any:
    """The group, whose help shows the whole first line of each command's help."""
    for command in group.commands.values():
        command.short_help = command.short_help or " ".join((command.help or "").partition("\n\n")[0].split())
    return group


def _group_class(commands: Sequence[Listed]) -> type[TyperGroup]:
    class OnDemand(TyperGroup):
        def get_help_option(self, ctx: Any) -> Any:
            return _false_unless_given(super().get_help_option(ctx))

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            listed = next((each for each in commands if each.name == args[0]), None)
            if listed is not None:
                self.commands[listed.name] = command_of(listed)
            return super().resolve_command(ctx, args)

    return OnDemand


def _not_imported_yet() -> None:
    """Placeholder of a command in the list; replaced before it is run."""
