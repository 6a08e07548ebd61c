"""Answers to requests that are not read to their end, using what their first bytes say about the caller."""

import re
import time

from reservasi.front.api.cors import Cors
from reservasi.front.api.problems import Refused, problem_answer
from reservasi.front.api.tracing import Trace, trace_of
from reservasi.front.http.answer_bytes import CLOSE, date_line
from reservasi.front.http.request_head import language_of

_TARGET = re.compile(rb"[^ \r\n]+ ([^ \r\n]+)")
_ORIGIN = re.compile(rb"\r\n(?i:origin):[ \t]*([^\r\n]*)")
_REQUEST_ID = re.compile(rb"\r\n(?i:x-request-id):([^\r\n]*)")
_TRACEPARENT = re.compile(rb"\r\n(?i:traceparent):([^\r\n]*)")


def early_answer(refused: Refused, head: bytes, cors: Cors) -> bytes:
    """An encoded problem in the language of the head; the connection is closed after it."""
    answer = problem_answer(language_of(head), refused)
    names = trace_of_head(head).lines
    body = b"" if head.startswith(b"HEAD ") else answer.body
    return answer.head + _cors_lines(head, cors) + names + CLOSE + date_line(int(time.time())) + body


def trace_of_head(head: bytes) -> Trace:
    """The names of a request of which only the head's bytes are known."""
    ids, parents = ([_text(each) for each in pattern.findall(head)] for pattern in (_REQUEST_ID, _TRACEPARENT))
    return trace_of(ids, parents)


def target_and_origin(head: bytes) -> tuple[str, str]:
    """What CORS needs of a head; "" for what it does not say."""
    target, origin = _TARGET.match(head), _ORIGIN.search(head)
    return _text(target[1]) if target else "", _text(origin[1]) if origin else ""


def _cors_lines(head: bytes, cors: Cors) -> bytes:
    """The CORS headers of an answer to this head."""
    return cors.lines(*target_and_origin(head)) if cors.is_on else b""


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("latin-1")
