"""aiohttp's server, with its own error pages replaced: they echo, and log, the bytes that they could not read."""

from typing import Any

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from reservasi.front import problem_types
from reservasi.front.answering import STATIC_HEADERS
from reservasi.front.problems import Refused, problem_response
from reservasi.settings import Settings

log = structlog.get_logger()


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


def create_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """What listens for the public application, with the limits of the settings."""
    limits: dict[str, Any] = {
        "keepalive_timeout": settings.keepalive_s,
        "shutdown_timeout": settings.shutdown_timeout_s,
        "access_log": None,
    }
    return _Runner(app, **limits)
