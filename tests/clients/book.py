"""What an integrator's program does with the generated client: book a place, and read refusals by their types.

Run as `python book.py URL QUOTA FULL_QUOTA NIK OTHER_NIK` with the generated package on the path; prints one JSON object.
"""

import datetime as dt
import json
import sys

from reservasi_client import AuthenticatedClient, Client
from reservasi_client.api.public import list_availability
from reservasi_client.api.reservations import claim, confirm, show_reservation
from reservasi_client.models import (
    ApplicantBody,
    ClaimBody,
    ClaimedBody,
    ConfirmBody,
    ConfirmedBody,
    DuplicateApplicantProblem,
    ReservationBody,
    SoldOutProblem,
)


def claimed(client: Client, quota: str, nik: str, key: str) -> object:
    applicant = ApplicantBody(nik=nik, name="Siti Aminah", birth_date=dt.date(1990, 7, 1).isoformat())
    return claim.sync(client=client, body=ClaimBody(quota=quota, applicants=[applicant]), idempotency_key=key)


def main() -> None:
    url, quota, full, nik, other = sys.argv[1:]
    client = Client(base_url=url, headers={"Accept-Language": "en"})
    listed = list_availability.sync(client=client, from_=quota_date(quota), to=quota_date(quota))
    assert quota in [each.id for each in listed.quotas]

    held = claimed(client, quota, nik, "first")
    assert isinstance(held, ClaimedBody), held
    owner = AuthenticatedClient(base_url=url, token=held.manage_token)
    confirmed = confirm.sync(held.id, client=owner, body=ConfirmBody())
    assert isinstance(confirmed, ConfirmedBody), confirmed
    shown = show_reservation.sync(held.id, client=owner)
    assert isinstance(shown, ReservationBody), shown

    twice = claimed(client, quota, nik, "second")
    assert isinstance(twice, DuplicateApplicantProblem), twice
    sold_out = claimed(client, full, other, "third")
    assert isinstance(sold_out, SoldOutProblem), sold_out
    print(
        json.dumps(
            {
                "status": shown.status,
                "booking_code": confirmed.booking_code,
                "duplicate": [twice.status, twice.next_],
                "alternatives": [each.id for each in sold_out.alternatives],
            }
        )
    )


def quota_date(quota: str) -> dt.date:
    return dt.date.fromisoformat(quota.split(".")[3])


main()
