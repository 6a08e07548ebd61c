"""aiohttp's server, with its own error pages replaced: they echo, and log, the bytes that they could not read."""

import asyncio
import contextlib
import os
import socket
from typing import Any

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from reservasi.front import problem_types
from reservasi.front.answering import STATIC_HEADERS
from reservasi.front.keys import STOPPING
from reservasi.front.problems import Refused, problem_response
from reservasi.settings import Settings

log = structlog.get_logger()

DRAIN_S = 0.5  # how long connections may end by themselves once we stop; idle ones are closed after it
DRAIN_LOOK_S = 0.01
BACKLOG_MAX = 65_535  # the most that a listening socket can hold


class _Connection(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached the application: bytes that are not HTTP, or a fault outside the middleware."""
        if status >= 500:
            log.error("connection_failed", exc_info=exc)
        else:
            log.debug("request_not_readable", fault=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, another one cannot be sent")
        kind = problem_types.INTERNAL_ERROR if status >= 500 else problem_types.BAD_REQUEST
        response = problem_response(request, Refused(kind))
        response.headers.update(STATIC_HEADERS)
        response.force_close()
        return response


class _Server(web.Server):
    def __init__(self, made: web.Server) -> None:
        self.__dict__.update(made.__dict__)  # all that the application configured

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    __slots__ = ()

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server())

    async def cleanup(self) -> None:
        """Stop without losing a request: first no new connections, then no kept ones, then none at all.

        aiohttp alone closes what was accepted and not read yet, and tells no one that it will close what it kept.
        """
        self.app[STOPPING].set()
        await self._stop_listening()
        deadline = asyncio.get_running_loop().time() + DRAIN_S
        while self.server is not None and self.server.connections:
            if asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(DRAIN_LOOK_S)
        await super().cleanup()

    async def _stop_listening(self) -> None:
        """Close the listening sockets at a moment when nobody waits in them: the kernel resets whoever does."""
        listeners = [
            socket.socket(fileno=os.dup(listening.fileno()))
            for site in self.sites
            if site._server is not None  # noqa: SLF001 - aiohttp has no other way to them
            for listening in site._server.sockets  # type: ignore[attr-defined]  # noqa: SLF001
        ]
        for site in list(self.sites):
            await site.stop()
        accepted: list[socket.socket] = []
        for listener in listeners:
            listener.setblocking(False)
            with contextlib.closing(listener), contextlib.suppress(BlockingIOError):
                while len(accepted) < BACKLOG_MAX:
                    accepted.append(listener.accept()[0])
        for connection in accepted:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._accept, connection)

    def _accept(self) -> asyncio.Protocol:
        if self.server is None:
            raise ConnectionError("the server is gone")
        return self.server()


def create_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """What listens for the public application, with the limits of the settings."""
    limits: dict[str, Any] = {
        "keepalive_timeout": settings.keepalive_s,
        "shutdown_timeout": settings.shutdown_timeout_s,
        "access_log": None,
        "auto_decompress": False,  # compressed bodies are refused, so nothing is unpacked for a stranger
    }
    return _Runner(app, **limits)
