"""Refusals of late cancellations: after the program's last moment, or after the date of the reservation."""

import msgspec

from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import CANCELLATION_TOO_LATE
from reservasi.front.api.problems import Refused
from reservasi.front.services import FrontServices
from reservasi.front.views.availability import local_moment
from reservasi.programs import program_of

_DATE_PASSED = msgspec.structs.replace(
    CANCELLATION_TOO_LATE,
    detail=Text(
        "Waktu reservasi ini sudah lewat: {date}. Reservasi tidak dapat dibatalkan lagi, juga oleh petugas.",
        "The time of this reservation is over: it was {date}. Not even staff can cancel it any longer.",
    ),
    next=Text(
        "Buat reservasi baru jika tempat masih diperlukan.",
        "Make a new reservation if a place is still needed.",
    ),
)


async def too_late(services: FrontServices, quota_id: str, *, is_over: bool) -> Refused:
    """The refusal of a cancellation; `is_over`: the date has passed, which binds staff as well as the owner."""
    kind = _DATE_PASSED if is_over else CANCELLATION_TOO_LATE
    quota = await services.reservations.quota(quota_id)
    if quota is None:
        return Refused(kind)
    if is_over:
        date = f"{quota.terms.date} {quota.terms.start}"
        return Refused(kind, words={"date": Text(date, date)})
    until = local_moment(services, program_of(quota.id), quota.terms.cancel_until_ms)
    return Refused(kind, words={"cancel_until": Text(until, until)})
