"""Types for the declaration of API operations, and problems that many of them share."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from reservasi.front.api import bodies
from reservasi.front.api import problem_catalogue as problems
from reservasi.front.api.problem_type import ProblemType

RANGE_DAYS_MAX = 366  # from the first date to the last, both included
PAGE_MAX = 5000  # quotas in one answer: some 1.2 MB, a tenth of that compressed
AFTER_CHARS_MAX = 400

Security = Literal["none", "manageToken", "staffKey"]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter in the path, the query or a header."""

    name: str
    place: Literal["path", "query", "header"]
    schema: Mapping[str, Any]
    about: str
    required: bool = False


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """One answer that is not a refusal."""

    about: str
    body: type | None = None
    media: str = "application/json"
    schema: Mapping[str, Any] | None = None  # of a body that is not JSON; None: plain text
    headers: tuple[str, ...] = ()
    links: tuple[str, ...] = ()  # operations that take this body's `id`


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path."""

    id: str
    method: Literal["GET", "POST", "PUT", "PATCH"]
    path: str
    tag: Literal["public", "reservations", "staff", "about"]
    summary: str
    successes: Mapping[int, Success]
    problems: tuple[ProblemType, ...] = ()  # in addition to COMMON_PROBLEMS
    parameters: tuple[Parameter, ...] = ()
    body: type | None = None
    body_required: bool = True
    security: Security = "none"


# Problems that any operation may return.
COMMON_PROBLEMS = (
    problems.BAD_REQUEST,
    problems.METHOD_NOT_ALLOWED,
    problems.REQUEST_TIMEOUT,
    problems.TARGET_TOO_LONG,
    problems.HEADERS_TOO_LARGE,
    problems.METHOD_NOT_IMPLEMENTED,
    problems.HTTP_VERSION_NOT_SUPPORTED,
    problems.EXPECTATION_FAILED,
    problems.INTERNAL_ERROR,
)
BODY_PROBLEMS = (
    problems.BODY_TOO_LARGE,
    problems.UNSUPPORTED_MEDIA_TYPE,
    problems.INVALID_REQUEST,
)
STAFF_PROBLEMS = (
    problems.API_KEY_REQUIRED,
    problems.API_KEY_EXPIRED,
    problems.API_KEY_REVOKED,
    problems.ROLE_NOT_ALLOWED,
    problems.PROGRAM_NOT_ALLOWED,
)
UNAVAILABLE = (problems.OVERLOADED, problems.RECOVERING)

# Parameters of every operation, since any may refuse.
ACCEPT_LANGUAGE = Parameter(
    name="Accept-Language",
    place="header",
    schema={"type": "string", "examples": ["en"]},
    about="The language of refusals: `id` (default) or `en`.",
)

_ID_SCHEMA = {"type": "string", "pattern": bodies.ID_PATTERN}
PROGRAM = Parameter(name="program", place="query", schema=_ID_SCHEMA, about="Only this program.")
OFFICE = Parameter(name="office", place="query", schema=_ID_SCHEMA, about="Only this office.")
IF_MATCH = Parameter(
    name="If-Match",
    place="header",
    schema={"type": "string", "examples": ['"3"']},
    about="The version to change; without it, any. If another version is current, 412; but 200 if the requested "
    "state is already reached (RFC 9110, section 13.1.1), so that a request whose answer was lost may be sent "
    "again.",
)
IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    place="header",
    schema={"type": "string"},
    about="The answer is 304 if the ETag is one of these.",
)
NOT_MODIFIED = Success(about="Unchanged since the ETag in If-None-Match.", headers=("ETag",))


def listed(about: str, body: type) -> Mapping[int, Success]:
    """The answers of a cacheable read."""
    return {200: Success(about=about, body=body, headers=("ETag", "Cache-Control")), 304: NOT_MODIFIED}
