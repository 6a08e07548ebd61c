"""Listens for the public application, and stops without losing a request."""

import asyncio
import contextlib
import os
import socket
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from reservasi.front.app_keys import DISPATCHER, FRONT
from reservasi.front.http.arrivals import Arrivals
from reservasi.front.http.connection import DRAIN_LOOK_S, Connection
from reservasi.front.http.head_faults import HEAD_BYTES_MAX
from reservasi.settings import Settings

DRAIN_LOOKS = 50  # checks whether connections have ended by themselves during a stop; then idle ones are closed
BACKLOG_MAX = 65_535  # the maximum of a listening socket


class _Server(web.Server):
    def __init__(self, server: web.Server, arrivals: Arrivals) -> None:
        self.__dict__.update(server.__dict__)  # everything that the application configured
        self._arrivals = arrivals

    def __call__(self) -> RequestHandler:
        return Connection(self, self._arrivals, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    __slots__ = ("_settings",)

    def __init__(self, app: web.Application, settings: Settings, **limits: Any) -> None:
        super().__init__(app, **limits)
        self._settings = settings

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        front = self.app[FRONT]
        return _Server(server, Arrivals(self.app[DISPATCHER], front.stopping, self._settings, front.cors))

    def _reg_site(self, site: web.BaseSite) -> None:
        """Give a listening socket our backlog: aiohttp's worker for gunicorn sets it to aiohttp's default of 128."""
        site._backlog = self._settings.backlog  # noqa: SLF001
        super()._reg_site(site)

    async def cleanup(self) -> None:
        """Stop without losing a request: first no new connections, then no idle ones, then none at all.

        aiohttp alone closes accepted connections that were not read yet, and does not announce the end of idle ones.
        """
        self.app[FRONT].stopping.set()
        await self._stop_listening()
        for _ in range(DRAIN_LOOKS):  # counted, not timed: a process that was paused has not checked meanwhile
            if self.server is None or not self.server.connections:
                break
            await asyncio.sleep(DRAIN_LOOK_S)
        await super().cleanup()

    async def _stop_listening(self) -> None:
        """Close the listening sockets when no connection waits in them, since the kernel resets those that do."""
        loop = asyncio.get_running_loop()
        listening = [
            each
            for site in self.sites
            if site._server is not None  # noqa: SLF001 - aiohttp has no other way to them
            for each in site._server.sockets  # type: ignore[attr-defined]  # noqa: SLF001
        ]
        listeners = [socket.socket(fileno=os.dup(each.fileno())) for each in listening]
        # asyncio accepts a connection in one turn of its loop and starts it in the next; if the server is closed in
        # between, the connection stays open and unread. (uvloop does both in one turn.)
        for each in listening:
            loop.remove_reader(each.fileno())
        await asyncio.sleep(0)
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
            await loop.connect_accepted_socket(self._accept, connection)

    def _accept(self) -> asyncio.Protocol:
        if self.server is None:
            raise ConnectionError("the server is gone")
        return self.server()


def create_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """The runner of the public application, with the limits of the settings."""
    limits: dict[str, Any] = {
        "keepalive_timeout": settings.keepalive_s,
        "shutdown_timeout": settings.shutdown_timeout_s,
        "access_log": None,
        "max_line_size": HEAD_BYTES_MAX,
        "max_field_size": HEAD_BYTES_MAX,
        "auto_decompress": False,  # compressed bodies are refused, so that nothing must be decompressed
    }
    return _Runner(app, settings, **limits)
