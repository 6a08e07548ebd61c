"""The reservations in some quotas, without names or NIKs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations


class Booked(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A reservation that is held or confirmed."""

    quota: str
    reservation: str
    places: int
    status: str  # held or confirmed


async def booked_in(operations: Operations, program: str, quotas: Collection[str]) -> list[Booked]:
    """The live reservations of these quotas, ordered by quota."""
    if not quotas:
        return []
    from reservasi.ledger.stored_reservations import live_in

    journal = operations.ledgers.journal(program)
    rows = [
        Booked(quota=kept.quota, reservation=id_, places=kept.places, status=kept.state.value)
        async for id_, kept in live_in(journal, quotas)
    ]
    return sorted(rows)
