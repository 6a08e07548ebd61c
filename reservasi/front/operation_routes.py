"""The handler of every operation: the one table by which both transports route."""

from collections.abc import Callable, Mapping
from typing import Any

from reservasi.front import pages
from reservasi.front.api.operations import OPERATIONS
from reservasi.front.api.paths import LIMITED_PATHS
from reservasi.front.api.routing import Route
from reservasi.front.handlers import openings, staff_audit, staff_closures, staff_openings, way_back
from reservasi.front.handlers import programs as public
from reservasi.front.handlers import reservations as booking
from reservasi.front.handlers import staff_opening_moves as opening_moves
from reservasi.front.handlers import staff_quotas as staff
from reservasi.front.handlers import streams as stream
from reservasi.front.handlers import waiting_room as waiting

HANDLERS: Mapping[str, Callable[..., Any]] = {
    "listPrograms": public.programs,
    "listOffices": public.offices,
    "listAvailability": public.availability,
    "streamAvailability": stream.stream,
    "claim": booking.claim,
    "find": way_back.find,
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
STREAMS = frozenset(("streamAvailability", "streamQueue"))  # answers that never end
LIMITS_ITSELF = frozenset(("claim", "join"))  # a malformed request does not count for its network
UNNAMED = frozenset(("claim", "join", "listAvailability"))  # naming every request would cost time

API_ROUTES = tuple(
    Route(
        operation.path,
        operation.method,
        HANDLERS[operation.id],
        streams=operation.id in STREAMS,
        limits_itself=operation.id in LIMITS_ITSELF,
        names_all=operation.id not in UNNAMED,
        reads_query=not operation.path.startswith(LIMITED_PATHS)
        or any(each.place == "query" for each in operation.parameters),
    )
    for operation in OPERATIONS
)
ROUTES = (*API_ROUTES, *pages.ROUTES)
