"""Public reads: programs, offices, availability, the API's description and its problem types."""

import html
from functools import cache

import msgspec

from reservasi.front.api.answers import Answer
from reservasi.front.api.bodies import OfficesBody, ProblemTypeBody, ProgramsBody
from reservasi.front.api.catalogue_bodies import office_body, program_body
from reservasi.front.api.languages import Language
from reservasi.front.api.openapi import openapi_document
from reservasi.front.api.paths import problem_type_uri
from reservasi.front.api.problem_catalogue import NOT_FOUND, PROBLEM_TYPES
from reservasi.front.api.problem_type import ProblemType
from reservasi.front.api.problems import Refused, detail_text
from reservasi.front.api.request import Request
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.cached import Kind, conditional
from reservasi.front.reading.queries import PAGED_FILTERS, PROGRAM_FILTER, read_filters, read_query
from reservasi.front.views.answer_cache import NEVER_MS, Made
from reservasi.front.views.availability import availability_view, require_view
from reservasi.front.views.days import days_view
from reservasi.front.views.quota_json import Encoded, encoded

CACHE_A_SECOND = "public, max-age=1, stale-while-revalidate=5"
CACHE_A_MINUTE = "public, max-age=60"
FOR_A_SECOND = Kind(CACHE_A_SECOND)
FOR_A_MINUTE = Kind(CACHE_A_MINUTE)


def programs(front: Front, request: Request) -> Answer:
    """`GET /v1/programs`."""
    catalogue = front.services.catalogue

    def make(_now_ms: int) -> Made[Encoded]:
        view = encoded(msgspec.json.encode(ProgramsBody(programs=[program_body(p) for p in catalogue.programs()])))
        return Made(view, len(view.body), NEVER_MS)

    return conditional(request, front.cache.answer(("programs", catalogue.version), make), FOR_A_MINUTE)


def offices(front: Front, request: Request) -> Answer:
    """`GET /v1/offices`, of one program or of all."""
    catalogue = front.services.catalogue
    program = read_query(front.services.catalogue, request, PROGRAM_FILTER).get("program")

    def make(_now_ms: int) -> Made[Encoded]:
        chosen = [p for p in catalogue.programs() if program in (None, p.id)]
        listed = [office_body(p, office) for p in chosen for office in p.offices]
        view = encoded(msgspec.json.encode(OfficesBody(offices=listed)))
        return Made(view, len(view.body), NEVER_MS)

    return conditional(request, front.cache.answer(("offices", catalogue.version, program), make), FOR_A_MINUTE)


def availability(front: Front, request: Request) -> Answer:
    """`GET /v1/availability`, from memory."""
    filters = read_filters(front.services.catalogue, request, PAGED_FILTERS)
    require_view(front.services, filters.get("program"))
    return conditional(request, availability_view(front.services, front.cache, filters), FOR_A_SECOND)


def days(front: Front, request: Request) -> Answer:
    """`GET /v1/availability/days`: one row per day."""
    filters = read_filters(front.services.catalogue, request)
    require_view(front.services, filters.get("program"))
    return conditional(request, days_view(front.services, front.cache, filters), FOR_A_SECOND)


@cache
def _openapi_view() -> Encoded:
    return encoded(msgspec.json.encode(openapi_document()))


def openapi(_front: Front, request: Request) -> Answer:
    """`GET /openapi.json`."""
    return conditional(request, _openapi_view(), FOR_A_MINUTE)


def problem_type(_front: Front, request: Request) -> Answer:
    """`GET /problems/{type}`: the description of a problem type, as JSON, or as HTML for a browser."""
    kind = PROBLEM_TYPES.get(request.parameters["type"])
    if kind is None:
        raise Refused(NOT_FOUND)
    language = request.language
    wants_html = "text/html" in request.head.accept
    headers = {
        "Content-Language": language,
        "Vary": "Accept, Accept-Language",
        "Cache-Control": CACHE_A_MINUTE,
        "Content-Type": "text/html; charset=utf-8" if wants_html else "application/json",
    }
    return Answer(200, headers, (_as_html if wants_html else _as_json)(kind, language))


def _as_json(kind: ProblemType, language: Language) -> bytes:
    return msgspec.json.encode(
        ProblemTypeBody(
            type=problem_type_uri(kind.name),
            status=kind.status,
            title=kind.title.to(language),
            detail=detail_text(kind, language, {}),
            next=kind.next.to(language),
        )
    )


def _as_html(kind: ProblemType, language: Language) -> bytes:
    title, detail, advice = map(
        html.escape, (kind.title.to(language), detail_text(kind, language, {}), kind.next.to(language))
    )
    return (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1><p>{detail}</p><p>{advice}</p><p><code>{kind.name}</code> ({kind.status})</p></html>"
    ).encode()
