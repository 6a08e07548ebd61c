"""Answers that may be kept by whoever asked: 304 where they have it, compressed where they take that."""

from collections.abc import Mapping
from typing import TypeVar

from aiohttp import hdrs, web

from reservasi.front.encoding import Encoded, accepts_gzip
from reservasi.front.requests import matches

Response = TypeVar("Response", bound=web.Response)


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
    chosen = view.variant(gzip=accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ()))))
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
