"""What is shown of a moved or cancelled opening: its former moment, and the reason."""

from typing import TypeVar

from reservasi.front.api.bodies import OpeningBody
from reservasi.front.api.languages import Text
from reservasi.front.api.problems import Refused
from reservasi.front.api.waiting_bodies import OpeningStateBody, QueueBody
from reservasi.front.api.waiting_problems import OPENING_CANCELLED
from reservasi.front.views.quota_json import moment
from reservasi.model import Opening

Body = TypeVar("Body", OpeningBody, QueueBody, OpeningStateBody)


def said_of_moves(opening: Opening, body: Body) -> Body:
    """The body with the moment before the last move and the reason, if there are any."""
    if opening.moved_from_ms:
        body.moved_from = moment(opening.moved_from_ms)
    if opening.reason:
        body.reason = opening.reason
    if opening.reason_en:
        body.reason_en = opening.reason_en
    return body


def reason_text(opening: Opening) -> Text:
    """The reason for the move or cancellation, in the languages in which it was given."""
    return Text(opening.reason, opening.reason_en or opening.reason)


def cancelled_members(opening: Opening) -> dict[str, object]:
    """The members of a problem about a cancelled opening."""
    members: dict[str, object] = {}
    if opening.cancelled:
        members["state"] = "cancelled"
    if opening.cancelled and opening.reason:
        members["reason"] = opening.reason
    if opening.cancelled and opening.reason_en:
        members["reason_en"] = opening.reason_en
    return members


def refused_as_cancelled(opening: Opening) -> Refused:
    """The refusal of a join, or of a claim of one of its quotas."""
    return Refused(
        OPENING_CANCELLED,
        members={"opening": opening.id, **cancelled_members(opening)},
        words={"reason": reason_text(opening)},
    )
