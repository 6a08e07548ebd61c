"""Serves a baseline exactly as our own front is: gunicorn, aiohttp's uvloop worker, a quiet garbage collector."""

import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from gunicorn.app.base import BaseApplication

from reservasi.front.process.garbage_collector import set_aside_what_stays

VARIABLE = "BENCH_BASELINE"


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of a baseline is started with, as JSON in its environment."""

    port: int
    processes: int
    answer_bytes: int  # of our front's answer, head and body
    redis_url: str
    postgres_dsn: str
    status: int = 201

    @property
    def environment(self) -> dict[str, str]:
        return {VARIABLE: msgspec.json.encode(self).decode()}

    @classmethod
    def read(cls) -> "Baseline":
        return msgspec.json.decode(os.environ[VARIABLE], type=cls)

    @property
    def body_bytes(self) -> int:
        """The size of a body that makes the whole answer as large as our front's."""
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: \r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
        )
        rest = self.answer_bytes - len(head)
        return rest - len(str(rest - 3))  # the length is written in as many digits


class Gunicorn(BaseApplication):
    """Gunicorn with the settings that `reservasi api` has."""

    def __init__(self, make_app: Callable[[], Awaitable[web.Application]]) -> None:
        self._make_app = make_app
        super().__init__()

    def load_config(self) -> None:
        baseline = Baseline.read()
        values: dict[str, Any] = {
            "bind": f"127.0.0.1:{baseline.port}",
            "workers": baseline.processes,
            "worker_class": "aiohttp.GunicornUVLoopWebWorker",
            "backlog": 4096,
            "keepalive": 15,
            "timeout": 60,
            "accesslog": None,
            "loglevel": "warning",
            "control_socket_disable": True,
        }
        for name, value in values.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        return self._made

    async def _made(self) -> web.Application:
        app = await self._make_app()
        set_aside_what_stays()
        return app
