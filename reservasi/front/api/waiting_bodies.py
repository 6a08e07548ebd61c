"""The JSON of openings and their waiting rooms; see `bodies.py`."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from reservasi.front.api.bodies import (
    ID_PATTERN,
    NIK_DESCRIPTION,
    NIK_PATTERN,
    Moment,
    MovedFrom,
    Reason,
    ReasonEn,
    StaffReason,
)
from reservasi.model import REASON_CHARS_MAX
from reservasi.programs import OFFICES_MAX
from reservasi.waiting_room.draw import BEACON_PATTERN
from reservasi.waiting_room.state import OpeningState

ALTCHA_CHARS_MAX = 4096
JOINED_DESCRIPTION = (
    "People who joined before the opening. Counted about once a second, so that it may be a few seconds behind; final "
    "once "
    "the queue shows `seed`."
)
ARRIVED_DESCRIPTION = (
    "All people who joined so far, also after the opening. May be a few seconds behind, and stays once no places "
    "remain."
)
NEW_OPENING_PATTERN = r"^[a-z0-9-]{2,64}$"
RATE_PER_MIN_MAX = 1_000_000
Id: TypeAlias = Annotated[str, Meta(pattern=ID_PATTERN)]
Date: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date"}, examples=["2026-12-01"])]


class QueueBody(msgspec.Struct, kw_only=True):
    """The state of an opening's waiting room, the same for everybody; numbers up to `admitted_through` may claim."""

    id: str
    state: OpeningState
    opens_at: Moment
    joins_from: Moment
    ends_at: Moment
    joined: Annotated[int, Meta(description=JOINED_DESCRIPTION)]
    arrived: Annotated[int, Meta(description=ARRIVED_DESCRIPTION)]
    admitted_through: int
    rate_per_min: Annotated[int, Meta(description="Numbers per minute by which `admitted_through` moves.")]
    commitment: Annotated[str, Meta(description="SHA-256 of the seed, in hexadecimal.")]
    seed: Annotated[str, Meta(description="In hexadecimal; from the opening on.")] | UnsetType = UNSET
    beacon: Annotated[str, Meta(description="An outside value that is part of the draw.")] | UnsetType = UNSET
    beacon_source: (
        Annotated[str, Meta(description="Its source, as announced by staff before anybody joined.")] | UnsetType
    ) = UNSET
    moved_from: MovedFrom | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    reason_en: ReasonEn | UnsetType = UNSET
    paused_since: (
        Annotated[
            str,
            Meta(
                extra_json_schema={"format": "date-time"},
                description="While it is paused it does not end: on resuming, `ends_at` moves by the length of the "
                "pause.",
            ),
        ]
        | UnsetType
    ) = UNSET


class JoinBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A person who joins a waiting room; repeating it gives the same ticket."""

    nik: Annotated[
        str,
        Meta(
            pattern=NIK_PATTERN,
            extra_json_schema={"format": "nik"},
            examples=["3578014107900001"],
            description=NIK_DESCRIPTION,
        ),
    ]
    birth_date: Annotated[str, Meta(extra_json_schema={"format": "birth-date"}, examples=["1990-07-01"])]
    altcha: (
        Annotated[
            str,
            Meta(
                max_length=ALTCHA_CHARS_MAX,
                description="The solved challenge, as ALTCHA encodes it. `null` and an empty text mean the same as "
                "leaving it out.",
            ),
        ]
        | UnsetType
        | None
    ) = UNSET


class TicketBody(msgspec.Struct, kw_only=True):
    """A place in the waiting room."""

    ticket: str
    ticket_id: str
    number: (
        Annotated[
            int,
            Meta(
                description="Only for a person who joins after the opening. Whoever joined before it is drawn: the "
                "number follows from the queue's `seed`, `beacon` and `joined`."
            ),
        ]
        | UnsetType
    ) = UNSET


class OpeningRequestBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new opening, and the quotas that open with it: those from `from` to `to` that match the other filters."""

    program: Id
    opens_at: Moment
    from_: Date = msgspec.field(name="from")
    to: Date
    id: (
        Annotated[str, Meta(pattern=NEW_OPENING_PATTERN, description="Begins with the program's id and a hyphen.")]
        | UnsetType
        | None
    ) = UNSET
    joins_from: Moment | UnsetType | None = UNSET
    ends_at: Moment | UnsetType | None = UNSET
    waiting_room: bool | UnsetType | None = UNSET
    proof_of_work: bool | UnsetType | None = UNSET
    rate_per_min: Annotated[int, Meta(ge=1, le=RATE_PER_MIN_MAX)] | UnsetType | None = UNSET
    rate_max_per_min: Annotated[int, Meta(ge=1, le=RATE_PER_MIN_MAX)] | UnsetType | None = UNSET
    adaptive: bool | UnsetType | None = UNSET
    office: (
        Annotated[str, Meta(pattern=ID_PATTERN, description="The same as `offices` with one id.")] | UnsetType | None
    ) = UNSET
    offices: (
        Annotated[
            list[Id],
            Meta(
                min_length=1,
                max_length=OFFICES_MAX,
                description="The opening covers quotas of these offices only; others may open at the same moment.",
            ),
        ]
        | UnsetType
        | None
    ) = UNSET
    service: Id | UnsetType | None = UNSET
    channel: Id | UnsetType | None = UNSET
    beacon_source: (
        Annotated[
            str,
            Meta(
                max_length=REASON_CHARS_MAX,
                description="The source of the draw's outside value: who publishes it, which value, and when.",
                examples=["drand quicknet, the first round after 13:00 WIB"],
            ),
        ]
        | UnsetType
        | None
    ) = UNSET
    reason: StaffReason = UNSET


class AdmissionBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Changes of the admission by staff, at least one field, and the reason."""

    paused: bool | UnsetType | None = UNSET
    rate_per_min: (
        Annotated[int, Meta(ge=0, le=RATE_PER_MIN_MAX, description="0: the rate of the opening's terms again.")]
        | UnsetType
        | None
    ) = UNSET
    reason: StaffReason = UNSET


class BeaconBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An outside value that becomes part of the draw."""

    value: Annotated[str, Meta(pattern=f"^{BEACON_PATTERN}$", examples=["2026-12-01:drand:3a7f"])]
    reason: StaffReason = UNSET


class AdmissionStateBody(msgspec.Struct, kw_only=True):
    """The admission of an opening, as shown to staff."""

    id: str
    paused: bool
    rate_per_min: int
    rate_fixed: Annotated[bool, Meta(description="Whether staff set the rate, so that it does not adapt.")]
    joined: Annotated[int, Meta(description=JOINED_DESCRIPTION)]
    arrived: Annotated[int, Meta(description=ARRIVED_DESCRIPTION)]
    admitted_through: int
    beacon: str
    version: int


class OpeningChangeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Another moment, another end, or a cancellation; at least one of them, and a cancellation alone."""

    opens_at: (
        Annotated[Moment, Meta(description="Its quotas move with it, its end by the same time.")] | UnsetType | None
    ) = UNSET
    ends_at: Moment | UnsetType | None = UNSET
    cancelled: Annotated[bool, Meta(description="Final; needs a reason. Its quotas are closed.")] | UnsetType | None = (
        UNSET
    )
    reason: (
        Annotated[str, Meta(max_length=REASON_CHARS_MAX, description="The reason, shown to the public.")]
        | UnsetType
        | None
    ) = UNSET
    reason_en: (
        Annotated[str, Meta(max_length=REASON_CHARS_MAX, description="The same in English.")] | UnsetType | None
    ) = UNSET


class OpeningStateBody(msgspec.Struct, kw_only=True):
    """An opening after a change, as shown to staff."""

    id: str
    state: OpeningState
    opens_at: Moment
    joins_from: Moment
    ends_at: Moment
    cancelled: bool
    joined: Annotated[int, Meta(description=JOINED_DESCRIPTION)]
    arrived: Annotated[int, Meta(description=ARRIVED_DESCRIPTION)]
    revision: int
    version: int
    moved_from: MovedFrom | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    reason_en: ReasonEn | UnsetType = UNSET
