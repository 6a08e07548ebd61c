"""An opening's window is never longer than its quotas can be booked."""

import pytest

from reservasi.model import Quota, QuotaCounts
from reservasi.waiting_room.creation import until_last_closing
from tests.ledgers import opening_terms, terms

OPENS_MS, ENDS_MS = 1000, 9000


def quota(closes_at_ms: int) -> Quota:
    counts = QuotaCounts(held=0, confirmed=0, returning=0, version=1)
    return Quota(id=f"p.o.s.{closes_at_ms}", terms=terms(closes_at_ms=closes_at_ms), counts=counts)


@pytest.mark.parametrize(
    ("closings", "ends_at_ms"),
    [
        ([5000, 7000, 3000], 7000),
        ([5000, 10_000], ENDS_MS),
        ([5000, 0], ENDS_MS),  # one never closes
        ([], ENDS_MS),
        ([500], ENDS_MS),  # closed before it opens: no window is left to shorten
    ],
)
def test_an_opening_ends_with_the_last_closing_of_its_quotas(closings: list[int], ends_at_ms: int) -> None:
    of_opening = opening_terms(opens_at_ms=OPENS_MS, ends_at_ms=ENDS_MS)
    shortened = until_last_closing(of_opening, map(quota, closings))
    assert shortened.ends_at_ms == ends_at_ms
    assert shortened.commitment == of_opening.commitment
