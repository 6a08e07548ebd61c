"""Answers to requests that are not read to their end: what can be known of the caller is taken from the first bytes."""

import re
import time

from reservasi.front.api.cors import Cors
from reservasi.front.api.problems import Refused, problem_answer
from reservasi.front.api.tracing import trace_of
from reservasi.front.http.answer_bytes import CLOSE, date_line
from reservasi.front.http.request_head import language_of

_TARGET = re.compile(rb"[^ \r\n]+ ([^ \r\n]+)")
_ORIGIN = re.compile(rb"\r\n(?i:origin):[ \t]*([^\r\n]*)")
_REQUEST_ID = re.compile(rb"\r\n(?i:x-request-id):([^\r\n]*)")
_TRACEPARENT = re.compile(rb"\r\n(?i:traceparent):([^\r\n]*)")


def early_answer(refused: Refused, head: bytes, cors: Cors) -> bytes:
    """A problem as bytes, in the language that the head asks for; the connection is closed after it."""
    answer = problem_answer(language_of(head), refused)
    ids, parents = ([_text(each) for each in found.findall(head)] for found in (_REQUEST_ID, _TRACEPARENT))
    names = trace_of(ids, parents).lines
    return answer.head + _cors_lines(head, cors) + names + CLOSE + date_line(int(time.time())) + answer.body


def _cors_lines(head: bytes, cors: Cors) -> bytes:
    """What an answer to this head says for pages of other origins."""
    if not cors.is_on:
        return b""
    target, origin = _TARGET.match(head), _ORIGIN.search(head)
    return cors.lines(_text(target[1]) if target else "", _text(origin[1]) if origin else "")


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("latin-1")
