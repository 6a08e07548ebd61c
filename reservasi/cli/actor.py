"""The actor and reason of a command, for the journal and the audit log."""

import os
import pwd
from typing import Annotated, TypeAlias

import typer

from reservasi.model import ACTOR_CHARS_MAX, REASON_CHARS_MAX
from reservasi.reasons import ReasonRefused, tidy_reason

WRONG = {
    "reason-length": f"at most {REASON_CHARS_MAX} characters",
    "reason-characters": "it has a character that cannot be printed: {character}",
    "reason-nik": "it is recorded unencrypted: do not include identity numbers",
}


def tidied(words: str) -> str:
    """A reason as it is recorded; a usage error if it cannot be."""
    try:
        return tidy_reason(words)
    except ReasonRefused as refused:
        raise typer.BadParameter(WRONG[refused.code].format(character=refused.character)) from refused


Reason: TypeAlias = Annotated[
    str,
    typer.Option("--reason", callback=tidied, help="the reason, for the journal and the audit log; no personal data"),
]


def cli_actor() -> str:
    """The operating system's account, such as `cli:ani`; for root also the account that used sudo."""
    user_id = os.getuid()
    try:
        account = pwd.getpwuid(user_id).pw_name
    except KeyError:
        account = f"uid {user_id}"
    became = os.environ.get("SUDO_USER", "") if user_id == 0 else ""  # only root's environment is trusted
    named = f"{account} (sudo by {became})" if became.isprintable() and became else account
    return f"cli:{named}"[:ACTOR_CHARS_MAX]
