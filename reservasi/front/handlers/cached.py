"""Cacheable answers: compressed if the caller accepts it, and 304 if the caller has the current version."""

import asyncio
from typing import NamedTuple

from aiohttp import hdrs

from reservasi.front.api.answers import JSON, Answer, json_answer
from reservasi.front.api.entity_tags import matches
from reservasi.front.api.request import IF_NONE_MATCH, Request
from reservasi.front.views.quota_json import COMPRESSED_BYTES_MIN, GZIP, Encoded, accepts_gzip, compressed

THREAD_BYTES_MIN = 64 * 1024  # larger bodies are compressed in a thread, so that other requests do not wait


class Kind(NamedTuple):
    """Cache headers of a view other than its tag and encoding; "" for none."""

    cache_control: str
    content_type: str = JSON
    vary: str = ""  # headers other than the encoding on which it depends
    language: str = ""
    policy: str = ""  # of a page: its content security policy

    def headers(self, view: Encoded) -> dict[str, str]:
        """The headers of an answer with this view."""
        vary = [self.vary] if self.vary else []
        vary += [hdrs.ACCEPT_ENCODING] if view.has_variants else []
        headers = {
            hdrs.CONTENT_TYPE: self.content_type,
            hdrs.CACHE_CONTROL: self.cache_control,
            hdrs.ETAG: view.etag,
            hdrs.VARY: ", ".join(vary),
            hdrs.CONTENT_ENCODING: view.content_encoding,
            hdrs.CONTENT_LANGUAGE: self.language,
            hdrs.CONTENT_SECURITY_POLICY: self.policy,
        }
        return {name: value for name, value in headers.items() if value}


def conditional(request: Request, view: Encoded, kind: Kind) -> Answer:
    """The view in an encoding that the caller accepts, or 304 if the caller has it, in either encoding."""
    chosen = view.variant(gzip=accepts_gzip(request.head.accept_encoding))
    tags = request.values.get(IF_NONE_MATCH)
    if tags is not None:
        for etag in (chosen.etag, *view.etags):
            if matches(tags, etag):
                return _not_modified(chosen, kind, etag)
    answer: Answer | None = chosen.answers.get(kind)
    if answer is None:
        answer = chosen.answers[kind] = Answer(200, kind.headers(chosen), chosen.body)
    return answer


def _not_modified(view: Encoded, kind: Kind, etag: str) -> Answer:
    answer: Answer | None = view.answers.get((kind, etag))
    if answer is None:
        headers = {**kind.headers(view), hdrs.ETAG: etag}
        headers.pop(hdrs.CONTENT_ENCODING, None)
        del headers[hdrs.CONTENT_TYPE]
        answer = view.answers[kind, etag] = Answer(304, headers)
    return answer


async def unkept(request: Request, body: bytes, *, status: int = 200, location: str = "") -> Answer:
    """JSON for one caller, not cacheable."""
    headers: dict[str, str] = {hdrs.LOCATION: location} if location else {}
    if len(body) < COMPRESSED_BYTES_MIN:
        return json_answer(body, status, headers)
    headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    smaller = await _compressed(body) if accepts_gzip(request.head.accept_encoding) else None
    if smaller is not None:
        headers[hdrs.CONTENT_ENCODING] = GZIP
    return json_answer(smaller or body, status, headers)


async def _compressed(body: bytes) -> bytes | None:
    return compressed(body) if len(body) < THREAD_BYTES_MIN else await asyncio.to_thread(compressed, body)
