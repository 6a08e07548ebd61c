"""The admin port: whether the process lives, whether it can answer, and its metrics."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import msgspec
from aiohttp import hdrs, web

from reservasi.catalogue import Catalogue
from reservasi.errors import ConfigurationError
from reservasi.front.services import FrontServices
from reservasi.health import Health
from reservasi.metrics import CONTENT_TYPE, LAG_S, exposition

Said: TypeAlias = Mapping[str, bool | Sequence[str] | Mapping[str, str]]
Readiness = Callable[[], Said]  # each bool is a check; the rest only tells
Teller = Callable[[], Callable[[], None]]  # on the loop; what it returns sets gauges, in a thread, before a scrape
TELLER: web.AppKey[Teller] = web.AppKey("teller")
READINESS: web.AppKey[Readiness] = web.AppKey("readiness")


def front_readiness(services: FrontServices) -> Readiness:
    """What a front needs before it can answer; what is missing, by program, and why."""

    def said() -> Said:
        missing = {program: f"availability: {why}" for program, why in services.availability.missing().items()}
        if not services.catalogue.loaded:
            missing["catalogue"] = "the programs were not read from the records yet"
        elif not services.catalogue.fresh:  # a front serves without
            missing["records"] = "they do not answer: confirmations are answered 202 meanwhile"
        told: dict[str, bool | Sequence[str] | Mapping[str, str]] = {
            "availability": services.availability.ready,
            "catalogue": services.catalogue.loaded,
        }
        if missing:
            told["missing"] = missing
        return told

    return said


def worker_readiness(health: Health, served: Callable[[], Catalogue | None]) -> Readiness:
    """What a worker needs to do its work: each program's ledger, owned, and the records; which programs it serves.

    `served` has nothing to tell while the worker starts.
    """

    def said() -> Said:
        catalogue = served()
        if catalogue is None:
            return {"worker": False, "missing": {"worker": "starting: it waits for the records"}}
        missing = health.missing()
        parts = {part for part, _ in missing.values()}
        told: dict[str, bool | Sequence[str] | Mapping[str, str]] = {
            "worker": True,
            "ledger": "ledger" not in parts,
            "records": "records" not in parts and catalogue.fresh,
            "programs": [program.id for program in catalogue.programs()],
            "left_to_others": catalogue.left_out(),
        }
        if missing:
            told["missing"] = {program: f"{part}: {reason}" for program, (part, reason) in missing.items()}
        return told

    return said


@asynccontextmanager
async def serve_admin(
    readiness: Readiness,
    host: str,
    port: int,
    *,
    sockets: Sequence[socket.socket] = (),
    teller: Teller | None = None,
) -> AsyncIterator[None]:
    """Serve the admin port until the block ends; with `sockets`, which several processes of one parent share, any does.

    The port is nobody else's: two services that answered there by turns would mix their metrics.

    Raises:
        ConfigurationError: the port is taken by somebody else.
    """
    runner = web.AppRunner(create_admin_app(readiness, teller), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        sites: list[web.BaseSite] = [web.SockSite(runner, each.dup()) for each in sockets]
        for site in sites or [web.TCPSite(runner, host, port)]:
            await site.start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigurationError(
            f"the admin port {host}:{port} cannot be opened: {error.strerror}; stop what listens there, or choose "
            "another with --admin-port"
        ) from error
    try:
        yield
    finally:
        await runner.cleanup()


def create_admin_app(readiness: Readiness, teller: Teller | None = None) -> web.Application:
    """The application behind the admin port; ready when every check is true."""
    app = web.Application()
    app[READINESS] = readiness
    app[TELLER] = teller or _nothing_to_tell
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


def _nothing_to_tell() -> Callable[[], None]:
    return lambda: None


async def _metrics(request: web.Request) -> web.Response:
    tell = request.app[TELLER]()

    def told() -> bytes:
        tell()
        return exposition()

    await asyncio.sleep(2 * LAG_S)  # so that every request that was answered before is counted
    # Reading the files of every process may take a while; the loop has better things to do.
    body = await asyncio.to_thread(told)
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.CACHE_CONTROL: "no-store"})


def _json(body: Said, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"},
    )
