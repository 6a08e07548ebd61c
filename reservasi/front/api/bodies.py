"""The JSON bodies of requests and answers, as in the OpenAPI document.

Requests are declared here and checked in `reading/`, which reports every finding at once; a test compares the two.
Times are RFC 3339 in UTC; null means that there is none.
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from reservasi.model import APPLICANTS_MAX, CAPACITY_MAX, REASON_CHARS_MAX
from reservasi.quota_state import QuotaState

BIRTH_YEAR_MIN = 1900
EMAIL_CHARS_MAX = 254
IDEMPOTENCY_KEY_CHARS_MAX = 255
IDEMPOTENCY_KEY_PATTERN = r"^[!-~]([ -~]*[!-~])?$"  # the value of a header line has no spaces around it
NAME_CHARS_MAX = 100
TICKET_CHARS_MAX = 2048
NIK_PATTERN = r"^[0-9]{16}$"
NIK_DESCRIPTION = (
    "16 digits; spaces, line breaks, dots and hyphens among them are removed, and digits of another width or script "
    "are converted. Its birth date is not compared with `birth_date`."
)
PAYMENT_REFERENCE_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
PAYMENT_REFERENCE_OR_NONE = r"^[A-Za-z0-9._-]{0,64}$"
PHONE_DIGITS_MIN, PHONE_DIGITS_MAX = 6, 20
QUOTA_PATTERN = r"^[a-z0-9-]{2,32}(\.[a-z0-9-]{2,32}){5}$"
QUOTA_CHARS_MAX = 6 * 32 + 5  # follows from the pattern
ID_PATTERN = r"^[a-z0-9-]{2,32}$"
DATES_MAX = 366  # in the list of an opening
OPENINGS_MAX = 1000  # in one answer: some 500 kB
OPENING_PATTERN = r"^[A-Za-z0-9-]{2,64}$"

QuotaId: TypeAlias = Annotated[str, Meta(pattern=QUOTA_PATTERN, examples=["surabaya.kanim.baru.20261201.0800.online"])]
Moment: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-11-27T07:00:00Z"])]
Date: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date"}, examples=["2026-12-01"])]


class ApplicantBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One person who needs a place."""

    nik: Annotated[
        str,
        Meta(
            pattern=NIK_PATTERN,
            extra_json_schema={"format": "nik"},
            examples=["3578014107900001"],
            description=NIK_DESCRIPTION,
        ),
    ]
    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=NAME_CHARS_MAX,
            extra_json_schema={"format": "person-name"},
            examples=["Siti Aminah"],
            description="As on the identity card. Kept with one space between words, without invisible characters.",
        ),
    ]
    birth_date: Annotated[str, Meta(extra_json_schema={"format": "birth-date"}, examples=["1990-07-01"])]


class ContactBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How to reach the group. `null` and an empty text mean the same as leaving a member out."""

    email: (
        Annotated[
            str,
            Meta(
                examples=["siti@example.id"],
                description=f"An address of at most {EMAIL_CHARS_MAX} characters, ASCII before the @.",
            ),
        ]
        | UnsetType
        | None
    ) = UNSET
    phone: (
        Annotated[
            str,
            Meta(
                examples=["+6281234567890"],
                description=f"{PHONE_DIGITS_MIN} to {PHONE_DIGITS_MAX} digits, optionally after a plus. Spaces, "
                "dots, hyphens, slashes and parentheses are taken out.",
            ),
        ]
        | UnsetType
        | None
    ) = UNSET


class ClaimBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A request for one place for each applicant: all or none. Each NIK may be given once."""

    quota: QuotaId
    applicants: Annotated[list[ApplicantBody], Meta(min_length=1, max_length=APPLICANTS_MAX)]
    contact: ContactBody | UnsetType | None = UNSET
    ticket: Annotated[str, Meta(max_length=TICKET_CHARS_MAX)] | UnsetType | None = UNSET


class ConfirmBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Optional data of a confirmation."""

    payment_reference: (
        Annotated[str, Meta(pattern=PAYMENT_REFERENCE_OR_NONE, examples=["820261127001"])] | UnsetType | None
    ) = UNSET


StaffReason = (
    Annotated[
        str,
        Meta(
            max_length=REASON_CHARS_MAX,
            description="The reason, for the journal and the audit log; no personal data.",
            examples=["two more desks"],
        ),
    ]
    | UnsetType
    | None
)


class QuotaChangeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Changes of a quota by staff, at least one field, and the reason.

    `null` removes a time, and is ignored in other fields; without `closes_at` a quota closes when its window ends.
    """

    capacity: Annotated[int, Meta(ge=0, le=CAPACITY_MAX)] | UnsetType | None = UNSET
    opens_at: Moment | UnsetType | None = UNSET
    closes_at: Moment | UnsetType | None = UNSET
    closed: bool | UnsetType | None = UNSET
    reason: StaffReason = UNSET


class StaffCancelBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The reason for ending a reservation."""

    reason: StaffReason = UNSET


class AuditedChangeBody(msgspec.Struct, kw_only=True):
    """One change of a quota, an opening or a reservation."""

    at: Moment
    actor: Annotated[
        str,
        Meta(
            description="`staff:` and the key's name, `cli:` and the account, or `import`.",
            examples=["staff:Ani Wijaya"],
        ),
    ]
    reason: Annotated[str, Meta(examples=["two more desks"])]
    quota: str | None
    opening: str | None
    reservation: str | None
    after: Annotated[
        dict[str, Any], Meta(description="The state after the change.", examples=[{"version": 2, "capacity": 25}])
    ]


class AuditBody(msgspec.Struct, kw_only=True):
    """Changes, newest first; `next` is the `before` of the page that follows, null on the last one."""

    changes: list[AuditedChangeBody]
    next: str | None


class QuotaBody(msgspec.Struct, kw_only=True):
    """A quota as shown to the public."""

    id: QuotaId
    office: str
    service: str
    channel: str
    date: Annotated[str, Meta(extra_json_schema={"format": "date"})]
    start: str
    end: str
    capacity: int
    remaining: int
    state: QuotaState
    opens_at: Moment | None
    opening: Annotated[str | None, Meta(description="The opening with which it opens; null if there is none.")]
    ticket_required: Annotated[
        bool, Meta(description="Whether a claim needs a ticket of that opening's waiting room, now or once it opens.")
    ]


class StaffQuotaBody(QuotaBody, kw_only=True):
    """A quota as shown to staff."""

    held: int
    confirmed: int
    returning: int
    closes_at: Moment | None
    closed: bool
    version: int


class TextBody(msgspec.Struct, kw_only=True):
    """A text in both languages of the service."""

    id: str
    en: str


class NamedBody(msgspec.Struct, kw_only=True):
    """A service with its id and names."""

    id: str
    name: TextBody


class ChannelBody(msgspec.Struct, kw_only=True):
    """A way to obtain a place; a channel that is not public is claimed by staff only."""

    id: str
    name: TextBody
    public: bool


class ProgramBody(msgspec.Struct, kw_only=True):
    """A domain of rules, and of one live reservation per person."""

    id: str
    name: TextBody
    timezone: Annotated[str, Meta(examples=["Asia/Jakarta"])]
    demo: bool
    applicants_max: int
    hold_s: int
    services: list[NamedBody]
    channels: list[ChannelBody]


class ProgramsBody(msgspec.Struct, kw_only=True):
    """All programs."""

    programs: list[ProgramBody]


class OfficeBody(msgspec.Struct, kw_only=True):
    """An office with its address and hours."""

    id: str
    program: str
    name: TextBody
    address: str
    kind: Annotated[str, Meta(examples=["kanim"])]
    services: list[str]
    hours: dict[str, Any]
    latitude: float | None
    longitude: float | None


class OfficesBody(msgspec.Struct, kw_only=True):
    """Offices, in the order of their programs."""

    offices: list[OfficeBody]


class AvailabilityBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Quotas, by program, date, start and id."""

    quotas: list[QuotaBody]
    next: Annotated[str, Meta(description="There are more: request them with this value as `after`.")] | UnsetType = (
        UNSET
    )
    gone: Annotated[list[str], Meta(description="In a stream: quotas that are no longer there.")] | UnsetType = UNSET


class DayBody(msgspec.Struct, kw_only=True):
    """The quotas of one program and day, summarised."""

    program: str
    date: Annotated[str, Meta(extra_json_schema={"format": "date"})]
    quotas: Annotated[int, Meta(description="How many match.")]
    capacity: int
    remaining: Annotated[
        int, Meta(description="Remaining places in quotas that are not closed, whether or not they have opened.")
    ]
    bookable: Annotated[int, Meta(description="Remaining places in quotas that are open now.")]
    state: Annotated[QuotaState, Meta(description="The best state of its quotas: open, not-open, sold-out, closed.")]
    opens_at: Annotated[Moment | None, Meta(description="When the next of its quotas opens; null: none will.")]


class DaysBody(msgspec.Struct, kw_only=True):
    """One row for each program and day on which something is offered, in order."""

    days: list[DayBody]


class StaffQuotasBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Quotas as shown to staff, by program, date, start and id."""

    quotas: list[StaffQuotaBody]
    next: Annotated[str, Meta(description="There are more: request them with this value as `after`.")] | UnsetType = (
        UNSET
    )


OpeningListState: TypeAlias = Literal["not-open", "open", "sold-out", "closed", "paused", "ended", "cancelled"]
Reason: TypeAlias = Annotated[str, Meta(description="The reason for the move or cancellation, as given by staff.")]
ReasonEn: TypeAlias = Annotated[str, Meta(description="The reason in English, if staff gave one.")]
MovedFrom: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"format": "date-time"}, description="The moment before the move.")
]


class OpeningBody(msgspec.Struct, kw_only=True):
    """A moment at which quotas of a program open. Openings created by staff have more members."""

    id: Annotated[str, Meta(examples=["surabaya-20261127-1400"])]
    program: str
    opens_at: Moment
    state: OpeningListState
    quotas: int
    places: int
    offices: Annotated[list[str], Meta(description="Of its quotas, sorted.")] = msgspec.field(default_factory=list)
    services: Annotated[list[str], Meta(description="Of its quotas, sorted.")] = msgspec.field(default_factory=list)
    dates: Annotated[
        list[Date], Meta(max_length=DATES_MAX, description=f"Of its quotas, sorted; the first {DATES_MAX}.")
    ] = msgspec.field(default_factory=list)
    waiting_room: bool = False
    proof_of_work: bool | UnsetType = UNSET
    joins_from: Moment | UnsetType = UNSET
    ends_at: Moment | UnsetType = UNSET
    commitment: Annotated[str, Meta(description="SHA-256 of the draw's seed, in hexadecimal.")] | UnsetType = UNSET
    moved_from: MovedFrom | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    reason_en: ReasonEn | UnsetType = UNSET
    revision: Annotated[int, Meta(description="How often it was moved or cancelled.")] | UnsetType = UNSET
    revised_at: Moment | UnsetType = UNSET


class NextOpeningBody(msgspec.Struct, kw_only=True):
    """When it opens next, and when joining its waiting room begins."""

    id: str
    opens_at: Moment
    joins_from: Moment | UnsetType = UNSET


class OpeningsBody(msgspec.Struct, kw_only=True):
    """Openings, earliest first."""

    openings: Annotated[list[OpeningBody], Meta(max_length=OPENINGS_MAX)]
    more: (
        Annotated[bool, Meta(description="True if later ones are left out: request them with a later `from`.")]
        | UnsetType
    ) = UNSET


class ClaimedBody(msgspec.Struct, kw_only=True):
    """Places are held until `hold_expires_at`; a replay gets the same answer."""

    id: str
    status: Literal["held"] = "held"
    quota: str
    places: int
    hold_expires_at: Moment
    manage_token: str


class FindBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Proof that a person is an applicant of a live reservation: number, birth date and contact together.

    The contact is the one given with the claim: the address or the number; if both are given, both must match.
    """

    program: Annotated[str, Meta(pattern=ID_PATTERN, examples=["surabaya"])]
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
    contact: ContactBody


class FoundBody(msgspec.Struct, kw_only=True):
    """A live reservation, and its manage token."""

    id: str
    manage_token: str


# The ledger's states, and those of changes that are not recorded yet: confirming, releasing, cancelling.
ReservationStatus: TypeAlias = Literal[
    "held", "confirming", "confirmed", "releasing", "released", "expired", "cancelling", "cancelled", "attended",
    "absent",
]  # fmt: skip


class ReservationBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A reservation, for the holder of its manage token."""

    id: str
    status: ReservationStatus
    quota: str
    places: int
    office: str
    service: str
    channel: str
    date: str
    start: str
    end: str
    hold_expires_at: Moment | UnsetType = UNSET
    booking_code: str | UnsetType = UNSET


class ConfirmedBody(msgspec.Struct, kw_only=True):
    """Confirmed and recorded."""

    id: str
    status: Literal["confirmed"] = "confirmed"
    booking_code: Annotated[str, Meta(examples=["K7QF-3M2P-XW8D"])]


class ConfirmingBody(msgspec.Struct, kw_only=True):
    """Confirmed in the ledger, not recorded yet; ask again."""

    id: str
    status: Literal["confirming"] = "confirming"


class EndingBody(msgspec.Struct, kw_only=True):
    """Ended in the ledger, not recorded yet; ask again."""

    id: str
    status: Literal["cancelling", "releasing"]


class EndedBody(msgspec.Struct, kw_only=True):
    """The reservation has ended, which is recorded."""

    id: str
    status: Literal["cancelled", "released"]


class ErrorBody(msgspec.Struct, kw_only=True):
    """One finding of an invalid request."""

    pointer: str
    code: str
    detail: str


class ProblemBody(msgspec.Struct, kw_only=True):
    """A refusal (RFC 9457), in the caller's language."""

    type: str
    title: str
    status: int
    detail: str
    next: str
    errors: list[ErrorBody] | UnsetType = UNSET
    applicant: str | UnsetType = UNSET
    alternatives: list[QuotaBody] | UnsetType = UNSET
    next_opening: OpeningBody | UnsetType | None = UNSET
    next_openings: list[NextOpeningBody] | UnsetType = UNSET
    opens_at: Moment | UnsetType | None = UNSET
    state: str | UnsetType = UNSET
    opening: str | UnsetType = UNSET
    quota: str | UnsetType = UNSET
    overlaps: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    reason_en: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    programs: list[str] | UnsetType = UNSET
    expires_at: Moment | UnsetType = UNSET
    revoked_at: Moment | UnsetType = UNSET
    number: int | UnsetType | None = UNSET
    admitted_through: int | UnsetType = UNSET
    taken: int | UnsetType = UNSET
    version: int | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


class ProblemTypeBody(msgspec.Struct, kw_only=True):
    """The description of a problem type."""

    type: str
    status: int
    title: str
    detail: str
    next: str
