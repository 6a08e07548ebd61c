"""Values that schemathesis cannot generate: a valid NIK, an existing quota, opening and reservation, and their
secrets.
"""

import itertools
import os
from datetime import date
from typing import Any

import schemathesis
from hypothesis import strategies as st

QUOTA = os.environ["RESERVASI_TEST_QUOTA"]
OPENING = os.environ["RESERVASI_TEST_OPENING"]
RESERVATION = os.environ["RESERVASI_TEST_RESERVATION"]
MANAGE_TOKEN = os.environ["RESERVASI_TEST_MANAGE_TOKEN"]
API_KEY = os.environ["RESERVASI_TEST_API_KEY"]

NIKS = st.builds(
    "357801{:02}{:02}{:02}{:04}".format,
    st.integers(1, 28),
    st.integers(1, 12),
    st.integers(0, 99),
    st.integers(0, 9999),
)
NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz'.", max_size=90).map("A{}".format)
BIRTH_DATES = st.dates(date(1900, 1, 1), date(2020, 12, 31)).map(str)

schemathesis.openapi.format("nik", NIKS)
schemathesis.openapi.format("person-name", NAMES)
schemathesis.openapi.format("birth-date", BIRTH_DATES)

counter = itertools.count()
manage_tokens = {RESERVATION: MANAGE_TOKEN}  # grows with every claim that is held


@schemathesis.auth(refresh_interval=None)  # every reservation has a secret of its own
class Secrets:
    """Each operation's own secret."""

    def get(self, case: Any, context: Any) -> str:
        if case.path.startswith("/v1/staff/"):
            return API_KEY
        return manage_tokens.get(str((case.path_parameters or {}).get("id")), MANAGE_TOKEN)

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Remember the secrets of the reservations that were made."""
    if case.method == "POST" and case.path == "/v1/reservations" and response.status_code == 201:
        held = response.json()
        manage_tokens[held["id"]] = held["manage_token"]


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Half of the calls meet something that exists."""
    if path_parameters and "id" in path_parameters and next(counter) % 2:
        ids = {"/quotas/": QUOTA, "/openings/": OPENING}
        matches = (name for part, name in ids.items() if part in context.operation.path)
        return {**path_parameters, "id": next(matches, RESERVATION)}
    return path_parameters


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Half of the claims are for a quota that exists."""
    if isinstance(body, dict) and isinstance(body.get("quota"), str) and next(counter) % 2:
        return {**body, "quota": QUOTA}
    return body


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """The document gives a stream the schema of its events' data, as generators want it; schemathesis that of an event."""
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            content = operation["responses"].get("200", {}).get("content", {}).get("text/event-stream")
            if content is not None:
                data = {"type": "string", "contentMediaType": "application/json", "contentSchema": content["schema"]}
                content["schema"] = {"type": "object", "properties": {"data": data}, "required": ["data"]}
