"""Answers that may be kept: compressed where the caller takes that, and 304 where the caller has them already."""

import asyncio
from typing import NamedTuple

from aiohttp import hdrs

from reservasi.front.api.answers import JSON, Answer, json_answer
from reservasi.front.api.entity_tags import matches
from reservasi.front.api.request import IF_NONE_MATCH, Request
from reservasi.front.views.quota_json import COMPRESSED_BYTES_MIN, GZIP, Encoded, accepts_gzip, compressed

THREAD_BYTES_MIN = 64 * 1024  # more is compressed beside the event loop: nobody waits for somebody else's long list


class Kind(NamedTuple):
    """What is said of a view besides its tag and its encoding; "" where nothing is."""

    cache_control: str
    content_type: str = JSON
    vary: str = ""  # what else than the encoding it depends on
    language: str = ""
    policy: str = ""  # of a page: what it may load and run

    def headers(self, view: Encoded) -> dict[str, str]:
        """The headers of an answer with this view."""
        vary = [self.vary] if self.vary else []
        vary += [hdrs.ACCEPT_ENCODING] if view.has_variants else []
        said = {
            hdrs.CONTENT_TYPE: self.content_type,
            hdrs.CACHE_CONTROL: self.cache_control,
            hdrs.ETAG: view.etag,
            hdrs.VARY: ", ".join(vary),
            hdrs.CONTENT_ENCODING: view.content_encoding,
            hdrs.CONTENT_LANGUAGE: self.language,
            hdrs.CONTENT_SECURITY_POLICY: self.policy,
        }
        return {name: value for name, value in said.items() if value}


def conditional(request: Request, view: Encoded, kind: Kind) -> Answer:
    """The view as the caller takes it, or 304 where they have it, in either encoding."""
    chosen = view.variant(gzip=accepts_gzip(request.head.accept_encoding))
    known = request.values.get(IF_NONE_MATCH)
    if known is not None:
        for etag in (chosen.etag, *view.etags):
            if matches(known, etag):
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
    """JSON for one caller, which nobody keeps."""
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
