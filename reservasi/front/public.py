"""What anyone may read: programs, offices, availability, the API's description and its problem types."""

import html
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from functools import cache, lru_cache
from urllib.parse import parse_qsl

import msgspec
from aiohttp import hdrs, web

from reservasi.front.bodies import ID_PATTERN, OfficesBody, ProblemTypeBody, ProgramsBody
from reservasi.front.catalogue_bodies import office_body, program_body
from reservasi.front.conditional import conditional, variant_headers
from reservasi.front.days import days_view
from reservasi.front.declarations import RANGE_DAYS_MAX
from reservasi.front.encoding import Encoded, encoded
from reservasi.front.fields import check_date_parameter, parameter_check
from reservasi.front.filters import is_too_long
from reservasi.front.keys import MEMORY, SERVICES
from reservasi.front.languages import Language, Text, negotiate
from reservasi.front.memory import NEVER_MS, Made
from reservasi.front.openapi import openapi_document
from reservasi.front.paging import check_after, check_limit
from reservasi.front.problem_type import ProblemType
from reservasi.front.problem_types import INVALID_REQUEST, NOT_FOUND, PROBLEM_TYPES
from reservasi.front.problems import Finding, Refused, detail_text
from reservasi.front.requests import check_query, naming_programs, read_query
from reservasi.front.shapes import Check
from reservasi.front.views import availability_view, require_view

AVAILABILITY_PATH = "/v1/availability"
CACHE_A_SECOND = "public, max-age=1, stale-while-revalidate=5"
CACHE_A_MINUTE = "public, max-age=60"
_ID = parameter_check(ID_PATTERN)
PROGRAM_FILTER = {"program": _ID}
OPENING_FILTERS = {"program": _ID, "office": _ID, "from": check_date_parameter, "to": check_date_parameter}
AVAILABILITY_FILTERS = {
    "program": _ID,
    "office": _ID,
    "service": _ID,
    "channel": _ID,
    "from": check_date_parameter,
    "to": check_date_parameter,
}
EASTERNMOST = timezone(timedelta(hours=14))  # where today is latest: nobody is refused for their time zone
PAGED_FILTERS = {**AVAILABILITY_FILTERS, "limit": check_limit, "after": check_after}


def cached(
    request: web.Request, view: Encoded, cache_control: str, content_type: str = "application/json", vary: str = ""
) -> web.Response:
    """The view, or 304 where the caller has it; `vary` is what else it depends on."""
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: cache_control, **({hdrs.VARY: vary} if vary else {})}
    return conditional(request, view, content_type, headers, web.Response)


def availability_headers(view: Encoded) -> dict[str, str]:
    """What is said with the availability."""
    return {hdrs.CACHE_CONTROL: CACHE_A_SECOND, **variant_headers(view), hdrs.CONTENT_TYPE: "application/json"}


async def programs(request: web.Request) -> web.Response:
    """`GET /v1/programs`."""
    catalogue = request.app[SERVICES].catalogue

    def make(_now_ms: int) -> Made[Encoded]:
        view = encoded(msgspec.json.encode(ProgramsBody(programs=[program_body(p) for p in catalogue.programs()])))
        return Made(view, len(view.body), NEVER_MS)

    return cached(request, request.app[MEMORY].answer(("programs", catalogue.version), make), CACHE_A_MINUTE)


async def offices(request: web.Request) -> web.Response:
    """`GET /v1/offices`, of one program or of all."""
    catalogue = request.app[SERVICES].catalogue
    program = read_query(request, PROGRAM_FILTER).get("program")

    def make(_now_ms: int) -> Made[Encoded]:
        chosen = [p for p in catalogue.programs() if program in (None, p.id)]
        listed = [office_body(p, office) for p in chosen for office in p.offices]
        view = encoded(msgspec.json.encode(OfficesBody(offices=listed)))
        return Made(view, len(view.body), NEVER_MS)

    return cached(request, request.app[MEMORY].answer(("offices", catalogue.version, program), make), CACHE_A_MINUTE)


def read_filters(request: web.Request, checks: Mapping[str, Check] = AVAILABILITY_FILTERS) -> dict[str, str]:
    """The query parameters of availability or of openings; refuses dates in the wrong order, and too many of them."""
    if not request.query_string:
        return {}
    return naming_programs(request, lambda: checked_filters(request.query.items(), checks))


def checked_filters(
    parameters: Iterable[tuple[str, str]], checks: Mapping[str, Check] = AVAILABILITY_FILTERS
) -> dict[str, str]:
    """The same from the parameters alone."""
    filters = check_query(parameters, checks)
    if "from" in filters and "to" in filters and filters["from"] > filters["to"]:
        raise Refused(INVALID_REQUEST, findings=(Finding("from", "dates-reversed", _DATES_REVERSED),))
    if is_too_long(filters, datetime.now(EASTERNMOST).date().isoformat()):
        raise Refused(INVALID_REQUEST, findings=(Finding("to", "range-too-long", _RANGE_TOO_LONG),))
    return filters


@lru_cache(maxsize=1024)
def filters_of(target: str) -> dict[str, str] | None:
    """The filters of a request target for availability; None when it is another one, or something is wrong in it."""
    path, _, query = target.partition("?")
    if path != AVAILABILITY_PATH or "#" in target:
        return None
    try:
        return checked_filters(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)), PAGED_FILTERS)
    except (Refused, ValueError):
        return None


_RANGE_TOO_LONG = Text(
    f"Paling banyak {RANGE_DAYS_MAX} hari dari `from` (tanpa `from`: dari hari ini); mintalah per bagian.",
    f"At most {RANGE_DAYS_MAX} days from `from` (without it: from today); ask in parts.",
)
_DATES_REVERSED = Text("`from` tidak boleh sesudah `to`.", "`from` must not lie after `to`.")


async def availability(request: web.Request) -> web.Response:
    """`GET /v1/availability`: from memory, thousands of times a second."""
    services = request.app[SERVICES]
    filters = read_filters(request, PAGED_FILTERS)
    require_view(services, filters.get("program"))
    return cached(request, availability_view(services, request.app[MEMORY], filters), CACHE_A_SECOND)


async def days(request: web.Request) -> web.Response:
    """`GET /v1/availability/days`: one row a day."""
    services = request.app[SERVICES]
    filters = read_filters(request)
    require_view(services, filters.get("program"))
    return cached(request, days_view(services, request.app[MEMORY], filters), CACHE_A_SECOND)


@cache
def _openapi_view() -> Encoded:
    return encoded(msgspec.json.encode(openapi_document()))


async def openapi(request: web.Request) -> web.Response:
    """`GET /openapi.json`."""
    return cached(request, _openapi_view(), CACHE_A_MINUTE)


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
