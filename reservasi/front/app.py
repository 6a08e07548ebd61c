"""The public application of one front process, and aiohttp's application around it."""

import asyncio

from aiohttp import web

from reservasi.front import pages
from reservasi.front.aiohttp_transport import serve
from reservasi.front.api.cors import Cors
from reservasi.front.api.routing import Router
from reservasi.front.app_keys import DISPATCHER, FRONT
from reservasi.front.deciding.front_context import Front
from reservasi.front.deciding.rate_limits import RateLimits
from reservasi.front.dispatch import Dispatcher
from reservasi.front.http.aiohttp_answers import expecting
from reservasi.front.http.client_networks import Networks
from reservasi.front.http.request_tally import begin_at_zero
from reservasi.front.operation_routes import API_ROUTES, ROUTES
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache
from reservasi.front.views.filters import today_in
from reservasi.front.views.live_feed import Live, Readers
from reservasi.front.views.ticket_rules import TicketRules

__all__ = ["FrontServices", "create_app"]


def create_app(services: FrontServices) -> web.Application:
    front = _create_front(services)
    app = web.Application(middlewares=[serve], client_max_size=services.settings.body_bytes_max)
    app[FRONT] = front
    app[DISPATCHER] = Dispatcher(front, Router(ROUTES), pages.not_found)
    for route in API_ROUTES:
        begin_at_zero(route.path, route.method)
    app.router.add_route("*", "/{path:.*}", _never, expect_handler=expecting(front.cors))
    app.on_shutdown.append(_stop)
    app.on_cleanup.append(_close)
    return app


def _create_front(services: FrontServices) -> Front:
    settings, availability = services.settings, services.availability
    cache = AnswerCache(availability, services.catalogue.is_public, TicketRules(availability))
    networks = Networks(
        settings.trusted_proxies, prefix_v4=settings.network_prefix_v4, prefix_v6=settings.network_prefix_v6
    )
    stopping = asyncio.Event()
    return Front(
        services=services,
        cache=cache,
        networks=networks,
        rates=RateLimits(settings, networks),
        live=Live(availability, cache, stopping, today_in(availability, services.catalogue)),
        readers=Readers(),
        cors=Cors(settings.cors_origins),
        stopping=stopping,
    )


async def _never(_request: web.Request) -> web.StreamResponse:
    raise AssertionError("the middleware answers every request itself")


async def _stop(app: web.Application) -> None:
    """End the streams at shutdown, since they never end by themselves."""
    app[FRONT].stopping.set()


async def _close(app: web.Application) -> None:
    await app[FRONT].live.close()
    app[DISPATCHER].flush()
