"""Finds the operation or page of a request: one table, by method and path, for both transports."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from reservasi.front.api.paths import LIMITED_PATHS
from reservasi.front.api.request import NO_PARAMETERS

MATCHES_KEPT_MAX = 4096  # cached targets; all are dropped when there are more
MATCH_CHARS_MAX = 512  # of a cached target


class Route(NamedTuple):
    """One method on one path."""

    path: str  # with its parameters in braces; the label of its metrics
    method: str
    handler: Callable[..., Any]
    streams: bool = False  # whether its answer never ends, so that only aiohttp carries it
    limits_itself: bool = False  # whether its handler counts the caller's network, once the request is well formed
    names_all: bool = True  # whether every answer names the request
    reads_query: bool = True  # whether query parameters are read


class Match:
    """The route of a request target; cached."""

    __slots__ = ("allowed", "counts_network", "names_all", "parameters", "path", "query", "route", "streams", "tally")

    def __init__(
        self,
        path: str,
        query: str,
        route: Route | None,
        parameters: Mapping[str, str] = NO_PARAMETERS,
        allowed: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.query = query
        self.route = route  # None: there is no such path, or no such method on it
        self.parameters = parameters
        self.allowed = allowed  # methods of the path
        self.streams = route is not None and route.streams
        self.names_all = route is None or route.names_all
        self.counts_network = path.startswith(LIMITED_PATHS) and not (route is not None and route.limits_itself)
        self.tally: Any = None  # counts its requests; set by the dispatcher


class _Node:
    """The possible continuations of a path."""

    __slots__ = ("literals", "methods", "name", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.name = ""
        self.methods: dict[str, Route] = {}


class Router:
    """Finds routes; literal parts of a path go before parameters."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root: Final = _Node()
        self._matches: dict[tuple[str, str], Match] = {}
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for part in route.path.split("/")[1:]:
            if part.startswith("{"):
                node.parameter = node.parameter or _Node()
                node.name, node = part[1:-1], node.parameter
            else:
                node = node.literals.setdefault(part, _Node())
        if route.method in node.methods:
            raise ValueError(f"{route.method} {route.path} is declared twice")
        node.methods[route.method] = route

    def find(self, method: str, target: str) -> Match:
        """The route of a method and a target, path and query as sent."""
        key = (method, target)
        match = self._matches.get(key)
        if match is None:
            match = self._find(method, target)
            if len(target) <= MATCH_CHARS_MAX:
                if len(self._matches) >= MATCHES_KEPT_MAX:
                    self._matches.clear()
                self._matches[key] = match
        return match

    def _find(self, method: str, target: str) -> Match:
        path, _, query = target.partition("?")
        node, parameters = self._root, {}
        for sent in path.split("/")[1:]:
            part = unquote(sent, errors="replace")
            following = node.literals.get(part)
            if following is None and part and node.parameter is not None:
                parameters[node.name] = part
                following = node.parameter
            if following is None:
                return Match(path, query, None)
            node = following
        methods = node.methods
        route = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
        allowed = () if route is not None else _allowed(methods)
        return Match(path, query, route, parameters, allowed)


def _allowed(methods: Mapping[str, Route]) -> tuple[str, ...]:
    """The methods of a path; empty if there is no such path."""
    if not methods:
        return ()
    return tuple(sorted({*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())}))
