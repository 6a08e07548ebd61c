"""Our answers as aiohttp sends them, and its requests that never became ours."""

from aiohttp import HttpVersion11, hdrs, web

from reservasi.front.api.answers import STATIC_HEADERS, Answer
from reservasi.front.api.languages import negotiate
from reservasi.front.api.problem_catalogue import EXPECTATION_FAILED
from reservasi.front.api.problems import Refused, problem_answer
from reservasi.front.api.request import REQUEST_ID, TRACEPARENT
from reservasi.front.api.tracing import Trace, new_trace, trace_of


def response_of(answer: Answer, trace: Trace | None, *, closes: bool) -> web.Response:
    """An answer as aiohttp sends it."""
    headers = {**STATIC_HEADERS, **answer.headers, **(trace.headers if trace is not None else {})}
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    if closes or answer.closes:
        response.force_close()  # said in the answer, so that no further request is sent into a closing connection
    return response


def unreadable(request: web.BaseRequest, refused: Refused, trace: Trace) -> web.Response:
    """The answer to what never became a request of ours; the connection is closed after it."""
    answer = problem_answer(negotiate(request.headers.get(hdrs.ACCEPT_LANGUAGE, "")), refused)
    return response_of(answer, trace, closes=True)


def trace_of_request(request: web.BaseRequest) -> Trace:
    """What a request is called; one that aiohttp could not read has no headers to ask."""
    values_of = getattr(request.headers, "getall", None)
    if values_of is None:
        return new_trace()
    return trace_of(*(values_of(each.decode(), []) for each in (REQUEST_ID, TRACEPARENT)))


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Answer an Expect header, which comes before everything else: 100-continue, or a problem."""
    if request.version != HttpVersion11:
        return None  # HTTP/1.0 knows no Expect (RFC 9110, section 10.1.1)
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The final answer starts with its own status line; what was written so far is not part of it.
        request.writer.output_size = 0
        return None
    return unreadable(request, Refused(EXPECTATION_FAILED), trace_of_request(request))
