"""Prebuilt claim requests: one person each, all distinct, spread over the quotas, the same bytes for every variant."""

import json
from collections.abc import Sequence

REGION = "357801"  # a district of Surabaya
SERIALS = 9999
DAYS = 28
MONTHS = 12
YEARS = 60  # 1940 to 1999
PEOPLE_MAX = SERIALS * DAYS * MONTHS * YEARS


def person(number: int) -> tuple[str, str]:
    """The valid NIK and the birth date of the so-and-so-many-th person; distinct up to `PEOPLE_MAX`."""
    rest, serial = divmod(number, SERIALS)
    rest, day = divmod(rest, DAYS)
    rest, month = divmod(rest, MONTHS)
    year = 40 + rest
    if not 0 <= number < PEOPLE_MAX:
        raise ValueError(f"there are {PEOPLE_MAX} people, and number {number} is none of them")
    nik = f"{REGION}{day + 1:02d}{month + 1:02d}{year:02d}{serial + 1:04d}"
    return nik, f"19{year:02d}-{month + 1:02d}-{day + 1:02d}"


def requests(first: int, count: int, quotas: Sequence[str]) -> list[bytes]:
    """Whole HTTP requests for the people from number `first` on."""
    return [_request(number, quotas[number % len(quotas)]) for number in range(first, first + count)]


def _request(number: int, quota: str) -> bytes:
    nik, birth_date = person(number)
    body = json.dumps(
        {
            "quota": quota,
            "applicants": [{"nik": nik, "name": f"Siti Rahmawati {number:08d}", "birth_date": birth_date}],
            "contact": {"email": f"siti.{number:08d}@example.org", "phone": "+628123456789"},
        },
        separators=(",", ":"),
    )
    return (
        "POST /v1/reservations HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        "Content-Type: application/json\r\n"
        "Accept: application/json\r\n"
        "Accept-Language: id\r\n"
        f"Idempotency-Key: bench-{number:012d}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
