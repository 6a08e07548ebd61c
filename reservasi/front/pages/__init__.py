"""Pages for people: the openings with their countdowns, and one opening with its waiting room and its draw.

They are readable without scripts, load nothing from third parties, and allow only their own content.
"""

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path

import jinja2
from aiohttp import hdrs

from reservasi.front.api.answers import Answer, Reply, later
from reservasi.front.api.bodies import OpeningBody
from reservasi.front.api.cors import API_PATHS
from reservasi.front.api.languages import Language
from reservasi.front.api.not_found import UNKNOWN_OPENING
from reservasi.front.api.paths import OPENING_PAGE, OPENINGS_PAGE, STATIC_PATH
from reservasi.front.api.problem_catalogue import NOT_FOUND
from reservasi.front.api.problem_type import ProblemType
from reservasi.front.api.problems import Refused, detail_text, retry_after
from reservasi.front.api.request import Request
from reservasi.front.api.routing import Route
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.cached import Kind, conditional
from reservasi.front.pages import static_files
from reservasi.front.pages.shown import shown_offices, shown_opening, shown_program
from reservasi.front.pages.texts import TEXTS
from reservasi.front.views.answer_cache import NEVER_MS, Made
from reservasi.front.views.availability import require_view
from reservasi.front.views.openings import list_openings, listed_opening
from reservasi.front.views.quota_json import Encoded, encoded

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HTML = "text/html; charset=utf-8"
REST_S = 1.0  # a page is built at most once a second
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    auto_reload=False,
)


def openings(front: Front, request: Request) -> Answer:
    """`GET /openings`: all programs with their openings from today on."""
    services, cache, language = front.services, front.cache, request.language
    try:
        require_view(services, None)
    except Refused as refused:
        return _refusal(refused.kind, language)

    def make(now_ms: int) -> Made[Encoded]:
        listed = list_openings(services, cache, {})
        programs = [shown_program(program, listed, language, now_ms) for program in services.catalogue.programs()]
        return _made("openings.html", language, programs=programs)

    return conditional(request, cache.answer(("page", language), make, REST_S), _kind(language))


def opening(front: Front, request: Request) -> Reply:
    """`GET /openings/{id}`: one opening."""
    try:
        require_view(front.services, None)
    except Refused as refused:
        return _refusal(refused.kind, request.language)
    opening_id = request.parameters["id"]
    body = listed_opening(front.services, front.cache, opening_id)
    return _opening(front, request, body) if body else later(request.trace, _new_opening(front, request))


async def _new_opening(front: Front, request: Request) -> Answer:
    """An opening that another front may already have shown."""
    opening_id = request.parameters["id"]
    await front.services.waiting_room.complete(opening_id)
    return _opening(front, request, listed_opening(front.services, front.cache, opening_id))


def _opening(front: Front, request: Request, body: OpeningBody | None) -> Answer:
    language = request.language
    program = front.services.catalogue.program(body.program) if body else None
    if body is None or program is None:
        return _refusal(UNKNOWN_OPENING, language)

    def make(_now_ms: int) -> Made[Encoded]:
        offices = [office for office in program.offices if office.id in body.offices]
        return _made(
            "opening.html",
            language,
            program=shown_program(program, (), language),
            opening=shown_opening(body, program, language),
            offices=shown_offices(offices, language),
        )

    return conditional(request, front.cache.answer(("page", language, body.id), make, REST_S), _kind(language))


def _rendered(template: str, language: Language, values: Mapping[str, object]) -> bytes:
    page = _TEMPLATES.get_template(template)
    return page.render(language=language, t=TEXTS[language], static=static_files.address(), **values).encode()


def _made(template: str, language: Language, **values: object) -> Made[Encoded]:
    page = encoded(_rendered(template, language, values))
    return Made(page, len(page.body), NEVER_MS)


@cache
def _kind(language: Language) -> Kind:
    return Kind("no-cache", HTML, vary=hdrs.ACCEPT_LANGUAGE, language=language, policy=POLICY)


def _refusal(kind: ProblemType, language: Language) -> Answer:
    words = {
        "title": kind.title.to(language),
        "detail": detail_text(kind, language, {}),
        "advice": kind.next.to(language),
    }
    headers: dict[str, str] = {
        hdrs.CONTENT_LANGUAGE: language,
        hdrs.VARY: hdrs.ACCEPT_LANGUAGE,
        hdrs.CONTENT_TYPE: HTML,
        hdrs.CACHE_CONTROL: "no-store",
        hdrs.CONTENT_SECURITY_POLICY: POLICY,
    }
    if kind.retry:
        headers[hdrs.RETRY_AFTER] = retry_after()
    return Answer(kind.status, headers, _rendered("refusal.html", language, words), outcome=kind.name)


def home(_front: Front, _request: Request) -> Answer:
    """`GET /`: redirects to the openings."""
    return _redirect(HTTPStatus.FOUND, OPENINGS_PAGE)


def without_slash(_front: Front, request: Request) -> Answer:
    """`GET /openings/` and `GET /openings/{id}/`: redirect to the address without a slash."""
    return _redirect(HTTPStatus.PERMANENT_REDIRECT, request.target.partition("?")[0].rstrip("/"))


def _redirect(status: HTTPStatus, to: str) -> Answer:
    return Answer(int(status), {hdrs.LOCATION: to, hdrs.CACHE_CONTROL: "no-cache", hdrs.CONTENT_TYPE: HTML})


def not_found(request: Request) -> Answer | None:
    """The page for a browser at an unknown address; None for other clients, which get a problem."""
    is_browser = request.method in (hdrs.METH_GET, hdrs.METH_HEAD) and "text/html" in request.head.accept
    if not is_browser or request.target.startswith(API_PATHS):
        return None
    return _refusal(NOT_FOUND, request.language)


PAGES = (  # not part of the API's description
    Route(OPENINGS_PAGE, "GET", openings),
    Route(OPENING_PAGE, "GET", opening),
    Route(STATIC_PATH, "GET", static_files.static),
)
REDIRECTS = (
    Route("/", "GET", home),
    Route(f"{OPENINGS_PAGE}/", "GET", without_slash),
    Route(f"{OPENING_PAGE}/", "GET", without_slash),
)
ROUTES = (*PAGES, *REDIRECTS)
