"""docs/reference/settings.md, from the settings' model."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from docs.generate.markdown import code, codes, document, table
from reservasi.cli.reloading import NEEDS_RESTART
from reservasi.settings import CONFIG_FILE, Settings

TITLE = "Settings"
DATA_DIR = "`/var/lib/reservasi` for root, else `$XDG_DATA_HOME/reservasi` or `~/.local/share/reservasi`"
WHERE = f"""\
A setting is taken from the first of these places that names it:

1. the option of the command that is run, where it has one ([commands](commands.md))
2. the environment variable
3. the file `{CONFIG_FILE}` in the working directory, under the setting's name
4. the default

A list in the environment or in an option is one text with commas between its items; in the file it may also be a TOML
array. A command refuses to start with an unknown setting in the file or a value outside its limits, and names it.

*Takes effect*: after a **reload** (SIGHUP to `reservasi up` or `reservasi api`), or only after a **restart**
([configuration](../operations/configuration.md))."""
EXAMPLES_REFUSED: tuple[dict[str, Any], ...] = (  # one for each rule between settings, in the order of the model
    {"aof_ack": "replicas", "replicas_min_ack": 0},
    {"replicas_min_ack": 1, "replicas_ack_timeout_ms": 1000, "command_timeout_ms": 1000},
    {"view_stale_ms": 1000, "command_timeout_ms": 1000},
)


def page() -> str:
    headers = ("setting", "environment variable", "default", "allowed", "takes effect", "meaning")
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    rules = "\n".join(f"- {_refusal(example)}" for example in EXAMPLES_REFUSED)
    between = (
        f"## Rules between settings\n\nA combination that breaks a rule is refused with the rule's text:\n\n{rules}"
    )
    return document(TITLE, "reservasi/settings.py", WHERE, table(headers, rows), between)


def _row(name: str, field: FieldInfo) -> tuple[str, ...]:
    effect = "restart" if name in NEEDS_RESTART else "reload"
    return code(name), code(variable(name)), default(name, field), allowed(field), effect, field.description or ""


def variable(name: str) -> str:
    return f"{Settings.model_config['env_prefix']}{name}".upper()


def default(name: str, field: FieldInfo) -> str:
    """The default as the environment would take it."""
    if name == "data_dir":
        return DATA_DIR
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, tuple):
        return code(",".join(map(str, value)))
    return "" if value is None else code(str(value))


def allowed(field: FieldInfo) -> str:
    """What a value may be."""
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return codes(get_args(annotation))
    if annotation is bool:
        return codes(("true", "false"))
    if annotation in (int, float):
        return _range(field)
    if get_origin(annotation) is tuple:
        most = _limit(field, "max_length")
        return "list" if most is None else f"list of at most {most:,}"
    return "path" if annotation in (Path, Path | None) else "text"


def _range(field: FieldInfo) -> str:
    least, most = _limit(field, "ge"), _limit(field, "le")
    if most is None:
        return f"at least {least:,}"
    return f"{least:,} to {most:,}"


def _limit(field: FieldInfo, kind: str) -> Any:
    return next((getattr(each, kind) for each in field.metadata if hasattr(each, kind)), None)


def _refusal(example: dict[str, Any]) -> str:
    """What is said of settings that break a rule."""
    try:
        Settings(**example)
    except ValidationError as error:
        (message,) = {each["msg"].removeprefix("Value error, ") for each in error.errors()}
        return message
    raise AssertionError(f"not refused: {example}")
