"""The admin port: whether the process lives, whether it can answer, and its metrics."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import msgspec
from aiohttp import hdrs, web

from reservasi.catalogue import Catalogue
from reservasi.errors import ConfigurationError
from reservasi.front.keys import FrontServices
from reservasi.metrics import CONTENT_TYPE, exposition

Said: TypeAlias = Mapping[str, bool | Sequence[str]]
Readiness = Callable[[], Said]  # each bool is a check; lists only tell
READINESS: web.AppKey[Readiness] = web.AppKey("readiness")


def front_readiness(services: FrontServices) -> Readiness:
    """What a front needs before it can answer."""

    def checks() -> Said:
        return {
            "availability": services.availability.ready,
            "catalogue": services.catalogue.loaded,
        }

    return checks


def worker_readiness(served: Catalogue) -> Readiness:
    """A worker waits out whatever is missing, so it is ready as soon as it runs; it tells which programs it serves."""

    def said() -> Said:
        programs = [program.id for program in served.programs()]
        return {"worker": True, "programs": programs, "left_to_others": served.left_out()}

    return said


@asynccontextmanager
async def serve_admin(readiness: Readiness, host: str, port: int) -> AsyncIterator[None]:
    """Serve the admin port until the block ends. Several processes may share it: any of them answers.

    Raises:
        ConfigurationError: the port is taken by somebody else.
    """
    runner = web.AppRunner(create_admin_app(readiness), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, reuse_port=True).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigurationError(f"the admin port {host}:{port} cannot be opened: {error.strerror}") from error
    try:
        yield
    finally:
        await runner.cleanup()


def create_admin_app(readiness: Readiness) -> web.Application:
    """The application behind the admin port; ready when every check is true."""
    app = web.Application()
    app[READINESS] = readiness
    app.on_response_prepare.append(_close)
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


async def _close(_request: web.Request, response: web.StreamResponse) -> None:
    """Keep no connection: whoever scrapes comes seldom, and a front that is replaced would cut what it keeps."""
    response.headers[hdrs.CONNECTION] = "close"
    response.force_close()


async def _livez(_request: web.Request) -> web.Response:
    return _json({"live": True})


async def _readyz(request: web.Request) -> web.Response:
    said = request.app[READINESS]()
    ready = all(value for value in said.values() if isinstance(value, bool))
    return _json({"ready": ready, **said}, 200 if ready else 503)


async def _metrics(_request: web.Request) -> web.Response:
    # Reading the files of every process may take a while; the loop has better things to do.
    body = await asyncio.to_thread(exposition)
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.CACHE_CONTROL: "no-store"})


def _json(body: Said, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"},
    )
