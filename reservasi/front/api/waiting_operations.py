"""Operations on openings and their waiting rooms; part of `operations.py`."""

from reservasi.front.api import bodies, waiting_bodies
from reservasi.front.api import problem_catalogue as problems
from reservasi.front.api import waiting_problems as waiting
from reservasi.front.api.declarations import (
    BODY_PROBLEMS,
    IF_MATCH,
    IF_NONE_MATCH,
    OFFICE,
    PROGRAM,
    RANGE_DAYS_MAX,
    STAFF_PROBLEMS,
    UNAVAILABLE,
    Operation,
    Parameter,
    Success,
    listed,
)
from reservasi.front.api.paths import OPENING_PATH, TICKETS_PATH

_OPENING = Parameter(
    name="id",
    place="path",
    schema={"type": "string", "pattern": bodies.OPENING_PATTERN},
    about="The opening's id.",
    required=True,
)
_THE_PROGRAM = Parameter(
    name="program",
    place="query",
    schema={"type": "string", "pattern": bodies.ID_PATTERN},
    about="The program.",
    required=True,
)
_DATE_SCHEMA = {"type": "string", "format": "date"}
_DATES = (
    Parameter(
        name="from",
        place="query",
        schema=_DATE_SCHEMA,
        about="First date, not after `to`; default: today in the program's time zone. An opening is in the range "
        "if its moment is, or if its waiting room runs then.",
    ),
    Parameter(
        name="to",
        place="query",
        schema=_DATE_SCHEMA,
        about=f"Last date; {RANGE_DAYS_MAX} days in total at most, which is also the default.",
    ),
)
_STAFF = (*STAFF_PROBLEMS, *BODY_PROBLEMS, problems.NOT_FOUND, *UNAVAILABLE)
_READ = (problems.NOT_FOUND, problems.RECOVERING)

WAITING_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        id="listOpenings",
        method="GET",
        path="/v1/openings",
        tag="public",
        summary="The moments at which quotas open, from today on or in the given dates, earliest first.",
        parameters=(PROGRAM, OFFICE, *_DATES, IF_NONE_MATCH),
        successes=listed("The openings, with their quotas in the office or in all offices.", bodies.OpeningsBody),
        problems=(problems.INVALID_REQUEST, problems.RECOVERING),
    ),
    Operation(
        id="listOpeningsAsCalendar",
        method="GET",
        path="/v1/openings.ics",
        tag="public",
        summary="The openings of a program, or of one of its offices, as a calendar to subscribe to.",
        parameters=(_THE_PROGRAM, OFFICE, *_DATES),
        successes={200: Success(about="The calendar.", media="text/calendar", headers=("ETag", "Cache-Control"))},
        problems=(problems.INVALID_REQUEST, *_READ),
    ),
    Operation(
        id="showOpening",
        method="GET",
        path=OPENING_PATH,
        tag="public",
        summary="An opening.",
        parameters=(_OPENING, IF_NONE_MATCH),
        successes=listed("The opening.", bodies.OpeningBody),
        problems=_READ,
    ),
    Operation(
        id="showQueue",
        method="GET",
        path="/v1/openings/{id}/queue",
        tag="public",
        summary="The state of an opening's waiting room, the same for everybody and cacheable for a second.",
        parameters=(_OPENING, IF_NONE_MATCH),
        successes=listed("The queue.", waiting_bodies.QueueBody),
        problems=_READ,
    ),
    Operation(
        id="streamQueue",
        method="GET",
        path="/v1/openings/{id}/queue/stream",
        tag="public",
        summary="Server-sent events named `queue`: first the state, then every change.",
        parameters=(_OPENING,),
        successes={
            200: Success(
                about="The stream; an event's data is a QueueBody.",
                media="text/event-stream",
                body=waiting_bodies.QueueBody,
            )
        },
        problems=(problems.TOO_MANY_STREAMS, *_READ),
    ),
    Operation(
        id="getChallenge",
        method="GET",
        path="/v1/openings/{id}/challenge",
        tag="public",
        summary="A proof of work to solve before joining, as ALTCHA's widget takes it.",
        parameters=(_OPENING,),
        successes={200: Success(about="The challenge.", body=dict, headers=("Cache-Control",))},
        problems=(
            problems.CLOSED,
            waiting.NO_WAITING_ROOM,
            waiting.JOINING_CLOSED,
            waiting.OPENING_CANCELLED,
            *_READ,
        ),
    ),
    Operation(
        id="join",
        method="POST",
        path=TICKETS_PATH,
        tag="public",
        summary="Join the waiting room of an opening; who joined before it opened keeps the place.",
        parameters=(_OPENING,),
        body=waiting_bodies.JoinBody,
        successes={201: Success(about="The ticket.", body=waiting_bodies.TicketBody, headers=("Cache-Control",))},
        problems=(
            *BODY_PROBLEMS,
            problems.NOT_FOUND,
            problems.CLOSED,
            problems.NOT_OPEN,
            problems.SOLD_OUT,
            waiting.NO_WAITING_ROOM,
            waiting.JOINING_CLOSED,
            waiting.OPENING_CANCELLED,
            waiting.PROOF_OF_WORK_REQUIRED,
            waiting.PROOF_OF_WORK_INVALID,
            *UNAVAILABLE,
        ),
    ),
    Operation(
        id="createOpening",
        method="POST",
        path="/v1/staff/openings",
        tag="staff",
        summary="Create an opening, and let the selected quotas open with it.",
        body=waiting_bodies.OpeningRequestBody,
        security="staffKey",
        successes={201: Success(about="The opening.", body=bodies.OpeningBody, headers=("Location",))},
        problems=(waiting.OPENING_EXISTS, waiting.OPENING_MOVES_QUOTA, *_STAFF),
    ),
    Operation(
        id="changeOpening",
        method="PATCH",
        path="/v1/staff/openings/{id}",
        tag="staff",
        summary="Move an opening with its quotas, move its end, or cancel it, in one step; tickets stay valid.",
        parameters=(_OPENING, IF_MATCH),
        body=waiting_bodies.OpeningChangeBody,
        security="staffKey",
        successes={
            200: Success(about="The opening after the change.", body=waiting_bodies.OpeningStateBody, headers=("ETag",))
        },
        problems=(
            waiting.OPENING_EXISTS,
            waiting.OPENING_FIXED,
            waiting.QUOTA_CLOSES_BEFORE,
            waiting.TOO_MANY_QUOTAS,
            problems.VERSION_MISMATCH,
            *_STAFF,
        ),
    ),
    Operation(
        id="setAdmission",
        method="PUT",
        path="/v1/staff/openings/{id}/admission",
        tag="staff",
        summary="Pause or resume admission, or set its rate.",
        parameters=(_OPENING,),
        body=waiting_bodies.AdmissionBody,
        security="staffKey",
        successes={200: Success(about="The admission after the change.", body=waiting_bodies.AdmissionStateBody)},
        problems=(waiting.NO_WAITING_ROOM, waiting.OPENING_FIXED, *_STAFF),
    ),
    Operation(
        id="setBeacon",
        method="PUT",
        path="/v1/staff/openings/{id}/beacon",
        tag="staff",
        summary="Enter an outside value that becomes part of the draw: once, before the opening.",
        parameters=(_OPENING,),
        body=waiting_bodies.BeaconBody,
        security="staffKey",
        successes={200: Success(about="The admission, with the value.", body=waiting_bodies.AdmissionStateBody)},
        problems=(waiting.NO_WAITING_ROOM, waiting.BEACON_FIXED, waiting.OPENING_FIXED, *_STAFF),
    ),
)
