"""Public reads of openings: the list, one of them, and the calendar."""

from collections.abc import Mapping

from reservasi.front.api.answers import Answer, Reply, later
from reservasi.front.api.languages import Language, Text
from reservasi.front.api.not_found import UNKNOWN_OPENING, unknown_office, unknown_program
from reservasi.front.api.problem_catalogue import INVALID_REQUEST
from reservasi.front.api.problems import Finding, Refused
from reservasi.front.api.request import Request
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.cached import Kind, conditional
from reservasi.front.handlers.programs import CACHE_A_MINUTE, FOR_A_SECOND
from reservasi.front.reading.queries import OPENING_FILTERS, read_filters
from reservasi.front.views.answer_cache import Made
from reservasi.front.views.availability import require_view
from reservasi.front.views.calendars import openings_ics
from reservasi.front.views.openings import list_openings, opening_view, openings_view
from reservasi.front.views.quota_json import Encoded, encoded

CALENDAR = Kind(CACHE_A_MINUTE, "text/calendar; charset=utf-8", vary="Accept-Language")
CALENDAR_TURN_MS = 60_000
_PROGRAM_MISSING = Text("Pilih program.", "Give the program.")


def openings(front: Front, request: Request) -> Answer:
    """`GET /v1/openings`, of one program or of all, of one office or of all, from today on or in a date range."""
    filters = read_filters(front.services.catalogue, request, OPENING_FILTERS)
    require_view(front.services, filters.get("program"))
    return conditional(request, openings_view(front.services, front.cache, filters), FOR_A_SECOND)


def opening(front: Front, request: Request) -> Reply:
    """`GET /v1/openings/{id}`."""
    require_view(front.services, None)
    view = opening_view(front.services, front.cache, request.parameters["id"])
    return conditional(request, view, FOR_A_SECOND) if view else later(request.trace, _new_opening(front, request))


async def _new_opening(front: Front, request: Request) -> Answer:
    """An opening that another front may already have shown."""
    opening_id = request.parameters["id"]
    await front.services.waiting_room.complete(opening_id)
    view = opening_view(front.services, front.cache, opening_id)
    if view is None:
        raise Refused(UNKNOWN_OPENING)
    return conditional(request, view, FOR_A_SECOND)


def calendar(front: Front, request: Request) -> Answer:
    """`GET /v1/openings.ics`: a calendar to subscribe to, in the requested language."""
    services = front.services
    filters = read_filters(front.services.catalogue, request, OPENING_FILTERS)
    if "program" not in filters:
        raise Refused(INVALID_REQUEST, findings=(Finding("program", "missing", _PROGRAM_MISSING),))
    require_view(services, filters["program"])
    return conditional(request, _calendar_view(front, filters, request.language), CALENDAR)


def _calendar_view(front: Front, filters: Mapping[str, str], language: Language) -> Encoded:
    services, cache = front.services, front.cache
    program = services.catalogue.program(filters["program"])
    if program is None:
        raise unknown_program(services.catalogue, filters["program"])
    office = program.office(filters["office"]) if "office" in filters else None
    if office is None and "office" in filters:
        raise unknown_office(program, filters["office"])

    def make(now_ms: int) -> Made[Encoded]:
        listed = list_openings(services, cache, filters)
        view = encoded(openings_ics(listed, program, office, language))
        return Made(view, len(view.body), now_ms + CALENDAR_TURN_MS)

    return cache.answer(("openings-calendar", language, *sorted(filters.items())), make)
