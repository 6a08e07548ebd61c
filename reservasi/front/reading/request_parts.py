"""Parts of a request that several handlers read: a JSON body, and a bearer secret."""

from reservasi.front.api.problem_catalogue import UNSUPPORTED_MEDIA_TYPE
from reservasi.front.api.problems import Refused
from reservasi.front.api.request import AUTHORIZATION, Request

SECRET_CHARS_MAX = 512


def json_body(request: Request, *, required: bool = True) -> bytes:
    """The body with a JSON content type; b"" if it is optional and missing.

    Raises:
        Refused: it could not be read, or has another content type.
    """
    require_whole(request)
    body = request.body
    if (body or required) and not request.head.is_json:
        raise Refused(UNSUPPORTED_MEDIA_TYPE)
    return body


def require_whole(request: Request) -> None:
    """Refuse a request whose body could not be read completely, also where the body is not used.

    Raises:
        Refused: it could not; such a request must change nothing (RFC 9112, section 8).
    """
    if request.fault is not None:
        raise request.fault


def bearer(request: Request) -> str:
    """The bearer secret of the request; "" if it is missing, malformed or too long."""
    scheme, _, secret = request.values.get(AUTHORIZATION, "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret.isascii() or len(secret) > SECRET_CHARS_MAX:
        return ""
    return secret
