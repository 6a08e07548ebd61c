"""Gauges of the places of each program: capacity, held, confirmed, returning and free.

Every front has the same view, so that the front that is scraped sets them for all, without adding them up.
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


def place_gauges(catalogue: Catalogue, availability: Availability) -> Callable[[], Callable[[], None]]:
    """A function for the event loop, which returns a function for a thread: adding up takes a while."""

    def read() -> Callable[[], None]:
        views = [
            (program.id, availability.quotas(program.id))
            for program in catalogue.programs()
            if availability.has_view(program.id)
        ]
        return lambda: _set_gauges(views)

    return read


def _set_gauges(views: Sequence[tuple[str, Sequence[Quota]]]) -> None:
    for program, quotas in views:
        capacity = sum(quota.terms.capacity for quota in quotas)
        held = sum(quota.counts.held for quota in quotas)
        confirmed = sum(quota.counts.confirmed for quota in quotas)
        returning = sum(quota.counts.returning for quota in quotas)
        PLACES_CAPACITY.labels(program).set(capacity)
        PLACES_HELD.labels(program).set(held)
        PLACES_CONFIRMED.labels(program).set(confirmed)
        PLACES_RETURNING.labels(program).set(returning)
        PLACES_REMAINING.labels(program).set(capacity - held - confirmed - returning)
