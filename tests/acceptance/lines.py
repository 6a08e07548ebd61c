"""Raw connections to a front, and requests for them, as bytes."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

# A header that is left to aiohttp, and that changes nothing.
LONG_WAY = "Trailer: x"


class Line:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[str, dict[str, str], bytes]:
        """Status line, headers, body."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await asyncio.wait_for(self.reader.readexactly(int(headers.get("Content-Length", "0"))), 60)
        return head[0], headers, body


async def connect(url: str) -> Line:
    address = urlsplit(url)
    return Line(*await asyncio.open_connection(address.hostname, address.port))


def request(stack: Any, body: Any, key: str, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = ["POST /v1/reservations HTTP/1.1", "Host: x", "Content-Type: application/json"]
    lines += [f"Idempotency-Key: {key}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def comparable(answer: tuple[str, dict[str, str], bytes]) -> tuple[str, dict[str, str], Any]:
    status, headers, body = answer
    kept = {name: value for name, value in headers.items() if name not in ("Date", "Retry-After", "Content-Length")}
    return status, kept, json.loads(body) if body else None


async def both(line: Line, short: bytes, long_line: Line, long: bytes) -> None:
    line.writer.write(short)
    first = comparable(await line.answer())
    long_line.writer.write(long)
    assert comparable(await long_line.answer()) == first


def join_request(room: Any, body: Any, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST /v1/openings/{room.id}/tickets HTTP/1.1", "Host: x", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", *headers]).encode() + b"\r\n\r\n" + content
