"""Assembles the Lua function library: its source, its name, and its functions.

The name contains a hash of the source, so that fronts of two versions can work side by side during a deploy.
"""

import hashlib
import re
from functools import lru_cache, partial
from pathlib import Path

import msgspec

DIRECTORY = Path(__file__).parent
SHARED = (  # files used by several commands
    "packing",
    "shapes",
    "shared",
    "reading",
    "timers",
    "committing",
    "members",
    "openings",
)
COMMANDS = (
    "claim",
    "confirm",
    "release",
    "cancel",
    "set_quota",
    "sweep",
    "retire",
    "find",
    "snapshot",
    "set_opening",
    "move_opening",
    "retire_opening",
    "join",
    "admit",
    "own",
    "touch",
    "fence",
    "load",
)
USED_LATER = ("confirm", "set_quota", "set_opening")  # later commands use definitions of these files
LENDERS = ("confirm", "set_quota")  # commands whose files define functions for other commands
PLACES = re.compile(r"^local ([A-Z]+) = \{([^}]*)\}", re.MULTILINE)  # a table of field positions
PLACE = re.compile(r"(\w+) = (\d+)")
COMMENT = re.compile(r"--.*")
NAME_PLACEHOLDER = "@LIBRARY@"
HASH_CHARS = 12


class Library(msgspec.Struct, frozen=True, kw_only=True):
    """The library as it is loaded into the server."""

    name: str  # reservasi_<hash of the source>
    source: str

    def function(self, command: str) -> str:
        """The server's name of a command of this version."""
        return f"{self.name}_{command}"


@lru_cache(maxsize=8)
def read_library(directory: Path = DIRECTORY) -> Library:
    """Assemble the shared files and one file per command.

    Each command is in its own block, since Lua allows 200 local names in one function.
    """
    sources = {part: (directory / f"{part}.lua").read_text() for part in (*SHARED, *COMMANDS)}
    blocks = (source if part in (*SHARED, *USED_LATER) else f"do\n{source}end\n" for part, source in sources.items())
    body = _with_numbers("\n".join(blocks))
    name = f"reservasi_{hashlib.sha256(body.encode()).hexdigest()[:HASH_CHARS]}"
    return Library(name=name, source=f"#!lua name={name}\n{body.replace(NAME_PLACEHOLDER, name)}")


def _with_numbers(source: str) -> str:
    """Replace `quota[Q.held]` by `quota[3]`: looking the position up would cost more than reading the field.

    Raises:
        KeyError: a table has no such field.
    """
    for name, fields in PLACES.findall(source):
        numbers = dict(PLACE.findall(COMMENT.sub("", fields)))
        if numbers:
            source = re.sub(rf"\b{name}\.([a-z_]+)\b", partial(_number, numbers), source)
    return source


def _number(of: dict[str, str], used: re.Match[str]) -> str:
    return of[used[1]]
