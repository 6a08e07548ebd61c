"""Reading what aiohttp hands over: bodies within their limits, bearer secrets, query parameters, entity tags."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping

from aiohttp import hdrs, http_exceptions, web

from reservasi.front.keys import NETWORKS, SERVICES
from reservasi.front.languages import Text
from reservasi.front.not_found import no_program
from reservasi.front.problem_types import (
    BAD_REQUEST,
    BODY_TOO_LARGE,
    INVALID_REQUEST,
    REQUEST_TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
)
from reservasi.front.problems import Finding, Refused
from reservasi.front.shapes import HARMLESS_KEY, Check
from reservasi.tidying import tidy_word

SECRET_CHARS_MAX = 512
_ENTITY_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_CHARSETS = (None, "utf-8", "utf8", "us-ascii")


async def read_body(request: web.Request, *, required: bool = True) -> bytes:
    """The body, within its size and its time, and JSON by its label; b"" when there may be none and is none."""
    settings = request.app[SERVICES].settings
    if (request.content_length or 0) > settings.body_bytes_max:
        raise Refused(BODY_TOO_LARGE)
    # A few hundred bytes need no compression, and a bomb is refused unread.
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Refused(UNSUPPORTED_MEDIA_TYPE)
    try:
        if request.content.is_eof():
            body = await request.read()  # it came with the headers, as small bodies do: no timer needed
        else:
            async with asyncio.timeout(settings.body_timeout_ms / 1000):
                body = await request.read()
    except TimeoutError as error:
        raise Refused(REQUEST_TIMEOUT) from error
    except (http_exceptions.HttpProcessingError, web.RequestPayloadError) as error:
        raise Refused(BAD_REQUEST) from error
    if body or required:
        content_type = request.content_type
        if content_type != "application/json" or (request.charset or "utf-8").lower() not in _CHARSETS:
            raise Refused(UNSUPPORTED_MEDIA_TYPE)
    return body


def bearer(request: web.Request) -> str:
    """The bearer secret of the request; "" when it is missing, malformed or too long to be one of ours."""
    scheme, _, secret = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret.isascii() or len(secret) > SECRET_CHARS_MAX:
        return ""
    return secret


def client_network(request: web.Request) -> str:
    """Where a request comes from: an IPv4 address, or a /64 of IPv6; also behind a proxy that the settings trust."""
    return request.app[NETWORKS].host(request.remote or "", request.headers.getall(hdrs.X_FORWARDED_FOR, []))


def read_query(request: web.Request, checks: Mapping[str, Check]) -> dict[str, str]:
    """The query parameters; refuses unknown, repeated and invalid ones, all at once."""
    return naming_programs(request, lambda: check_query(request.query.items(), checks)) if request.query_string else {}


def naming_programs(request: web.Request, read: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What `read` returns; where it refuses the value of `program`, the refusal names the programs that there are."""
    try:
        return read()
    except Refused as refused:
        catalogue, asked = request.app[SERVICES].catalogue, request.query.get("program", "")
        findings = tuple(
            Finding(each.pointer, each.code, no_program(catalogue, asked)) if _is_of_program(each) else each
            for each in refused.findings
        )
        raise Refused(refused.kind, findings=findings) from None


def _is_of_program(finding: Finding) -> bool:
    return (finding.pointer, finding.code) == ("program", "parameter-invalid")


def check_query(parameters: Iterable[tuple[str, str]], checks: Mapping[str, Check]) -> dict[str, str]:
    """The same from the parameters alone."""
    read: dict[str, str] = {}
    findings: list[Finding] = []
    for name, value in parameters:
        check = checks.get(name)
        if check is None:
            findings.append(_unknown(name, checks))
        elif name in read:
            findings.append(Finding(name, "repeated-parameter", _REPEATED_PARAMETER))
        else:
            wrong = check(value)
            if wrong is not None:
                value = tidy_word(value)  # noqa: PLW2901 - a space or a mark that came along with a pasted one
                wrong = check(value)
            if wrong is not None:
                findings.append(Finding(name, wrong.code, wrong.detail))
            read[name] = value
    if findings:
        raise Refused(INVALID_REQUEST, findings=tuple(findings))
    return read


def _unknown(name: str, checks: Mapping[str, Check]) -> Finding:
    """A parameter that there is not, by its name where that cannot be somebody's number; and those that there are."""
    known = ", ".join(f"`{each}`" for each in checks)
    if not HARMLESS_KEY.fullmatch(name):
        text = Text(
            f"Ada parameter yang tidak dikenal. Yang ada: {known}.", f"There is an unknown parameter. Known: {known}."
        )
        return Finding("", "unknown-parameter", text)
    text = Text(
        f"Tidak ada parameter `{name}`. Yang ada: {known}.", f"There is no parameter `{name}`. There are: {known}."
    )
    return Finding(name, "unknown-parameter", text)


_REPEATED_PARAMETER = Text("Parameter ini disebut lebih dari sekali.", "This parameter is given more than once.")


def matches(header: str, etag: str) -> bool:
    """Whether If-None-Match names the entity tag (weak comparison, RFC 9110 section 13.1.2)."""
    header = header.strip()
    if header in ("*", etag):
        return True
    return etag.strip('"') in _ENTITY_TAG.findall(header)


def strong_tags(header: str) -> list[str]:
    """The strong entity tags of an If-Match header, without their quotes."""
    return [tag.group(1) for tag in _ENTITY_TAG.finditer(header) if not tag.group(0).startswith("W/")]
