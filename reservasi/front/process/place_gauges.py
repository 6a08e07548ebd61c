"""How many places each program has, held, confirmed and free, as this process sees them: told when somebody scrapes.

Every front sees the same, so the one that answers tells for all, and nothing is added up.
"""

from collections.abc import Callable, Sequence

from reservasi.availability import Availability
from reservasi.catalogue import Catalogue
from reservasi.metrics import (
    PLACES_CAPACITY,
    PLACES_CONFIRMED,
    PLACES_HELD,
    PLACES_REMAINING,
    PLACES_RETURNING,
)
from reservasi.model import Quota


def places_teller(catalogue: Catalogue, availability: Availability) -> Callable[[], Callable[[], None]]:
    """What to call on the event loop, which returns what to call in a thread: adding up takes a while."""

    def look() -> Callable[[], None]:
        seen = [
            (program.id, availability.quotas(program.id))
            for program in catalogue.programs()
            if availability.has_view(program.id)
        ]
        return lambda: _tell(seen)

    return look


def _tell(seen: Sequence[tuple[str, Sequence[Quota]]]) -> None:
    for program, quotas in seen:
        capacity = sum(quota.terms.capacity for quota in quotas)
        held = sum(quota.counts.held for quota in quotas)
        confirmed = sum(quota.counts.confirmed for quota in quotas)
        returning = sum(quota.counts.returning for quota in quotas)
        PLACES_CAPACITY.labels(program).set(capacity)
        PLACES_HELD.labels(program).set(held)
        PLACES_CONFIRMED.labels(program).set(confirmed)
        PLACES_RETURNING.labels(program).set(returning)
        PLACES_REMAINING.labels(program).set(capacity - held - confirmed - returning)
