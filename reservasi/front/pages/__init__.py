"""Pages for people: the openings with their countdowns, and one opening with its waiting room and its draw.

They are readable without a script, load nothing from anybody else, and allow nothing that is not theirs.
"""

from collections.abc import Mapping
from pathlib import Path

import jinja2
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from reservasi.front.answering import expect
from reservasi.front.conditional import conditional
from reservasi.front.encoding import Encoded, encoded
from reservasi.front.keys import MEMORY, SERVICES
from reservasi.front.languages import Language, negotiate
from reservasi.front.memory import NEVER_MS, Made
from reservasi.front.not_found import UNKNOWN_OPENING
from reservasi.front.opening_views import complete_opening, list_openings, listed_opening
from reservasi.front.pages import static_files
from reservasi.front.pages.shown import shown_offices, shown_opening, shown_program
from reservasi.front.pages.texts import TEXTS
from reservasi.front.problem_type import ProblemType
from reservasi.front.problems import Refused, detail_text, retry_after
from reservasi.front.views import require_view

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
LIST_PATH, ONE_PATH = "/openings", "/openings/{id}"
PATHS = frozenset({LIST_PATH, ONE_PATH, static_files.PATH})  # for people: not part of the API's description
HTML = "text/html; charset=utf-8"
REST_S = 1.0  # a page is made once a second at most
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    auto_reload=False,
)


def add_routes(app: web.Application) -> None:
    """Serve the pages and what they load."""
    app.router.add_get(LIST_PATH, openings, expect_handler=expect)
    app.router.add_get(ONE_PATH, opening, expect_handler=expect)
    app.router.add_get(static_files.PATH, static_files.static, expect_handler=expect)


class _Page(web.Response):
    """An answer that may run the scripts of this service; what the API answers may run nothing."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self.headers[hdrs.CONTENT_SECURITY_POLICY] = POLICY
        return await super().prepare(request)


async def openings(request: web.Request) -> web.Response:
    """`GET /openings`: all programs with their openings from today on."""
    services, memory, language = request.app[SERVICES], request.app[MEMORY], _language(request)
    try:
        require_view(services, None)
    except Refused as refused:
        return _refusal(refused.kind, language)

    def make(now_ms: int) -> Made[Encoded]:
        listed = list_openings(services, memory, {})
        programs = [shown_program(program, listed, language, now_ms) for program in services.catalogue.programs()]
        return _made("openings.html", language, programs=programs)

    return _answer(request, memory.answer(("page", language), make, REST_S), language)


async def opening(request: web.Request) -> web.Response:
    """`GET /openings/{id}`: one opening."""
    services, memory, language = request.app[SERVICES], request.app[MEMORY], _language(request)
    opening_id = request.match_info["id"]
    try:
        require_view(services, None)
    except Refused as refused:
        return _refusal(refused.kind, language)
    await complete_opening(services, memory, opening_id)
    found = listed_opening(services, memory, opening_id)
    program = services.catalogue.program(found.program) if found else None
    if found is None or program is None:
        return _refusal(UNKNOWN_OPENING, language)

    def make(_now_ms: int) -> Made[Encoded]:
        offices = [office for office in program.offices if office.id in found.offices]
        return _made(
            "opening.html",
            language,
            program=shown_program(program, (), language),
            opening=shown_opening(found, program, language),
            offices=shown_offices(offices, language),
        )

    return _answer(request, memory.answer(("page", language, opening_id), make, REST_S), language)


def _language(request: web.Request) -> Language:
    return negotiate(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))


def _rendered(template: str, language: Language, values: Mapping[str, object]) -> bytes:
    page = _TEMPLATES.get_template(template)
    return page.render(language=language, t=TEXTS[language], static=static_files.address(), **values).encode()


def _made(template: str, language: Language, **values: object) -> Made[Encoded]:
    page = encoded(_rendered(template, language, values))
    return Made(page, len(page.body), NEVER_MS)


def _answer(request: web.Request, page: Encoded, language: Language) -> web.Response:
    headers = {**_headers(language), hdrs.CACHE_CONTROL: "no-cache"}
    return conditional(request, page, HTML, headers, _Page)


def _refusal(kind: ProblemType, language: Language) -> web.Response:
    words = {
        "title": kind.title.to(language),
        "detail": detail_text(kind, language, {}),
        "advice": kind.next.to(language),
    }
    headers = {**_headers(language), hdrs.CONTENT_TYPE: HTML, hdrs.CACHE_CONTROL: "no-store"}
    if kind.retry:
        headers[hdrs.RETRY_AFTER] = retry_after()
    return _Page(status=kind.status, body=_rendered("refusal.html", language, words), headers=headers)


def _headers(language: Language) -> dict[str, str]:
    return {hdrs.CONTENT_LANGUAGE: language, hdrs.VARY: hdrs.ACCEPT_LANGUAGE}
