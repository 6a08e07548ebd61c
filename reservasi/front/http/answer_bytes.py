"""Encodes answers as HTTP/1.1."""

import time
from email.utils import formatdate
from functools import lru_cache

from aiohttp import hdrs

from reservasi.front.api.answers import Answer
from reservasi.front.api.languages import DEFAULT, Language
from reservasi.front.api.problems import Refused, problem_answer
from reservasi.front.api.request import Request

CLOSE = b"\r\nConnection: close"


def encode(answer: Answer, request: Request, *, names_all: bool, closes: bool, more: bytes = b"") -> bytes:
    """The whole answer: its head, the variable lines, and its body except for HEAD.

    With `names_all` it names the request; else only if the caller or a log line named it. `more` are further lines of
    the head, each after its line end.
    """
    end = date_line(int(time.time()))
    if names_all:
        end = request.trace.lines + end
    else:
        trace = request.known_trace
        if trace is not None and (trace.given or trace.logged):
            end = trace.lines + end
    if closes:
        end = CLOSE + end
    if more:
        end = more + end
    return answer.head + end + answer.body if request.method != hdrs.METH_HEAD else answer.head + end


@lru_cache(maxsize=2)
def date_line(at_s: int) -> bytes:
    """The end of a head."""
    return f"\r\n{hdrs.DATE}: {formatdate(at_s, usegmt=True)}\r\n\r\n".encode()


def whole_answer(refused: Refused, language: Language = DEFAULT) -> bytes:
    """An encoded problem for a connection that is closed after it."""
    answer = problem_answer(language, refused)
    return answer.head + CLOSE + date_line(int(time.time())) + answer.body
