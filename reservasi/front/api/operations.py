"""Every operation of the API, declared once: routes and OpenAPI document are built from this."""

from msgspec.structs import replace

from reservasi.front.api import bodies, closure_bodies, waiting_problems
from reservasi.front.api import problem_catalogue as problems
from reservasi.front.api.declarations import (
    AFTER_CHARS_MAX,
    BODY_PROBLEMS,
    IF_MATCH,
    IF_NONE_MATCH,
    NOT_MODIFIED,
    OFFICE,
    PAGE_MAX,
    PROGRAM,
    RANGE_DAYS_MAX,
    STAFF_PROBLEMS,
    UNAVAILABLE,
    Operation,
    Parameter,
    Success,
    listed,
)
from reservasi.front.api.paths import CLAIM_PATH, LIMITED_PATHS, PROBLEM_PATH
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.front.api.staff_operations import STAFF_OPERATIONS
from reservasi.front.api.waiting_operations import WAITING_OPERATIONS

_ID_SCHEMA = {"type": "string", "pattern": bodies.ID_PATTERN}
_DATE_SCHEMA = {"type": "string", "format": "date"}
_FILTERS = (
    PROGRAM,
    OFFICE,
    Parameter(name="service", place="query", schema=_ID_SCHEMA, about="Only this service."),
    Parameter(name="channel", place="query", schema=_ID_SCHEMA, about="Only this channel."),
    Parameter(
        name="from",
        place="query",
        schema=_DATE_SCHEMA,
        about="First date of the slots, not after `to`; default: today in the program's time zone.",
    ),
    Parameter(
        name="to",
        place="query",
        schema=_DATE_SCHEMA,
        about=f"Last date of the slots, {RANGE_DAYS_MAX} days in total at most; default: that many days from `from`, "
        "or from today if that is later.",
    ),
)
_PAGE = (
    Parameter(
        name="limit",
        place="query",
        schema={"type": "integer", "minimum": 1, "maximum": PAGE_MAX},
        about=f"Maximum number of quotas; default: {PAGE_MAX}.",
    ),
    Parameter(
        name="after",
        place="query",
        schema={"type": "string", "maxLength": AFTER_CHARS_MAX},
        about="`next` of the previous answer: returns the page after it.",
    ),
)
_RESERVATION = Parameter(
    name="id",
    place="path",
    schema={"type": "string", "pattern": "^[a-z2-7]{26}$"},
    about="The reservation's id.",
    required=True,
)
_QUOTA = Parameter(
    name="id",
    place="path",
    schema={"type": "string", "pattern": bodies.QUOTA_PATTERN},
    about="The quota's id.",
    required=True,
)
_RESERVATION_LINKS = ("showReservation", "confirm", "cancel", "showQrCode", "showTicket")
_SHOWN = (problems.NOT_FOUND, *UNAVAILABLE)


_DECLARED: tuple[Operation, ...] = (
    Operation(
        id="listPrograms",
        method="GET",
        path="/v1/programs",
        tag="public",
        summary="All programs with their services and channels.",
        parameters=(IF_NONE_MATCH,),
        successes=listed("The programs.", bodies.ProgramsBody),
    ),
    Operation(
        id="listOffices",
        method="GET",
        path="/v1/offices",
        tag="public",
        summary="Offices with their addresses and hours.",
        parameters=(PROGRAM, IF_NONE_MATCH),
        successes=listed("The offices.", bodies.OfficesBody),
        problems=(problems.INVALID_REQUEST,),
    ),
    Operation(
        id="listAvailability",
        method="GET",
        path="/v1/availability",
        tag="public",
        summary="Quotas and how many places remain.",
        parameters=(*_FILTERS, *_PAGE, IF_NONE_MATCH),
        successes=listed("The quotas that match, by program, date and start.", bodies.AvailabilityBody),
        problems=(problems.INVALID_REQUEST, problems.RECOVERING),
    ),
    Operation(
        id="listDays",
        method="GET",
        path="/v1/availability/days",
        tag="public",
        summary="Remaining places per day, for a calendar.",
        parameters=(*_FILTERS, IF_NONE_MATCH),
        successes=listed("One row for each program and day, of the quotas that match.", bodies.DaysBody),
        problems=(problems.INVALID_REQUEST, problems.RECOVERING),
    ),
    Operation(
        id="streamAvailability",
        method="GET",
        path="/v1/availability/stream",
        tag="public",
        summary="Server-sent events named `availability`: first all quotas that match, then those that change.",
        parameters=_FILTERS,
        successes={
            200: Success(
                about="The stream; an event's data is an AvailabilityBody.",
                media="text/event-stream",
                body=bodies.AvailabilityBody,
            )
        },
        problems=(problems.INVALID_REQUEST, problems.RECOVERING, problems.TOO_MANY_STREAMS),
    ),
    Operation(
        id="claim",
        method="POST",
        path=CLAIM_PATH,
        tag="reservations",
        summary="Hold one place for each applicant: all or none.",
        parameters=(
            Parameter(
                name="Idempotency-Key",
                place="header",
                schema={
                    "type": "string",
                    "minLength": 1,
                    "maxLength": bodies.IDEMPOTENCY_KEY_CHARS_MAX,
                    "pattern": bodies.IDEMPOTENCY_KEY_PATTERN,
                    "examples": ["0b7c3a52-6f0e-4a56-9d4e-1f3c8f1f2a10"],
                },
                about="One key for each booking attempt; a repeated request with the same key gets the same answer.",
                required=True,
            ),
        ),
        body=bodies.ClaimBody,
        successes={
            201: Success(
                about="The places are held.",
                body=bodies.ClaimedBody,
                headers=("Location", "Idempotent-Replayed", "Cache-Control"),
                links=_RESERVATION_LINKS,
            )
        },
        problems=(
            problems.IDEMPOTENCY_KEY_MISSING,
            *BODY_PROBLEMS,
            problems.IDEMPOTENCY_KEY_REUSED,
            problems.UNKNOWN_QUOTA,
            problems.SOLD_OUT,
            problems.DUPLICATE_APPLICANT,
            problems.NOT_OPEN,
            problems.CLOSED,
            waiting_problems.WAITING_ROOM_REQUIRED,
            waiting_problems.NOT_ADMITTED,
            waiting_problems.OPENING_CANCELLED,
            *UNAVAILABLE,
        ),
    ),
    Operation(
        id="find",
        method="POST",
        path="/v1/find",
        tag="reservations",
        summary="Find a live reservation without its manage token, as one of its applicants.",
        body=bodies.FindBody,
        successes={200: Success(about="The reservation.", body=bodies.FoundBody, headers=("Cache-Control",))},
        problems=(*BODY_PROBLEMS, problems.NOT_FOUND, problems.RECOVERING),
    ),
    Operation(
        id="showReservation",
        method="GET",
        path="/v1/reservations/{id}",
        tag="reservations",
        summary="A reservation.",
        parameters=(_RESERVATION,),
        security="manageToken",
        successes={200: Success(about="The reservation.", body=bodies.ReservationBody, headers=("Cache-Control",))},
        problems=_SHOWN,
    ),
    Operation(
        id="confirm",
        method="POST",
        path="/v1/reservations/{id}/confirm",
        tag="reservations",
        summary="Confirm a hold; repeat the request after 202.",
        parameters=(_RESERVATION,),
        body=bodies.ConfirmBody,
        body_required=False,
        security="manageToken",
        successes={
            200: Success(about="Confirmed and recorded.", body=bodies.ConfirmedBody),
            202: Success(about="Accepted, not recorded yet.", body=bodies.ConfirmingBody, headers=("Retry-After",)),
        },
        problems=(
            *BODY_PROBLEMS,
            problems.NOT_CONFIRMABLE,
            problems.PAYMENT_REFERENCE_DIFFERS,
            problems.HOLD_EXPIRED,
            *_SHOWN,
        ),
    ),
    Operation(
        id="cancel",
        method="POST",
        path="/v1/reservations/{id}/cancel",
        tag="reservations",
        summary="Release a hold, or cancel a confirmed reservation; repeat the request after 202.",
        parameters=(_RESERVATION,),
        security="manageToken",
        successes={
            200: Success(about="Ended and recorded.", body=bodies.EndedBody),
            202: Success(about="Ended, not recorded yet.", body=bodies.EndingBody, headers=("Retry-After",)),
        },
        problems=(problems.CANCELLATION_TOO_LATE, problems.ALREADY_ENDED, *_SHOWN),
    ),
    Operation(
        id="showQrCode",
        method="GET",
        path="/v1/reservations/{id}/qr.svg",
        tag="reservations",
        summary="The booking code of a confirmed reservation as a QR code.",
        parameters=(_RESERVATION,),
        security="manageToken",
        successes={200: Success(about="The image.", media="image/svg+xml")},
        problems=(problems.NOT_CONFIRMED, *_SHOWN),
    ),
    Operation(
        id="showTicket",
        method="GET",
        path="/v1/reservations/{id}/ticket.ics",
        tag="reservations",
        summary="The appointment of a confirmed reservation for a calendar.",
        parameters=(_RESERVATION,),
        security="manageToken",
        successes={200: Success(about="The calendar entry.", media="text/calendar")},
        problems=(problems.NOT_CONFIRMED, *_SHOWN),
    ),
    Operation(
        id="listStaffQuotas",
        method="GET",
        path="/v1/staff/quotas",
        tag="staff",
        summary="Quotas with every count.",
        parameters=(*_FILTERS, *_PAGE),
        security="staffKey",
        successes={200: Success(about="The quotas that match.", body=bodies.StaffQuotasBody)},
        problems=(*STAFF_PROBLEMS, problems.INVALID_REQUEST, problems.RECOVERING),
    ),
    Operation(
        id="setQuota",
        method="PUT",
        path="/v1/staff/quotas/{id}",
        tag="staff",
        summary="Change a quota's capacity, its times, or whether it is closed.",
        parameters=(
            _QUOTA,
            IF_MATCH,
        ),
        body=bodies.QuotaChangeBody,
        security="staffKey",
        successes={200: Success(about="The quota after the change.", body=bodies.StaffQuotaBody, headers=("ETag",))},
        problems=(
            *STAFF_PROBLEMS,
            *BODY_PROBLEMS,
            problems.UNKNOWN_QUOTA,
            problems.BELOW_TAKEN,
            waiting_problems.OPENING_MOVES_QUOTA,
            problems.VERSION_MISMATCH,
            problems.OVERLAPPING_QUOTA,
            *UNAVAILABLE,
        ),
    ),
    Operation(
        id="closeDay",
        method="POST",
        path="/v1/staff/closures",
        tag="staff",
        summary="Close all quotas of a day, or those of an office, a service or a channel; reservations stay.",
        body=closure_bodies.ClosureRequestBody,
        security="staffKey",
        successes={200: Success(about="The quotas of the day, closed.", body=closure_bodies.ClosureBody)},
        problems=(*STAFF_PROBLEMS, *BODY_PROBLEMS, problems.NOT_FOUND, *UNAVAILABLE),
    ),
    Operation(
        id="describeApi",
        method="GET",
        path="/openapi.json",
        tag="about",
        summary="This document.",
        parameters=(IF_NONE_MATCH,),
        successes={
            200: Success(about="The OpenAPI 3.1 document.", headers=("ETag", "Cache-Control"), body=dict),
            304: NOT_MODIFIED,
        },
    ),
    Operation(
        id="describeProblem",
        method="GET",
        path=PROBLEM_PATH,
        tag="about",
        summary="The description of a problem type, as JSON, or as HTML for a browser.",
        parameters=(
            Parameter(
                name="type",
                place="path",
                schema={"type": "string", "enum": sorted(PROBLEM_TYPES)},
                about="The last part of a problem's `type`.",
                required=True,
            ),
        ),
        successes={200: Success(about="The description.", body=bodies.ProblemTypeBody, headers=("Content-Language",))},
        problems=(problems.NOT_FOUND,),
    ),
)

OPERATIONS: tuple[Operation, ...] = tuple(
    replace(each, problems=tuple(dict.fromkeys((*each.problems, problems.INVALID_REQUEST, problems.RATE_LIMITED))))
    if each.path.startswith(LIMITED_PATHS)
    else each
    for each in (*_DECLARED, *STAFF_OPERATIONS, *WAITING_OPERATIONS)
)
