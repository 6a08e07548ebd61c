"""The admin port: liveness, readiness and metrics of a process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import msgspec
from aiohttp import hdrs, web

from reservasi.availability import Availability
from reservasi.catalogue import Catalogue
from reservasi.errors import ConfigurationError
from reservasi.health import Health
from reservasi.metrics import CONTENT_TYPE, LAG_S, exposition

Report: TypeAlias = Mapping[str, bool | Sequence[str] | Mapping[str, str]]
Readiness = Callable[[], Report]  # a bool is a check; other values are information
GaugeSetter = Callable[
    [], Callable[[], None]
]  # called in the loop; its result sets gauges, in a thread, before a scrape
GAUGE_SETTER: web.AppKey[GaugeSetter] = web.AppKey("gauge_setter")
READINESS: web.AppKey[Readiness] = web.AppKey("readiness")


def front_readiness(availability: Availability, catalogue: Catalogue) -> Readiness:
    """A front's readiness: each need, and for each program what is missing and why."""

    def read() -> Report:
        missing = {program: f"availability: {why}" for program, why in availability.missing().items()}
        if not catalogue.loaded:
            missing["catalogue"] = "the programs have not been read from the records yet"
        elif not catalogue.fresh:  # a front serves without it
            missing["records"] = "the records do not answer: confirmations get 202"
        report: dict[str, bool | Sequence[str] | Mapping[str, str]] = {
            "availability": availability.ready,
            "catalogue": catalogue.loaded,
        }
        if missing:
            report["missing"] = missing
        return report

    return read


def worker_readiness(health: Health, served: Callable[[], Catalogue | None]) -> Readiness:
    """A worker's readiness: the owned ledger of each program, the records, and which programs it serves.

    `served` returns None while the worker starts.
    """

    def read() -> Report:
        catalogue = served()
        if catalogue is None:
            return {"worker": False, "missing": {"worker": "starting: waiting for the records"}}
        missing = health.missing()
        parts = {part for part, _ in missing.values()}
        report: dict[str, bool | Sequence[str] | Mapping[str, str]] = {
            "worker": True,
            "ledger": "ledger" not in parts,
            "records": "records" not in parts and catalogue.fresh,
            "programs": [program.id for program in catalogue.programs()],
            "left_to_others": catalogue.left_out(),
        }
        if missing:
            report["missing"] = {program: f"{part}: {reason}" for program, (part, reason) in missing.items()}
        return report

    return read


@asynccontextmanager
async def serve_admin(
    readiness: Readiness,
    host: str,
    port: int,
    *,
    sockets: Sequence[socket.socket] = (),
    gauges: GaugeSetter | None = None,
) -> AsyncIterator[None]:
    """Serve the admin port during the block; `sockets` are shared by several processes of one parent.

    Without `sockets` the port is exclusive: if two services answered in turn, their metrics would mix.

    Raises:
        ConfigurationError: another process uses the port.
    """
    runner = web.AppRunner(create_admin_app(readiness, gauges), access_log=None, shutdown_timeout=1.0)
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


def create_admin_app(readiness: Readiness, gauges: GaugeSetter | None = None) -> web.Application:
    """The application of the admin port; ready when every check is true."""
    app = web.Application()
    app[READINESS] = readiness
    app[GAUGE_SETTER] = gauges or _no_gauges
    app.on_response_prepare.append(_close)
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


async def _close(_request: web.Request, response: web.StreamResponse) -> None:
    """Close each connection: scrapes are rare, and a front that is replaced would cut an idle one."""
    response.headers[hdrs.CONNECTION] = "close"
    response.force_close()


async def _livez(_request: web.Request) -> web.Response:
    return _json({"live": True})


async def _readyz(request: web.Request) -> web.Response:
    report = request.app[READINESS]()
    ready = all(value for value in report.values() if isinstance(value, bool))
    return _json({"ready": ready, **report}, 200 if ready else 503)


def _no_gauges() -> Callable[[], None]:
    return lambda: None


async def _metrics(request: web.Request) -> web.Response:
    set_gauges = request.app[GAUGE_SETTER]()

    def scrape() -> bytes:
        set_gauges()
        return exposition()

    await asyncio.sleep(2 * LAG_S)  # so that every request that was already answered is counted
    # In a thread: reading the files of every process may take a while.
    body = await asyncio.to_thread(scrape)
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.CACHE_CONTROL: "no-store"})


def _json(body: Report, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"},
    )
