"""Who gives a command and why: what the journal and the audit trail say of a change made on the command line."""

import os
import pwd
from typing import Annotated, TypeAlias

import typer

from reservasi.model import ACTOR_CHARS_MAX, REASON_CHARS_MAX
from reservasi.reasons import ReasonRefused, tidy_reason

WRONG = {
    "reason-length": f"at most {REASON_CHARS_MAX} characters, please",
    "reason-characters": "it has a character that cannot be printed: {character}",
    "reason-nik": "it is recorded as it is: leave identity numbers out of it",
}


def tidied(words: str) -> str:
    """A reason as it is recorded; a usage error when it cannot be."""
    try:
        return tidy_reason(words)
    except ReasonRefused as refused:
        raise typer.BadParameter(WRONG[refused.code].format(character=refused.character)) from refused


Reason: TypeAlias = Annotated[
    str, typer.Option("--reason", callback=tidied, help="why, for the journal and the audit trail; no personal data")
]


def cli_actor() -> str:
    """The operating system's account, such as `cli:ani`; of root also who became it by sudo."""
    user_id = os.getuid()
    try:
        account = pwd.getpwuid(user_id).pw_name
    except KeyError:
        account = f"uid {user_id}"
    became = os.environ.get("SUDO_USER", "") if user_id == 0 else ""  # only root can be believed about it
    named = f"{account} (sudo by {became})" if became.isprintable() and became else account
    return f"cli:{named}"[:ACTOR_CHARS_MAX]
