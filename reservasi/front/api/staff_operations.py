"""Staff operations on reservations and the audit log; part of `operations.py`."""

from reservasi.front.api import bodies
from reservasi.front.api import problem_catalogue as problems
from reservasi.front.api.declarations import BODY_PROBLEMS, STAFF_PROBLEMS, UNAVAILABLE, Operation, Parameter, Success
from reservasi.front.api.waiting_bodies import NEW_OPENING_PATTERN

AUDIT_LIMIT_MAX = 500
_DATE = {"type": "string", "format": "date"}

STAFF_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        id="cancelByStaff",
        method="POST",
        path="/v1/staff/reservations/{id}/cancel",
        tag="staff",
        summary="End a reservation, also after the applicant's last moment for it; repeat the request after 202.",
        parameters=(
            Parameter(
                name="id",
                place="path",
                schema={"type": "string", "pattern": "^[a-z2-7]{26}$"},
                about="The reservation's id.",
                required=True,
            ),
        ),
        body=bodies.StaffCancelBody,
        body_required=False,
        security="staffKey",
        successes={
            200: Success(about="Ended and recorded.", body=bodies.EndedBody),
            202: Success(about="Ended, not recorded yet.", body=bodies.EndingBody, headers=("Retry-After",)),
        },
        problems=(
            *STAFF_PROBLEMS,
            *BODY_PROBLEMS,
            problems.CANCELLATION_TOO_LATE,
            problems.ALREADY_ENDED,
            problems.NOT_FOUND,
            *UNAVAILABLE,
        ),
    ),
    Operation(
        id="listAudit",
        method="GET",
        path="/v1/staff/audit",
        tag="staff",
        summary="Who changed quotas and openings of a program or ended reservations, when and why; newest first.",
        parameters=(
            Parameter(
                name="program",
                place="query",
                schema={"type": "string", "pattern": bodies.ID_PATTERN},
                about="The program.",
                required=True,
            ),
            Parameter(
                name="quota",
                place="query",
                schema={"type": "string", "pattern": bodies.QUOTA_PATTERN},
                about="Only this quota and its reservations.",
            ),
            Parameter(
                name="opening",
                place="query",
                schema={"type": "string", "pattern": NEW_OPENING_PATTERN},
                about="Only this opening.",
            ),
            Parameter(name="from", place="query", schema=_DATE, about="First date, in the program's zone."),
            Parameter(name="to", place="query", schema=_DATE, about="Last date, in the program's zone."),
            Parameter(
                name="before",
                place="query",
                schema={"type": "string", "pattern": "^[0-9]{1,15}-[0-9]{1,15}$"},
                about="`next` of the previous page.",
            ),
            Parameter(
                name="limit",
                place="query",
                schema={"type": "integer", "minimum": 1, "maximum": AUDIT_LIMIT_MAX, "default": 100},
                about="Maximum number of changes in a page.",
            ),
        ),
        security="staffKey",
        successes={200: Success(about="The changes.", body=bodies.AuditBody)},
        problems=(*STAFF_PROBLEMS, problems.INVALID_REQUEST, problems.NOT_FOUND, problems.RECOVERING),
    ),
)
