"""Converts aiohttp's requests to ours."""

import asyncio

from aiohttp import hdrs, http_exceptions, web

from reservasi.front.api.problem_catalogue import BAD_REQUEST, BODY_TOO_LARGE, REQUEST_TIMEOUT, UNSUPPORTED_MEDIA_TYPE
from reservasi.front.api.problems import Refused
from reservasi.front.api.request import API_KEY, AUTHORIZATION, IF_MATCH, IF_NONE_MATCH, REQUEST_ID, TRACEPARENT, Head
from reservasi.front.api.request import Request as OurRequest
from reservasi.front.http.aiohttp_connection import AiohttpConnection
from reservasi.settings import Settings

_LISTS = (IF_MATCH, IF_NONE_MATCH)  # lines of the same name are one list (RFC 9110, section 5.3)
_SINGLE = (AUTHORIZATION, API_KEY)
_NAMES = (REQUEST_ID, TRACEPARENT)  # repeated lines are ignored


def request_of(request: web.Request) -> OurRequest:
    headers = request.headers
    head = Head(
        {
            b"content-type": headers.get(hdrs.CONTENT_TYPE, ""),
            b"accept": ",".join(headers.getall(hdrs.ACCEPT, ())),
            b"accept-encoding": ",".join(headers.getall(hdrs.ACCEPT_ENCODING, ())),
            b"accept-language": ",".join(headers.getall(hdrs.ACCEPT_LANGUAGE, ())),
            b"origin": headers.get(hdrs.ORIGIN, ""),
        }
    )
    values: dict[bytes, str] = {}
    for each in (*_LISTS, *_SINGLE, *_NAMES):
        lines = headers.getall(each.decode(), ())
        if lines and (each not in _NAMES or len(lines) == 1):
            values[each] = ", ".join(lines) if each in _LISTS else lines[0]
    target = request.raw_path
    if not target.startswith("/") or "#" in target:  # an absolute URL, or one with a fragment
        target = request.rel_url.raw_path_qs
    ours = OurRequest(
        request.method,
        target,
        head,
        headers.getall("Idempotency-Key", ()),
        headers.getall(hdrs.X_FORWARDED_FOR, ()),
        values,
    )
    ours.peer = request.remote or ""
    return ours


async def read_body(request: web.Request, ours: OurRequest, settings: Settings) -> None:
    """Read the body within the limits of size and time; if that fails, the handler that needs it refuses."""
    if (request.content_length or 0) > settings.body_bytes_max:
        ours.fault = Refused(BODY_TOO_LARGE)
    elif hdrs.CONTENT_ENCODING in request.headers:
        # A few hundred bytes need no compression, and a compression bomb is refused unread.
        ours.fault = Refused(UNSUPPORTED_MEDIA_TYPE)
    else:
        try:
            async with asyncio.timeout(settings.body_timeout_ms / 1000):
                ours.body = await request.read()
            if isinstance(request.protocol, AiohttpConnection) and request.protocol.is_body_broken:
                ours.fault = Refused(BAD_REQUEST)
        except TimeoutError:
            ours.fault = Refused(REQUEST_TIMEOUT)
        except RuntimeError as error:
            if request.transport is not None:
                raise
            raise ConnectionResetError("the caller has gone") from error  # aiohttp has no error of its own for it
        except web.HTTPRequestEntityTooLarge:
            ours.fault = Refused(BODY_TOO_LARGE)
        except (http_exceptions.HttpProcessingError, web.RequestPayloadError):
            ours.fault = Refused(BAD_REQUEST)
