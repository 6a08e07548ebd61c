"""docs/reference/commands.md, from the tree of commands."""

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from docs.generate.markdown import anchor, code, document, table
from reservasi.cli.main import app
from reservasi.cli.output import EXIT_DRIFT, EXIT_FAILED, EXIT_USAGE

PROGRAM = "reservasi"
TITLE = "Commands"
INTRODUCTION = f"""\
`--help` after a command prints the same text. A command works on the service that `{PROGRAM} up` runs
for the same user, unless an option, an environment variable or the configuration file names other stores
([settings](settings.md))."""
EXIT_CODES = (
    (0, "done"),
    (
        EXIT_FAILED,
        "failed, or a check found a fault; standard error says why, with `--json` the document does",
    ),
    (EXIT_USAGE, "wrong usage: an unknown option, a value outside its limits, settings that cannot be used"),
)


def commands() -> dict[str, Any]:
    """Every command that does something, by its name without `reservasi`, in the order of the help."""
    root = typer.main.get_command(app)
    return dict(_below(root, root.make_context(PROGRAM, ["--"], resilient_parsing=True), ""))


def _below(group: Any, context: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(context):
        command = group.resolve_command(context, [name])[1]
        full = f"{path} {name}".strip()
        if hasattr(command, "list_commands"):
            inner = type(context)(command, info_name=name, parent=context)
            yield from _below(command, inner, full)
        else:
            yield full, command


def ends_with_drift(command: Any) -> bool:
    """Whether the command has an exit code of its own for differences."""
    return "EXIT_DRIFT" in inspect.getsource(inspect.unwrap(command.callback))


def page() -> str:
    found = commands()
    drift = ", ".join(_link(name) for name, command in found.items() if ends_with_drift(command))
    codes = [
        *EXIT_CODES,
        (EXIT_DRIFT, f"differences were found and left as they are: {drift}"),
    ]
    return document(
        TITLE,
        "the commands' own help",
        INTRODUCTION,
        table(("command", "what it does"), [(_link(name), summary(command)) for name, command in found.items()]),
        "## Exit codes",
        table(("code:", "meaning"), [(str(number), meaning) for number, meaning in codes]),
        *(section(name, command) for name, command in found.items()),
    )


def _link(name: str) -> str:
    return f"[`{PROGRAM} {name}`](#{anchor(f'{PROGRAM} {name}')})"


def summary(command: Any) -> str:
    """The first paragraph of its help."""
    return str(command.help or "").partition("\n\n")[0]


def section(name: str, command: Any) -> str:
    """A command with all of its arguments and options."""
    context = command.context_class(command, info_name=f"{PROGRAM} {name}")
    usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [(code(option), about) for option, about in filter(None, records)]
    parts = [f"## {PROGRAM} {name}", command.help or "", f"```\n{usage}\n```"]
    return "\n\n".join([*parts, *([table(("argument or option", "meaning"), rows)] if rows else [])])
