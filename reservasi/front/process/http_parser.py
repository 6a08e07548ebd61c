"""Which parser of HTTP this interpreter has. Imports no part of aiohttp, so that a command that asks starts fast."""

import os
from importlib import util
from importlib.machinery import ExtensionFileLoader, PathFinder


def parses_in_c() -> bool:
    """Whether aiohttp has its C parser, which is much faster than the Python one."""
    if os.environ.get("AIOHTTP_NO_EXTENSIONS"):
        return False
    package = util.find_spec("aiohttp")
    module = PathFinder.find_spec("aiohttp._http_parser", package.submodule_search_locations if package else None)
    return module is not None and isinstance(module.loader, ExtensionFileLoader)
