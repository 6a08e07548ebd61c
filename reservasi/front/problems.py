"""Every problem type: its name, HTTP status and texts; and how one becomes an answer (RFC 9457).

A refusal is definite and says what one can do next. No text repeats what the caller sent: a NIK must not come back
on an error page.
"""

import random
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache

import msgspec
from aiohttp import hdrs, web

from reservasi.front.languages import Language, Text, negotiate
from reservasi.front.problem_type import MEDIA_TYPE, ProblemType

PROBLEM: web.ResponseKey[str] = web.ResponseKey("problem", str)  # the name of the type that an answer speaks of
RETRY_AFTER_S_MAX = 5  # jittered, so that the refused do not come back in one wave
FINDINGS_MAX = 50  # a hostile body must not make the answer larger than itself
_JITTER = random.SystemRandom()


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong in a request, not yet in a language."""

    pointer: str  # JSON Pointer into the body, or the name of a header or parameter
    code: str
    detail: Text


class Refused(Exception):
    """Leaves a handler with a problem; the one middleware turns it into the answer."""

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
        self.words = words or {}  # what the detail's placeholders stand for


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
        "type": f"/problems/{kind.name}",
        "title": kind.title.to(language),
        "status": kind.status,
        "detail": detail_text(kind, language, words),
        "next": kind.next.to(language),
    }


def detail_text(kind: ProblemType, language: Language, words: Mapping[str, Text]) -> str:
    """The detail with its placeholders filled; with an ellipsis where nothing is known."""
    detail = kind.detail.to(language)
    if "{" not in detail:
        return detail
    return detail.format_map(defaultdict(lambda: "…", {name: text.to(language) for name, text in words.items()}))


def retry_after() -> str:
    """Whole seconds, jittered."""
    return str(_JITTER.randint(1, RETRY_AFTER_S_MAX))


def problem_response(request: web.BaseRequest, refused: Refused, body: bytes | None = None) -> web.Response:
    """The answer to a refused request, in the caller's language.

    `body` is the problem already encoded in that language, for answers that are given thousands of times a second.
    """
    response = problem_answer(negotiate(request.headers.get(hdrs.ACCEPT_LANGUAGE, "")), refused, body)
    response[PROBLEM] = refused.kind.name
    return response


def problem_answer(language: Language, refused: Refused, body: bytes | None = None) -> web.Response:
    """The same for a language that is known already."""
    headers = {
        hdrs.CONTENT_TYPE: MEDIA_TYPE,
        hdrs.CONTENT_LANGUAGE: language,
        hdrs.VARY: hdrs.ACCEPT_LANGUAGE,
        hdrs.CACHE_CONTROL: "no-store",
        **refused.headers,
    }
    if refused.kind.retry:
        headers.setdefault(hdrs.RETRY_AFTER, retry_after())
    return web.Response(status=refused.kind.status, body=body or problem_body(refused, language), headers=headers)
