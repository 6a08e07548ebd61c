"""The JSON of closures, by which staff close all quotas of a day; see `bodies.py`."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from reservasi.front.api.bodies import ID_PATTERN, StaffReason

Id: TypeAlias = Annotated[str, Meta(pattern=ID_PATTERN)]
Date: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date"}, examples=["2026-12-24"])]


class ClosureRequestBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A day to close: all quotas of a program on that date, or those that match the other fields."""

    program: Id
    date: Date
    office: Id | UnsetType | None = UNSET
    service: Id | UnsetType | None = UNSET
    channel: Id | UnsetType | None = UNSET
    reason: StaffReason = UNSET


class ClosedQuotaBody(msgspec.Struct, kw_only=True):
    """A quota of a closed day, with the number of places that people have and keep."""

    id: str
    office: str
    service: str
    channel: str
    start: str
    end: str
    held: int
    confirmed: int
    changed: Annotated[bool, Meta(description="Whether it was open before.")]


class BookedBody(msgspec.Struct, kw_only=True):
    """A reservation in a closed quota; it stays valid."""

    quota: str
    reservation: str
    places: int
    status: Literal["held", "confirmed"]


class ClosureBody(msgspec.Struct, kw_only=True):
    """A closed day. Repeating the request closes nothing more; only `closed` and `changed` differ."""

    program: str
    date: str
    closed: Annotated[int, Meta(description="How many quotas were open before.")]
    held: Annotated[int, Meta(description="Places that are held in all of them.")]
    confirmed: Annotated[int, Meta(description="Places that are confirmed in all of them.")]
    quotas: list[ClosedQuotaBody]
    booked: Annotated[list[BookedBody], Meta(description="The held and confirmed reservations.")]
