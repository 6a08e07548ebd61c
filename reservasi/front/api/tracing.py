"""Names of a request in logs and answers: `X-Request-Id`, and `traceparent` (W3C Trace Context, version 00).

Both are taken from the request and returned unchanged. An invalid request id is replaced by a new one, an invalid
`traceparent` is ignored. A request without an id gets one. Answers to plain claims, joins and reads of availability
have it only if the caller sent one or the log has a line about the request: otherwise it would only cost time.
"""

import itertools
import os
import re
import secrets
from collections.abc import Sequence

REQUEST_ID = "X-Request-Id"
TRACEPARENT = "traceparent"
_USABLE_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
_USABLE_PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Trace:
    """The names of one request."""

    __slots__ = ("given", "lines", "logged", "request_id", "traceparent")

    def __init__(self, request_id: str, traceparent: str, *, given: bool) -> None:
        self.request_id = request_id
        self.traceparent = traceparent  # "" if there is none
        self.given = given  # whether the caller named it
        self.logged = False  # whether a log line names it
        lines = f"\r\n{REQUEST_ID}: {request_id}"
        if traceparent:
            lines += f"\r\n{TRACEPARENT}: {traceparent}"
        self.lines = lines.encode()  # of the answer's head

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        parent = {TRACEPARENT: self.traceparent} if self.traceparent else {}
        return {REQUEST_ID: self.request_id, **parent}

    @property
    def fields(self) -> dict[str, str]:
        """Fields of every log line about the request."""
        parent = {"trace_id": self.traceparent[3:35]} if self.traceparent else {}
        return {"request_id": self.request_id, **parent}


def trace_of(request_ids: Sequence[str], traceparents: Sequence[str]) -> Trace:
    """The names of a request by its header values; repeated or malformed values are ignored."""
    usable = len(request_ids) == 1 and _USABLE_ID.fullmatch(request_ids[0])
    parent = len(traceparents) == 1 and _USABLE_PARENT.fullmatch(traceparents[0])
    return Trace(
        request_ids[0] if usable else new_request_id(),
        traceparents[0] if parent else "",
        given=bool(request_ids or parent),
    )


class _Numbers:
    """Ids that no other process and no other start returns: a random prefix and a counter."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Choose a new prefix, as in a forked process."""
        self._beginning = secrets.token_hex(8)
        self._count = itertools.count(1)

    def next(self) -> str:
        """The next id."""
        return f"{self._beginning}-{next(self._count):x}"


_numbers = _Numbers()
os.register_at_fork(after_in_child=_numbers.begin)
new_request_id = _numbers.next
