"""Prebuilt requests: one person each, all distinct, the same bytes for every variant."""

import json
from collections.abc import Sequence

from loadtest.stage.people import person

HEADERS = "Host: 127.0.0.1\r\nAccept: application/json\r\nAccept-Language: id\r\n"


def requests(first: int, count: int, quotas: Sequence[str]) -> list[bytes]:
    """The claims of the people from number `first` on, spread over the quotas."""
    return [_claim(number, quotas[number % len(quotas)]) for number in range(first, first + count)]


def _claim(number: int, quota: str) -> bytes:
    somebody = person(number)
    body = {
        "quota": quota,
        "applicants": [{**somebody.applicant(), "name": f"Siti Rahmawati {number:08d}"}],
        "contact": {"email": f"siti.{number:08d}@example.org", "phone": "+628123456789"},
    }
    return _post("/v1/reservations", body, f"Idempotency-Key: bench-{number:012d}\r\n")


def join_request(opening: str, number: int) -> bytes:
    """The person of that number joins an opening's waiting room."""
    somebody = person(number)
    body = {"nik": somebody.nik, "birth_date": somebody.birth_date.isoformat()}
    return _post(f"/v1/openings/{opening}/tickets", body)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\n{HEADERS}\r\n".encode()


def _post(path: str, content: object, line: str = "") -> bytes:
    body = json.dumps(content, separators=(",", ":"))
    lines = f"{HEADERS}Content-Type: application/json\r\n{line}Content-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n{body}".encode()
