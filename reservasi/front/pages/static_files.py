"""Scripts and styles of the pages, read once; their address contains their version, so that they can be cached.

All files share one version, since scripts load each other by relative addresses.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from reservasi.front.api.answers import Answer
from reservasi.front.api.paths import STATIC_PATH
from reservasi.front.api.problem_catalogue import NOT_FOUND
from reservasi.front.api.problems import Refused
from reservasi.front.api.request import Request
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.cached import Kind, conditional
from reservasi.front.views.quota_json import Encoded, encoded

FOR_EVER = "public, max-age=31536000, immutable"
_DIRECTORY = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class _File(NamedTuple):
    view: Encoded
    content_type: str


@cache
def _files() -> dict[str, _File]:
    paths = {path.name: path for path in sorted(_DIRECTORY.iterdir()) if path.suffix in _TYPES}
    return {name: _File(encoded(path.read_bytes()), _TYPES[path.suffix]) for name, path in paths.items()}


@cache
def version() -> str:
    """A hash over all files."""
    together = hashlib.blake2b(digest_size=8)
    for name, file in _files().items():
        together.update(f"{name} {file.view.etag}\n".encode())
    return together.hexdigest()


def address() -> str:
    """The path of the files, without a slash at the end."""
    return STATIC_PATH.replace("{version}", version()).removesuffix("/{name}")


def content(name: str) -> bytes:
    """The content of a file; raises KeyError for an unknown name."""
    return _files()[name].view.body


def static(_front: Front, request: Request) -> Answer:
    """`GET /static/{version}/{name}`.

    Another version is requested while fronts are replaced: it gets the current file, which is then not cached.
    """
    file = _files().get(request.parameters["name"])
    if file is None:
        raise Refused(NOT_FOUND)
    ours = request.parameters["version"] == version()
    return conditional(request, file.view, Kind(FOR_EVER if ours else "no-cache", file.content_type))
