"""Prebuilt requests: one person each, all distinct, the same bytes for every variant."""

import json
from collections.abc import Sequence

from loadtest.stage.http import request
from loadtest.stage.people import person

HEADERS = {"Accept": "application/json", "Accept-Language": "id"}


def requests(first: int, count: int, quotas: Sequence[str]) -> list[bytes]:
    """The claims of the people from number `first` on, spread over the quotas."""
    return [_claim(number, quotas[number % len(quotas)]) for number in range(first, first + count)]


def _claim(number: int, quota: str) -> bytes:
    body = {
        "quota": quota,
        "applicants": [{**person(number).applicant(), "name": f"Siti Rahmawati {number:08d}"}],
        "contact": {"email": f"siti.{number:08d}@example.org", "phone": "+628123456789"},
    }
    return _post("/v1/reservations", body, {"Idempotency-Key": f"bench-{number:012d}"})


def join_request(opening: str, number: int) -> bytes:
    """The person of that number joins an opening's waiting room."""
    somebody = person(number)
    body = {"nik": somebody.nik, "birth_date": somebody.birth_date.isoformat()}
    return _post(f"/v1/openings/{opening}/tickets", body, {})


def get(path: str) -> bytes:
    return request("GET", path, HEADERS)


def _post(path: str, content: object, headers: dict[str, str]) -> bytes:
    body = json.dumps(content, separators=(",", ":")).encode()
    return request("POST", path, {**HEADERS, "Content-Type": "application/json", **headers}, body)
