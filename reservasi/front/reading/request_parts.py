"""The parts of a request that several handlers read: a JSON body, and a bearer secret."""

from email.message import Message
from functools import lru_cache

from reservasi.front.api.problem_catalogue import UNSUPPORTED_MEDIA_TYPE
from reservasi.front.api.problems import Refused
from reservasi.front.api.request import AUTHORIZATION, Request

SECRET_CHARS_MAX = 512
_CHARSETS = ("utf-8", "utf8", "us-ascii")


def json_body(request: Request, *, required: bool = True) -> bytes:
    """The body, JSON by its label; b"" when there may be none and is none.

    Raises:
        Refused: it could not be read, or is labelled as something else.
    """
    if request.fault is not None:
        raise request.fault
    body = request.body
    if (body or required) and not is_json(request.head.content_type):
        raise Refused(UNSUPPORTED_MEDIA_TYPE)
    return body


@lru_cache(maxsize=256)
def is_json(content_type: str) -> bool:
    """Whether a Content-Type is JSON in UTF-8."""
    message = Message()
    message["Content-Type"] = content_type
    charset = message.get_param("charset") or "utf-8"
    return message.get_content_type() == "application/json" and str(charset).lower() in _CHARSETS


def bearer(request: Request) -> str:
    """The bearer secret of the request; "" when it is missing, malformed or too long to be one of ours."""
    scheme, _, secret = request.values.get(AUTHORIZATION, "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret.isascii() or len(secret) > SECRET_CHARS_MAX:
        return ""
    return secret
