"""Cross-origin requests (Fetch standard, "CORS protocol") from booking frontends on the configured origins.

The API does not use cookies, so that credentials are not allowed: secrets are sent in headers. If origins are
configured, every answer of the API varies by origin, so that a cache does not give one frontend the answer to another.
"""

from collections.abc import Iterable, Mapping

API_PATHS = ("/v1/", "/openapi.json", "/problems/")
EXPOSED = (
    "Allow, Content-Language, ETag, Idempotent-Replayed, Location, Retry-After, WWW-Authenticate, X-Request-Id, "
    "traceparent"
)
TAKEN = (
    "Accept-Language, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-API-Key, X-Request-Id, "
    "traceparent"
)
PREFLIGHT_KEPT_S = 7200  # the longest time that Chromium accepts
_VARY = (("Vary", "Origin"),)


class Cors:
    """Decides which origins may call the API."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._headers = {
            each: (*_VARY, ("Access-Control-Allow-Origin", each), ("Access-Control-Expose-Headers", EXPOSED))
            for each in origins
        }
        self._lines = {each: _encode(headers) for each, headers in self._headers.items()}
        self._vary_line = _encode(_VARY)
        self.is_on = bool(self._headers)

    def headers(self, target: str, origin: str) -> tuple[tuple[str, str], ...]:
        """Additional headers of an answer, as pairs: other headers of these names stay."""
        if not (self.is_on and target.startswith(API_PATHS)):
            return ()
        return self._headers.get(origin, _VARY)

    def lines(self, target: str, origin: str) -> bytes:
        """The encoded headers, each after its line end; call it only if CORS is on."""
        return self._lines.get(origin, self._vary_line) if target.startswith(API_PATHS) else b""

    def preflight(self, target: str, origin: str, methods: str) -> Mapping[str, str]:
        """Additional headers of the answer to OPTIONS."""
        if origin not in self._headers or not target.startswith(API_PATHS):
            return {}
        return {
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": TAKEN,
            "Access-Control-Max-Age": str(PREFLIGHT_KEPT_S),
        }


def _encode(headers: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"\r\n{name}: {value}" for name, value in headers).encode()


NO_CORS = Cors(())  # no origin may
