"""docs/reference/outcomes.md, from `model.Outcome` and the headers of the ledger's functions."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass

from docs.generate.markdown import anchor, code, document, table
from reservasi.ledger.lua.library import COMMANDS, DIRECTORY
from reservasi.model import Outcome

TITLE = "Outcomes of ledger commands"
INTRODUCTION = """\
The ledger answers each command with one named outcome. If several are true, the answer is the one that comes first in
the command's table. These tables leave out `fenced` and `damaged`, which every command can answer. What follows a plus
sign is sent with the outcome. [ARCHITECTURE.md](../../ARCHITECTURE.md) says what the ledger is."""
OF_EVERY_COMMAND = (Outcome.FENCED, Outcome.DAMAGED)
MEMBER = re.compile(r'^    [A-Z_]+ = "([a-z_]+)"  # (.+)$', re.MULTILINE)
OUTCOME = re.compile(r"([a-z_]+)(?: +(.*))?")
OUTCOMES = "Outcomes, in order of precedence"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What the header of a command's Lua file promises."""

    command: str
    purpose: str
    outcomes: dict[str, str]  # in order of precedence: when, and what the answer carries


def page() -> str:
    contracts = [contract(command) for command in COMMANDS]
    rows = [(code(each), meaning, where(each, contracts)) for each, meaning in meanings().items()]
    return document(
        TITLE,
        "reservasi/model.py and reservasi/ledger/lua/",
        INTRODUCTION,
        table(("outcome", "meaning", "commands"), rows),
        *map(section, contracts),
    )


def meanings() -> dict[str, str]:
    """Each outcome with the comment beside it."""
    return dict(MEMBER.findall(inspect.getsource(Outcome)))


def where(outcome: str, contracts: Sequence[Contract]) -> str:
    """The commands that may answer it."""
    if outcome in OF_EVERY_COMMAND:
        return "every command"
    return ", ".join(f"[{each.command}](#{anchor(each.command)})" for each in contracts if outcome in each.outcomes)


def section(each: Contract) -> str:
    rows = [(code(outcome), when) for outcome, when in each.outcomes.items()]
    return "\n\n".join(
        [f"## {each.command}", each.purpose, table(("outcome", "when, and what the answer carries"), rows)]
    )


def contract(command: str) -> Contract:
    """The header of its file, as far as it speaks of purpose and outcomes."""
    lines = [line.removeprefix("--") for line in (DIRECTORY / f"{command}.lua").read_text().splitlines()]
    purpose = lines[0].strip().removeprefix(f"{command}: ")
    start = next(at for at, line in enumerate(lines) if line.strip().startswith(OUTCOMES))
    outcomes = {}
    for line in lines[start + 1 :]:
        if not line.startswith("   "):
            break
        found = OUTCOME.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"{command}: {line!r} names no outcome")
        outcomes[found[1]] = found[2] or ""
    return Contract(command=command, purpose=purpose[0].upper() + purpose[1:], outcomes=outcomes)
