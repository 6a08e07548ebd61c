"""Turns problem types into answers (RFC 9457).

A refusal is definite and says what one can do next. No text repeats what the caller sent: a NIK must not appear on an
error page.
"""

import random
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache

import msgspec
from aiohttp import hdrs

from reservasi.front.api.answers import NO_STORE, Answer
from reservasi.front.api.languages import Language, Text
from reservasi.front.api.paths import problem_type_uri
from reservasi.front.api.problem_type import MEDIA_TYPE, ProblemType

RETRY_AFTER_S_MAX = 5  # jittered, so that refused callers do not return at the same time
_UNREADABLE = ("request-timeout", "bad-request")  # the position of the next request on the connection is unknown
FINDINGS_MAX = 50  # a hostile body must not make the answer larger than itself
_SECONDS = tuple(map(str, range(1, RETRY_AFTER_S_MAX + 1)))


class Finding(msgspec.Struct, frozen=True):
    """One error in a request, not yet in a language."""

    pointer: str  # JSON Pointer into the body, or the name of a header or parameter
    code: str
    detail: Text


class Refused(Exception):
    """Raised by a handler with a problem; the dispatcher turns it into the answer."""

    def __init__(
        self,
        kind: ProblemType,
        *,
        findings: tuple[Finding, ...] = (),
        members: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        words: Mapping[str, Text] | None = None,
    ) -> None:
        super().__init__(kind.name)
        self.kind = kind
        self.findings = findings
        self.members = members or {}  # extension members of the problem, such as `alternatives`
        self.headers = headers or {}
        self.words = words or {}  # values of the detail's placeholders


def problem_body(refused: Refused, language: Language) -> bytes:
    """The encoded problem in one language."""
    if not (refused.findings or refused.members or refused.words):
        return _plain_body(refused.kind, language)
    body = _members(refused.kind, language, refused.words)
    if refused.findings:
        body["errors"] = [
            {"pointer": f.pointer, "code": f.code, "detail": f.detail.to(language)}
            for f in refused.findings[:FINDINGS_MAX]
        ]
    body.update(refused.members)
    return msgspec.json.encode(body)


@lru_cache(maxsize=256)
def _plain_body(kind: ProblemType, language: Language) -> bytes:
    return msgspec.json.encode(_members(kind, language, {}))


def _members(kind: ProblemType, language: Language, words: Mapping[str, Text]) -> dict[str, object]:
    return {
        "type": problem_type_uri(kind.name),
        "title": kind.title.to(language),
        "status": kind.status,
        "detail": detail_text(kind, language, words),
        "next": kind.next.to(language),
    }


def detail_text(kind: ProblemType, language: Language, words: Mapping[str, Text]) -> str:
    """The detail with its placeholders filled; an ellipsis for an unknown value."""
    detail = kind.detail.to(language)
    if "{" not in detail:
        return detail
    return detail.format_map(defaultdict(lambda: "…", {name: text.to(language) for name, text in words.items()}))


def retry_after() -> str:
    """Whole seconds, jittered; Python's generator is seeded anew in each forked process."""
    return _SECONDS[int(random.random() * RETRY_AFTER_S_MAX)]  # noqa: S311 - not a secret


def problem_answer(language: Language, refused: Refused, body: bytes | None = None) -> Answer:
    """The answer to a refused request in one language.

    `body` is the problem already encoded in that language, for frequent answers.
    """
    kind, headers = refused.kind, refused.headers
    if kind.retry and hdrs.RETRY_AFTER not in headers:
        headers = {**headers, hdrs.RETRY_AFTER: retry_after()}
    if body is None and not (refused.findings or refused.members or refused.words):
        return _plain_answer(kind, language, tuple(headers.items()))
    return _answer(kind, {**_headers(language), **headers}, body or problem_body(refused, language))


@lru_cache(maxsize=1024)  # problem types x languages x values of a few headers, such as Retry-After and Allow
def _plain_answer(kind: ProblemType, language: Language, headers: tuple[tuple[str, str], ...]) -> Answer:
    return _answer(kind, {**_headers(language), **dict(headers)}, _plain_body(kind, language))


def _headers(language: Language) -> dict[str, str]:
    return {
        hdrs.CONTENT_TYPE: MEDIA_TYPE,
        hdrs.CONTENT_LANGUAGE: language,
        hdrs.VARY: hdrs.ACCEPT_LANGUAGE,
        hdrs.CACHE_CONTROL: NO_STORE,
    }


def _answer(kind: ProblemType, headers: Mapping[str, str], body: bytes) -> Answer:
    return Answer(kind.status, headers, body, outcome=kind.name, closes=kind.name in _UNREADABLE)
