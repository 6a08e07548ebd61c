"""What anyone may read of openings: the list, one of them, and the calendar."""

from aiohttp import web

from reservasi.front.calendars import openings_ics
from reservasi.front.encoding import Encoded, encoded
from reservasi.front.keys import MEMORY, SERVICES
from reservasi.front.languages import Text, negotiate
from reservasi.front.memory import Made
from reservasi.front.not_found import UNKNOWN_OPENING, unknown_office, unknown_program
from reservasi.front.opening_views import complete_opening, list_openings, opening_view, openings_view
from reservasi.front.problem_types import INVALID_REQUEST
from reservasi.front.problems import Finding, Refused
from reservasi.front.public import CACHE_A_MINUTE, CACHE_A_SECOND, OPENING_FILTERS, cached, read_filters
from reservasi.front.views import require_view

CALENDAR = "text/calendar; charset=utf-8"
CALENDAR_TURN_MS = 60_000
_PROGRAM_MISSING = Text("Sebutkan program.", "Name the program.")


async def openings(request: web.Request) -> web.Response:
    """`GET /v1/openings`, of one program or of all, of one office or of all, from today on or of other dates."""
    services = request.app[SERVICES]
    filters = read_filters(request, OPENING_FILTERS)
    require_view(services, filters.get("program"))
    view = openings_view(services, request.app[MEMORY], filters)
    return cached(request, view, CACHE_A_SECOND)


async def opening(request: web.Request) -> web.Response:
    """`GET /v1/openings/{id}`."""
    services, memory, opening_id = request.app[SERVICES], request.app[MEMORY], request.match_info["id"]
    require_view(services, None)
    await complete_opening(services, memory, opening_id)
    view = opening_view(services, memory, opening_id)
    if view is None:
        raise Refused(UNKNOWN_OPENING)
    return cached(request, view, CACHE_A_SECOND)


async def calendar(request: web.Request) -> web.Response:
    """`GET /v1/openings.ics`: what a phone subscribes to, in the language that it asks for."""
    services, memory = request.app[SERVICES], request.app[MEMORY]
    filters = read_filters(request, OPENING_FILTERS)
    if "program" not in filters:
        raise Refused(INVALID_REQUEST, findings=(Finding("program", "missing", _PROGRAM_MISSING),))
    require_view(services, filters["program"])
    program = services.catalogue.program(filters["program"])
    if program is None:
        raise unknown_program(services.catalogue, filters["program"])
    office = program.office(filters["office"]) if "office" in filters else None
    if office is None and "office" in filters:
        raise unknown_office(program, filters["office"])
    language = negotiate(request.headers.get("Accept-Language", ""))

    def make(now_ms: int) -> Made[Encoded]:
        listed = list_openings(services, memory, filters)
        view = encoded(openings_ics(listed, program, office, language))
        return Made(view, len(view.body), now_ms + CALENDAR_TURN_MS)

    view = memory.answer(("openings-calendar", language, *sorted(filters.items())), make)
    return cached(request, view, CACHE_A_MINUTE, CALENDAR, vary="Accept-Language")
