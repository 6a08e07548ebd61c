"""What a request is called in logs and answers: `X-Request-Id`, and `traceparent` (W3C Trace Context, version 00).

Both are taken from the request and answered as they came. A request id that cannot be used is replaced by a new one, a
`traceparent` that cannot is ignored. A request without an id is given one. Answers to plain claims, joins and reads of
the availability carry it only where the log has a line about the request: elsewhere it would cost time and name
nothing.
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
    """One request's names."""

    __slots__ = ("given", "lines", "logged", "request_id", "traceparent")

    def __init__(self, request_id: str, traceparent: str, *, given: bool) -> None:
        self.request_id = request_id
        self.traceparent = traceparent  # "" where there is none
        self.given = given  # whether the caller named it in any way
        self.logged = False  # whether a line of the log names it
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
    """A request's names by the values of its headers; what was sent twice or is malformed does not count."""
    usable = len(request_ids) == 1 and _USABLE_ID.fullmatch(request_ids[0])
    parent = len(traceparents) == 1 and _USABLE_PARENT.fullmatch(traceparents[0])
    return Trace(
        request_ids[0] if usable else new_request_id(),
        traceparents[0] if parent else "",
        given=bool(request_ids or parent),
    )


def new_trace() -> Trace:
    """Names for a request that brought none."""
    return Trace(new_request_id(), "", given=False)


class _Numbers:
    """Ids that no other process and no other start gives: a random beginning and a count."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin anew, as in a process that was forked."""
        self._beginning = secrets.token_hex(8)
        self._count = itertools.count(1)

    def next(self) -> str:
        """One more."""
        return f"{self._beginning}-{next(self._count):x}"


_numbers = _Numbers()
os.register_at_fork(after_in_child=_numbers.begin)
new_request_id = _numbers.next
