"""Prebuilt requests: one person each, all distinct, the same bytes for every variant."""

import json
from collections.abc import Sequence
from typing import Any

from loadtest.stage.http import request
from loadtest.stage.people import Person, person

HEADERS = {"Accept": "application/json", "Accept-Language": "id"}


def requests(first: int, count: int, quotas: Sequence[str]) -> list[bytes]:
    """The claims of the people from number `first` on, spread over the quotas."""
    return [claim(quotas[number % len(quotas)], person(number)) for number in range(first, first + count)]


def claim(quota: str, who: Person, **further: Any) -> bytes:
    body = {
        "quota": quota,
        "applicants": [{**who.applicant(), "name": f"Siti Rahmawati {who.number:08d}"}],
        "contact": {"email": f"siti.{who.number:08d}@example.org", "phone": "+628123456789"},
        **further,
    }
    return send("/v1/reservations", body, key=f"bench-{who.number:012d}")


def join(opening: str, who: Person) -> bytes:
    body = {"nik": who.nik, "birth_date": who.birth_date.isoformat()}
    return send(f"/v1/openings/{opening}/tickets", body)


def get(
    path: str, bearer: str = "", *, accept: str = "application/json", encoding: str = "gzip", method: str = "GET"
) -> bytes:
    headers = {**HEADERS, "Accept": accept, "Accept-Encoding": encoding, **_authorization(bearer)}
    return request(method, path, headers)


def send(path: str, content: object, bearer: str = "", *, key: str = "", method: str = "POST") -> bytes:
    """A request with JSON; `key` is its Idempotency-Key."""
    headers = {**HEADERS, "Content-Type": "application/json", **_authorization(bearer)}
    headers |= {"Idempotency-Key": key} if key else {}
    return request(method, path, headers, json.dumps(content, separators=(",", ":")).encode())


def _authorization(bearer: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {bearer}"} if bearer else {}
