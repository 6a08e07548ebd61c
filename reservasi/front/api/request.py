"""One request as the handlers see it, whichever transport it came by."""

from collections.abc import Mapping, Sequence
from email.message import Message
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from reservasi.front.api.languages import Language, negotiate
from reservasi.front.api.problems import Refused
from reservasi.front.api.tracing import Trace, trace_of

AUTHORIZATION, API_KEY = b"authorization", b"x-api-key"
IF_MATCH, IF_NONE_MATCH = b"if-match", b"if-none-match"
REQUEST_ID, TRACEPARENT = b"x-request-id", b"traceparent"
NOTHING: Final[Mapping[bytes, str]] = {}
NO_PARAMETERS: Final[Mapping[str, str]] = {}


_CHARSETS = ("utf-8", "utf8", "us-ascii")


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    """Whether a Content-Type is JSON in UTF-8."""
    message = Message()
    message["Content-Type"] = content_type
    charset = message.get_param("charset") or "utf-8"
    return message.get_content_type() == "application/json" and str(charset).lower() in _CHARSETS


class Head:
    """The header values that many requests share; "" if there is no line."""

    __slots__ = ("accept", "accept_encoding", "content_type", "is_json", "language", "origin")

    def __init__(self, values: Mapping[bytes, str]) -> None:
        self.content_type = values.get(b"content-type", "")
        self.is_json = _is_json(self.content_type)
        self.accept = values.get(b"accept", "")
        self.origin = values.get(b"origin", "")
        self.accept_encoding = values.get(b"accept-encoding", "")
        self.language: Language = negotiate(values.get(b"accept-language", ""))


class Request:
    """One complete request."""

    # Rarely needed attributes are not in the slots, so that other requests do not pay for them.
    fault: Refused | None = None  # why the body could not be read
    peer = ""  # the address of the other end; "" if it has none
    parameters: Mapping[str, str] = NO_PARAMETERS  # of the path
    query = ""
    _query: list[tuple[str, str]] | None = None
    _trace: Trace | None = None

    def __init__(  # noqa: PLR0917 - names would cost every request time
        self,
        method: str,
        target: str,
        head: Head,
        idempotency_keys: Sequence[str] = (),
        forwarded: Sequence[str] = (),
        values: Mapping[bytes, str] = NOTHING,
        body: bytes = b"",
    ) -> None:
        self.method = method
        self.target = target  # path and query as sent
        self.head = head
        self.idempotency_keys = idempotency_keys  # every line of that name
        self.forwarded = forwarded  # every X-Forwarded-For line
        self.values = values  # of the headers that differ between requests, by their names in lower case
        self.body = body

    @property
    def language(self) -> Language:
        """The language of its refusals and pages."""
        return self.head.language

    @property
    def trace(self) -> Trace:
        """Its names in logs and answers."""
        if self._trace is None:
            values = self.values
            self._trace = trace_of(*([values[each]] if each in values else () for each in (REQUEST_ID, TRACEPARENT)))
        return self._trace

    @property
    def known_trace(self) -> Trace | None:
        """The trace, if the caller named the request or a log line does; else None."""
        values = self.values
        if values and self._trace is None and (REQUEST_ID in values or TRACEPARENT in values):
            return self.trace
        return self._trace

    @property
    def query_parameters(self) -> list[tuple[str, str]]:
        """The decoded parameters of the query, in order."""
        if self._query is None:
            self._query = query_parameters(self.query)
        return self._query


def query_parameters(query: str) -> list[tuple[str, str]]:
    """The decoded parameters of a query as sent, in order."""
    return parse_qsl(query, keep_blank_values=True) if query else []
