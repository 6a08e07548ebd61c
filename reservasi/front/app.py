"""The public application: its routes, its one middleware, and what it carries."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from reservasi.front import (
    booking,
    opening_moves,
    openings,
    pages,
    public,
    staff,
    staff_audit,
    staff_closures,
    staff_openings,
    stream,
    waiting,
)
from reservasi.front.answering import answer_everything, begin_at_zero, expect
from reservasi.front.filters import today_in
from reservasi.front.keys import LIVE, MEMORY, NETWORKS, RATES, READERS, SERVICES, STOPPING, FrontServices
from reservasi.front.live import Live, Readers
from reservasi.front.memory import Memory
from reservasi.front.networks import Networks
from reservasi.front.operations import OPERATIONS
from reservasi.front.rate_limits import RateLimits
from reservasi.front.ticket_rules import TicketRules

__all__ = ["HANDLERS", "FrontServices", "create_app"]

HANDLERS: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
    "listPrograms": public.programs,
    "listOffices": public.offices,
    "listAvailability": public.availability,
    "streamAvailability": stream.stream,
    "claim": booking.claim,
    "showReservation": booking.show,
    "confirm": booking.confirm,
    "cancel": booking.cancel,
    "showQrCode": booking.qr,
    "showTicket": booking.ticket,
    "listStaffQuotas": staff.list_quotas,
    "setQuota": staff.set_quota,
    "closeDay": staff_closures.create,
    "cancelByStaff": staff_audit.cancel,
    "listAudit": staff_audit.list_audit,
    "listOpenings": openings.openings,
    "listOpeningsAsCalendar": openings.calendar,
    "showOpening": openings.opening,
    "showQueue": waiting.queue,
    "streamQueue": stream.queue_stream,
    "getChallenge": waiting.challenge,
    "join": waiting.join,
    "createOpening": staff_openings.create,
    "changeOpening": opening_moves.move,
    "setAdmission": staff_openings.set_admission,
    "setBeacon": staff_openings.set_beacon,
    "listDays": public.days,
    "describeApi": public.openapi,
    "describeProblem": public.problem_type,
}


def create_app(services: FrontServices) -> web.Application:
    """The application for one process; every route is one of the declared operations, or a page."""
    settings = services.settings
    app = web.Application(middlewares=[answer_everything], client_max_size=settings.body_bytes_max)
    app[SERVICES] = services
    app[MEMORY] = Memory(services.availability, services.catalogue.is_public, TicketRules(services.availability))
    app[NETWORKS] = Networks(
        settings.trusted_proxies, prefix_v4=settings.network_prefix_v4, prefix_v6=settings.network_prefix_v6
    )
    app[RATES] = RateLimits(settings, app[NETWORKS])
    app[STOPPING] = asyncio.Event()
    app[LIVE] = Live(
        services.availability,
        app[MEMORY],
        app[STOPPING],
        today_in(services.availability, services.catalogue),
    )
    app[READERS] = Readers()
    for operation in OPERATIONS:
        handler = HANDLERS[operation.id]
        begin_at_zero(operation.path, operation.method)
        if operation.method == "GET":
            app.router.add_get(operation.path, handler, expect_handler=expect)  # and HEAD
        else:
            app.router.add_route(operation.method, operation.path, handler, expect_handler=expect)
    pages.add_routes(app)
    app.on_shutdown.append(_stop)
    app.on_cleanup.append(_close)
    return app


async def _stop(app: web.Application) -> None:
    """Streams never end by themselves; at shutdown they do, so that the process can."""
    app[STOPPING].set()


async def _close(app: web.Application) -> None:
    await app[LIVE].close()
