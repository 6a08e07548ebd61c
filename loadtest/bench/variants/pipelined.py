"""The strongest simple rival: one EVALSHA for each request, all over one connection, whose replies come in order."""

import asyncio
from collections import deque
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis
from aiohttp import web

from loadtest.bench.serving import Baseline, Gunicorn
from loadtest.bench.variants import script
from loadtest.bench.variants.essentials import Claim, Verdict, claim_app


class Pipelined(script.ScriptRival):
    name = "pipelined"
    title = "one EVALSHA per request, one pipelined hiredis connection, appendfsync always"


class Pipe(asyncio.Protocol):
    """Commands go out as they come; the replies resolve them first in, first out."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a socket gives a Transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            future = self._waiting.popleft()
            if future.done():  # its request was given up
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionResetError("the server closed the connection"))

    def ask(self, *command: str | int) -> asyncio.Future[Any]:
        """The reply to a command.

        Raises:
            ConnectionResetError: the connection is gone.
        """
        if self.transport is None:
            raise ConnectionResetError("the server closed the connection")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(future)
        self.transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub knows one item
        return future


async def make_app(
    source: str = script.CLAIM, keys: tuple[str, ...] = script.Keys.of(Pipelined.name)
) -> web.Application:
    url = urlsplit(Baseline.read().redis_url)
    _, pipe = await asyncio.get_running_loop().create_unix_connection(Pipe, url.path)
    if url.username and url.password:
        await pipe.ask("AUTH", unquote(url.username), unquote(url.password))
    sha = (await pipe.ask("SCRIPT", "LOAD", source)).decode()

    async def decide(claim: Claim) -> Verdict:
        return script.verdict(await pipe.ask("EVALSHA", *script.arguments(sha, keys, claim)))

    async def close() -> None:
        if pipe.transport is not None:
            pipe.transport.close()

    return claim_app(decide, close)


if __name__ == "__main__":
    Gunicorn(make_app).run()
