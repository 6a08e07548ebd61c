"""Authorisation of the staff API: the key of a request, its scopes and its programs."""

import datetime as dt

from aiohttp import hdrs

from reservasi.front.api import problem_catalogue
from reservasi.front.api.languages import Text
from reservasi.front.api.problem_type import ProblemType
from reservasi.front.api.problems import Refused
from reservasi.front.api.request import API_KEY, Request
from reservasi.front.deciding.front_context import Front
from reservasi.front.reading.request_parts import SECRET_CHARS_MAX, bearer
from reservasi.front.views.quota_json import moment
from reservasi.model import StaffScope
from reservasi.records import StaffRow


async def require_staff(front: Front, request: Request, scope: StaffScope, program: str | None = None) -> StaffRow:
    """The staff key of a request that needs the scope, and the program if one is given.

    Raises:
        Refused: the key is missing, unknown, revoked, expired or used too often, or lacks the scope or the program.
        RecordsUnavailable: the key cannot be looked up.
    """
    key = request.values.get(API_KEY, "") or bearer(request)
    catalogue = front.services.catalogue
    staff = None
    if key and key.isascii() and len(key) <= SECRET_CHARS_MAX:
        staff = await catalogue.staff(key)
    now = dt.datetime.now(dt.UTC)
    if staff is None:
        raise _unauthorized(problem_catalogue.API_KEY_REQUIRED)
    if staff.revoked_at is not None:
        raise _unauthorized(problem_catalogue.API_KEY_REVOKED, "revoked_at", staff.revoked_at)
    if staff.expires_at is not None and staff.has_expired(now):
        raise _unauthorized(problem_catalogue.API_KEY_EXPIRED, "expires_at", staff.expires_at)
    front.rates.check_api_key(staff.id)
    catalogue.note_use(staff, now)
    if scope not in staff.scopes:
        named = {"scope": Text(scope.value, scope.value)}
        raise Refused(problem_catalogue.ROLE_NOT_ALLOWED, members={"scope": scope.value}, words=named)
    if program is not None:
        require_program(staff, program)
    return staff


def require_program(staff: StaffRow, program: str) -> None:
    """Refuse a key that is limited to other programs, also if the program does not exist."""
    if not staff.may(program):
        raise Refused(problem_catalogue.PROGRAM_NOT_ALLOWED, members={"programs": sorted(staff.programs or ())})


def _unauthorized(kind: ProblemType, name: str = "", at: dt.datetime | None = None) -> Refused:
    headers: dict[str, str] = {hdrs.WWW_AUTHENTICATE: 'Bearer realm="staff"'}
    if at is None:
        return Refused(kind, headers=headers)
    when = moment(int(at.timestamp()) * 1000)
    return Refused(kind, headers=headers, members={name: when}, words={name: Text(when, when)})
