"""Serves a baseline exactly as our own front is: gunicorn, aiohttp's uvloop worker, a quiet garbage collector."""

import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from gunicorn.app.base import BaseApplication

from reservasi.front.process.garbage_collector import set_aside_what_stays

PORT_VARIABLE = "BENCH_PORT"
PROCESSES_VARIABLE = "BENCH_PROCESSES"
ANSWER_BYTES_VARIABLE = "BENCH_ANSWER_BYTES"
REDIS_URL_VARIABLE = "BENCH_REDIS_URL"
POSTGRES_DSN_VARIABLE = "BENCH_POSTGRES_DSN"


class Baseline(BaseApplication):
    """Gunicorn with the settings that `reservasi api` has."""

    def __init__(self, make_app: Callable[[], Awaitable[web.Application]]) -> None:
        self._make_app = make_app
        super().__init__()

    def load_config(self) -> None:
        """As many processes as asked for, no access log, the same worker class."""
        values: dict[str, Any] = {
            "bind": f"127.0.0.1:{os.environ[PORT_VARIABLE]}",
            "workers": int(os.environ[PROCESSES_VARIABLE]),
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
        """What a process makes its application with."""
        return self._made

    async def _made(self) -> web.Application:
        app = await self._make_app()
        set_aside_what_stays()
        return app


def body_bytes(status: int = 201) -> int:
    """The size of a body that makes the whole answer as large as our front's."""
    total_bytes = int(os.environ[ANSWER_BYTES_VARIABLE])
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\nContent-Length: \r\n"
        f"Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
    )
    rest = total_bytes - len(head)
    return rest - len(str(rest - 3))  # the length is written in as many digits
