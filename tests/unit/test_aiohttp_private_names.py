"""The private names of aiohttp that the front uses: all of them stand here, and the installed aiohttp has them.

aiohttp may rename them in any release, so its version is bounded in `pyproject.toml`. Whoever raises the bound reads
here what to look at.
"""

import ast
import importlib
import inspect
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import reservasi
from reservasi import front

# By the class of aiohttp that defines them.
PRIVATE_NAMES = {
    "BaseSite": {"_backlog", "_server"},
    "BaseRunner": {"_reg_site"},
    "AppRunner": {"_make_server"},
    "BaseProtocol": {"_loop", "_paused", "_reading_paused"},
    "RequestHandler": {
        "_close",
        "_keepalive_handle",
        "_keepalive_timeout",
        "_messages",
        "_next_keepalive_close_time",
        "_process_keepalive",
        "_request_count",
    },
    "BaseRequest": {"_version"},
    "Server": {"_kwargs", "_loop"},
}
OF_OTHERS = {  # variables that hold an object of aiohttp's
    "site": ("aiohttp.web_runner", "BaseSite"),
    "unread": ("aiohttp.web_request", "BaseRequest"),
}


def test_the_front_uses_no_private_name_of_aiohttp_that_is_not_listed() -> None:
    used: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(Path(front.__file__).parent.rglob("*.py")):
        for owner, name in _used_in(path):
            used[owner].add(name)
    assert used == PRIVATE_NAMES


def test_aiohttp_is_bounded_to_the_minor_version_whose_names_these_are() -> None:
    project = tomllib.loads((Path(reservasi.__file__).parents[1] / "pyproject.toml").read_text())
    (wanted,) = [each for each in project["project"]["dependencies"] if each.startswith("aiohttp>")]
    major, minor, *_ = metadata.version("aiohttp").split(".")
    assert wanted.endswith(f",<{major}.{int(minor) + 1}")


def _used_in(path: Path) -> Iterator[tuple[str, str]]:
    """The class of aiohttp and the name, for each use in a file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in OF_OTHERS:
            holder, name = OF_OTHERS[node.value.id]
            yield from _owners(getattr(importlib.import_module(holder), name), node.attr)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.bases]
    if not classes:
        return
    root = Path(reservasi.__file__).parents[1]
    module = importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
    for each in classes:
        for name in _own_names(each):
            yield from _owners(getattr(module, each.name), name)


def _own_names(of: ast.ClassDef) -> Iterator[str]:
    """What a class reads and sets of itself, and the methods that it overrides."""
    for node in ast.walk(of):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and (_is_self(node.value) or _is_super(node.value)):
            yield node.attr


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _owners(of: type, name: str) -> Iterator[tuple[str, str]]:
    """The class of aiohttp that defines a private name, if one does."""
    if not name.startswith("_") or name.endswith("__"):
        return
    for each in of.__mro__:
        if each.__module__.startswith("aiohttp.") and name in _defined_by(each):
            yield each.__name__, name
            return


@cache
def _defined_by(of: type) -> set[str]:
    """The names of a class: its slots, its methods, and what its methods set."""
    tree: Any = ast.parse(inspect.getsource(of).lstrip())
    sets = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value)
    }
    return {*vars(of), *getattr(of, "__slots__", ()), *sets}
