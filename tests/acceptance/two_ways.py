"""One request in two forms: plain, as the byte-level connection reads it, and as only aiohttp does; and both answers.

Both forms mean the same, so the answers must be equal but for what no two answers share: the date, names of requests,
jittered waits, and what a claim makes.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

Way = Literal["plain", "doubted"]
WAYS: tuple[Way, Way] = ("plain", "doubted")
DOUBT = "Trailer: x"  # changes nothing, and the strict reader leaves a request with it to aiohttp
WAIT_S = 10.0
NAMES_ITS_OWN = ("Date",)
VARYING = {"X-Request-Id": "<request>", "Retry-After": "<seconds>"}
MADE_BY_EVERY = frozenset({"request_id"})
_MADE_AT = re.compile(rb"\r\nDTSTAMP:[0-9TZ]+")  # of a calendar: the second in which it was made
_RESERVATION = re.compile(r"[a-z2-7]{26}")


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One request, in no form yet."""

    method: str
    target: str
    headers: tuple[str, ...] = ()
    body: bytes | None = None  # None: none; b"" is one of length 0
    missing_bytes: int = 0  # of the body, announced and never sent
    is_head_unfinished: bool = False  # the empty line that ends the headers is never sent
    version: str = "HTTP/1.1"

    def raw(self, way: Way) -> bytes:
        """The bytes that carry it."""
        lines = [f"{self.method} {self.target} {self.version}", "Host: x", *self.headers]
        content = b""
        if self.body is not None and way == "plain":
            lines.append(f"Content-Length: {len(self.body) + self.missing_bytes}")
            content = self.body
        elif self.body is not None:
            lines.append("Transfer-Encoding: chunked")
            chunk = b"%x\r\n%b\r\n" % (len(self.body), self.body) if self.body else b""
            content = chunk + (b"" if self.missing_bytes else b"0\r\n\r\n")
        elif way == "doubted":
            lines.append(DOUBT)
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n"
        return head if self.is_head_unfinished else head + b"\r\n" + content


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer; of a stream, its head and what it tells first."""

    status_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.status_line.split(" ")[1])

    def header(self, name: str) -> str:
        """Its value; "" where there is none."""
        return dict(self.headers).get(name, "")

    @property
    def problem(self) -> str:
        """The name of its problem type; "" where it is none."""
        if self.header("Content-Type") != "application/problem+json":
            return ""
        return str(json.loads(self.body)["type"]).removeprefix("/problems/")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request whose answer must not depend on the form that it is sent in."""

    operation: str  # of the API's description, or a page's path
    outcome: str  # a problem's name, or a status
    make: Callable[[Any], Awaitable[Sent]]  # of the `World`
    fresh: bool = False  # made once for each form, since it takes something that can be taken once
    varies: frozenset[str] = frozenset()  # members of the body that no two answers share
    front: str = "usual"  # which one it is sent to
    fault: Callable[[pytest.MonkeyPatch], None] | None = None  # what is broken meanwhile
    about: str = ""  # tells cases of one operation and outcome apart

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.operation, self.outcome, self.about)))


async def exchange(url: str, raw: bytes, method: str) -> Answer:
    """What is answered to these bytes on a connection of their own."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    with closing(writer):
        writer.write(raw)
        async with asyncio.timeout(WAIT_S):
            return await read_answer(reader, method)


async def read_answer(reader: asyncio.StreamReader, method: str) -> Answer:
    """One answer, to its end; of a stream the first chunk."""
    status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    headers = tuple(sorted(tuple(line.split(": ", 1)) for line in lines))
    fields: dict[str, str] = dict(headers)  # type: ignore[arg-type]
    body = b""
    if method == "HEAD" or status_line.split(" ")[1] in ("204", "304"):
        pass
    elif fields.get("Transfer-Encoding") == "chunked":
        size = int(await reader.readuntil(b"\r\n"), 16)
        body = await reader.readexactly(size)
    else:
        body = await reader.readexactly(int(fields["Content-Length"]))
    return Answer(status_line=status_line, headers=headers, body=body)  # type: ignore[arg-type]


def comparable(answer: Answer, case: Case) -> tuple[str, list[tuple[str, str]], Any]:
    """The answer without what no two share."""
    headers = [(name, VARYING.get(name, value)) for name, value in answer.headers if name not in NAMES_ITS_OWN]
    body: Any = answer.body
    if answer.body and "json" in answer.header("Content-Type"):
        whole = json.loads(answer.body)
        body = _masked(whole, MADE_BY_EVERY | case.varies)
        if MADE_BY_EVERY & whole.keys():  # an id grows by a digit at times
            headers = [(name, value) for name, value in headers if name != "Content-Length"]
    elif answer.header("Content-Type").startswith("text/calendar"):
        body = _MADE_AT.sub(b"", body)
    if case.fresh:
        headers = [(name, _RESERVATION.sub("<reservation>", value)) for name, value in headers]
    return answer.status_line, headers, body


def _masked(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: f"<{name}>" if name in names else _masked(each, names) for name, each in value.items()}
    return [_masked(each, names) for each in value] if isinstance(value, list) else value
