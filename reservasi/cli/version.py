"""`reservasi version`: the versions for a fault report."""

import platform
from importlib import metadata
from typing import Any

from reservasi import __version__
from reservasi.cli.output import AsJson, out, print_json
from reservasi.ledger.lua.library import read_library


def version(as_json: AsJson = False) -> None:
    """Print the versions for a fault report."""
    facts: dict[str, Any] = {
        "reservasi": __version__,
        "library": read_library().name,
        "python": platform.python_version(),
        "aiohttp": metadata.version("aiohttp"),
    }
    if as_json:
        print_json(facts)
    else:
        out.print("  ".join(f"{name} {value}" for name, value in facts.items()))
