"""Answers compressed where the caller takes that; of those that may be kept, 304 where the caller has it."""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

from aiohttp import hdrs, web

from reservasi.front.encoding import COMPRESSED_BYTES_MIN, GZIP, Encoded, accepts_gzip, compressed
from reservasi.front.requests import matches

Response = TypeVar("Response", bound=web.Response)
THREAD_BYTES_MIN = 64 * 1024  # more is compressed beside the event loop: nobody waits for somebody else's long list


def variant_headers(view: Encoded) -> dict[str, str]:
    """What is said of the variant that was chosen."""
    headers: dict[str, str] = {hdrs.ETAG: view.etag}
    if view.has_variants:
        headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    if view.content_encoding:
        headers[hdrs.CONTENT_ENCODING] = view.content_encoding
    return headers


def conditional(
    request: web.Request, view: Encoded, content_type: str, headers: Mapping[str, str], of: type[Response]
) -> Response:
    """The view as the caller takes it, or 304 where they have it, in either encoding. `headers` may have a Vary."""
    chosen = view.variant(gzip=_takes_gzip(request))
    said = {**headers, **variant_headers(chosen)}
    if hdrs.VARY in headers and chosen.has_variants:
        said[hdrs.VARY] = f"{headers[hdrs.VARY]}, {hdrs.ACCEPT_ENCODING}"
    known = request.headers.get(hdrs.IF_NONE_MATCH)
    if known is not None:
        for etag in (chosen.etag, *view.etags):
            if matches(known, etag):
                said.pop(hdrs.CONTENT_ENCODING, None)
                return of(status=304, headers={**said, hdrs.ETAG: etag})
    return of(body=chosen.body, headers={**said, hdrs.CONTENT_TYPE: content_type})


async def unkept(request: web.Request, body: bytes, *, status: int = 200, location: str = "") -> web.Response:
    """JSON for one caller, which nobody keeps."""
    headers: dict[str, str] = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}
    if location:
        headers[hdrs.LOCATION] = location
    if len(body) < COMPRESSED_BYTES_MIN:
        return web.Response(status=status, body=body, headers=headers)
    headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    smaller = await _compressed(body) if _takes_gzip(request) else None
    if smaller is not None:
        headers[hdrs.CONTENT_ENCODING] = GZIP
    return web.Response(status=status, body=smaller or body, headers=headers)


async def _compressed(body: bytes) -> bytes | None:
    return compressed(body) if len(body) < THREAD_BYTES_MIN else await asyncio.to_thread(compressed, body)


def _takes_gzip(request: web.Request) -> bool:
    return accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())))
