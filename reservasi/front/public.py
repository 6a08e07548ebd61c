"""What anyone may read: programs, offices, openings, availability, the API's description and its problem types."""

import html
from functools import cache

import msgspec
from aiohttp import hdrs, web

from reservasi.front.bodies import ID_PATTERN, OfficesBody, ProblemTypeBody, ProgramsBody
from reservasi.front.catalogue_bodies import office_body, program_body
from reservasi.front.fields import check_date_parameter, parameter_check
from reservasi.front.keys import MEMORY, SERVICES
from reservasi.front.languages import Language, Text, negotiate
from reservasi.front.memory import NEVER_MS, Made
from reservasi.front.openapi import openapi_document
from reservasi.front.problem_types import INVALID_REQUEST, NOT_FOUND, PROBLEM_TYPES, ProblemType
from reservasi.front.problems import Finding, Refused, detail_text
from reservasi.front.requests import matches, read_query
from reservasi.front.views import Encoded, availability_view, encoded, openings_view, require_view

CACHE_A_SECOND = "public, max-age=1, stale-while-revalidate=5"
CACHE_A_MINUTE = "public, max-age=60"
_ID = parameter_check(ID_PATTERN)
PROGRAM_FILTER = {"program": _ID}
AVAILABILITY_FILTERS = {
    "program": _ID,
    "office": _ID,
    "service": _ID,
    "channel": _ID,
    "from": check_date_parameter,
    "to": check_date_parameter,
}


def _cached(
    request: web.Request, view: Encoded, cache_control: str, content_type: str = "application/json"
) -> web.Response:
    headers = {hdrs.ETAG: view.etag, hdrs.CACHE_CONTROL: cache_control}
    known = request.headers.get(hdrs.IF_NONE_MATCH)
    if known is not None and matches(known, view.etag):
        return web.Response(status=304, headers=headers)
    headers[hdrs.CONTENT_TYPE] = "application/json"
    return web.Response(body=view.body, headers=headers)


async def programs(request: web.Request) -> web.Response:
    """`GET /v1/programs`."""
    catalogue = request.app[SERVICES].catalogue

    def make(_now_ms: int) -> Made[Encoded]:
        view = encoded(msgspec.json.encode(ProgramsBody(programs=[program_body(p) for p in catalogue.programs()])))
        return Made(view, len(view.body), NEVER_MS)

    return _cached(request, request.app[MEMORY].answer(("programs", catalogue.version), make), CACHE_A_MINUTE)


async def offices(request: web.Request) -> web.Response:
    """`GET /v1/offices`, of one program or of all."""
    catalogue = request.app[SERVICES].catalogue
    program = read_query(request, PROGRAM_FILTER).get("program")

    def make(_now_ms: int) -> Made[Encoded]:
        chosen = [p for p in catalogue.programs() if program in (None, p.id)]
        listed = [office_body(p, office) for p in chosen for office in p.offices]
        view = encoded(msgspec.json.encode(OfficesBody(offices=listed)))
        return Made(view, len(view.body), NEVER_MS)

    return _cached(request, request.app[MEMORY].answer(("offices", catalogue.version, program), make), CACHE_A_MINUTE)


async def openings(request: web.Request) -> web.Response:
    """`GET /v1/openings`, of one program or of all."""
    services = request.app[SERVICES]
    program = read_query(request, PROGRAM_FILTER).get("program")
    require_view(services, program)
    return _cached(request, openings_view(services, request.app[MEMORY], program), CACHE_A_SECOND)


def read_filters(request: web.Request) -> dict[str, str]:
    """The query parameters of availability; refuses dates in the wrong order too."""
    filters = read_query(request, AVAILABILITY_FILTERS)
    if "from" in filters and "to" in filters and filters["from"] > filters["to"]:
        raise Refused(INVALID_REQUEST, findings=(Finding("from", "dates-reversed", _DATES_REVERSED),))
    return filters


_DATES_REVERSED = Text("`from` tidak boleh sesudah `to`.", "`from` must not lie after `to`.")


async def availability(request: web.Request) -> web.Response:
    """`GET /v1/availability`: from memory, thousands of times a second."""
    services = request.app[SERVICES]
    filters = read_filters(request)
    require_view(services, filters.get("program"))
    return _cached(request, availability_view(services, request.app[MEMORY], filters), CACHE_A_SECOND)


@cache
def _openapi_view() -> Encoded:
    return encoded(msgspec.json.encode(openapi_document()))


async def openapi(request: web.Request) -> web.Response:
    """`GET /openapi.json`."""
    return _cached(request, _openapi_view(), CACHE_A_MINUTE)


async def problem_type(request: web.Request) -> web.Response:
    """`GET /problems/{type}`: what a problem type means, as JSON, or as HTML for a browser."""
    kind = PROBLEM_TYPES.get(request.match_info["type"])
    if kind is None:
        raise Refused(NOT_FOUND)
    language = negotiate(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    wants_html = "text/html" in request.headers.get(hdrs.ACCEPT, "")
    headers = {
        hdrs.CONTENT_LANGUAGE: language,
        hdrs.VARY: "Accept, Accept-Language",
        hdrs.CACHE_CONTROL: CACHE_A_MINUTE,
        hdrs.CONTENT_TYPE: "text/html; charset=utf-8" if wants_html else "application/json",
    }
    return web.Response(body=(_as_html if wants_html else _as_json)(kind, language), headers=headers)


def _as_json(kind: ProblemType, language: Language) -> bytes:
    return msgspec.json.encode(
        ProblemTypeBody(
            type=f"/problems/{kind.name}",
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
