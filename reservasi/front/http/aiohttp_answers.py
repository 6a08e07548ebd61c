"""Our answers as aiohttp sends them, and answers to requests that aiohttp could not read."""

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import HttpVersion11, hdrs, web

from reservasi.front.api.answers import STATIC_HEADERS, WITHOUT_BODY, Answer
from reservasi.front.api.cors import Cors
from reservasi.front.api.languages import Language, negotiate
from reservasi.front.api.problem_catalogue import EXPECTATION_FAILED
from reservasi.front.api.problems import Refused, problem_answer
from reservasi.front.api.request import REQUEST_ID, TRACEPARENT
from reservasi.front.api.tracing import Trace, trace_of


def response_of(
    answer: Answer, trace: Trace | None, *, closes: bool, cors: Iterable[tuple[str, str]] = ()
) -> web.Response:
    """An answer as aiohttp sends it; `cors` are additional headers, which may repeat names."""
    headers = {**STATIC_HEADERS, **answer.headers, **(trace.headers if trace is not None else {})}
    if not answer.body and answer.status not in WITHOUT_BODY:
        headers[hdrs.CONTENT_LENGTH] = "0"  # aiohttp leaves it out of an answer to HEAD
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    for name, value in cors:
        response.headers.add(name, value)
    if closes or answer.closes:
        response.force_close()  # announced in the answer, so that no further request is sent on the connection
    return response


def unreadable(
    refused: Refused, trace: Trace, language: Language, cors: Iterable[tuple[str, str]] = ()
) -> web.Response:
    """The answer to an unreadable request; the connection is closed after it."""
    return response_of(problem_answer(language, refused), trace, closes=True, cors=cors)


def trace_of_request(request: web.BaseRequest) -> Trace:
    """The names of a request that aiohttp could read."""
    return trace_of(*(request.headers.getall(each.decode(), []) for each in (REQUEST_ID, TRACEPARENT)))


def expecting(cors: Cors) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    """The handler of Expect headers."""

    async def expect(request: web.Request) -> web.StreamResponse | None:
        return await _expect(request, cors)

    return expect


async def _expect(request: web.Request, cors: Cors) -> web.StreamResponse | None:
    """Answer an Expect header, which comes before everything else: 100-continue, or a problem."""
    if request.version != HttpVersion11:
        return None  # HTTP/1.0 has no Expect (RFC 9110, section 10.1.1)
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The final answer begins with its own status line; what was written so far is not part of it.
        request.writer.output_size = 0
        return None
    languages = ",".join(request.headers.getall(hdrs.ACCEPT_LANGUAGE, ()))
    answer = problem_answer(negotiate(languages), Refused(EXPECTATION_FAILED))
    cors_headers = cors.headers(request.raw_path, request.headers.get(hdrs.ORIGIN, ""))
    return response_of(answer, trace_of_request(request), closes=True, cors=cors_headers)
