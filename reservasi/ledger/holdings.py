"""Reservations and persons as a ledger stores them, read page by page past the functions."""

from collections.abc import AsyncIterator, Collection, Mapping

import msgpack

from reservasi.contents import KeptReservation
from reservasi.ledger import keys
from reservasi.ledger.connection import text
from reservasi.ledger.journal import Journal
from reservasi.ledger.wire import STATES


class Holdings:
    """What the hashes hold; each page is of another moment."""

    def __init__(self, reservations: dict[str, KeptReservation], persons: dict[str, str]) -> None:
        self.reservations = reservations
        self.persons = persons

    @classmethod
    async def read(cls, journal: Journal) -> "Holdings":
        """Read them.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        names = {int(number): text(quota) async for number, quota in journal.pages(keys.names)}
        persons = {text(person): text(id_) async for person, id_ in journal.pages(keys.persons)}
        reservations = {text(id_): _decode(packed, names) async for id_, packed in journal.pages(keys.reservations)}
        return cls(reservations, persons)


def _decode(packed: bytes, names: Mapping[int, str]) -> KeptReservation:
    """A packed reservation, in the order of R in `lua/shared.lua`."""
    state, number, fingerprint, deadline_ms, held_seq, later, reference, *persons = msgpack.unpackb(packed)
    return KeptReservation(
        quota=names.get(number, str(number)),
        state=STATES[state],
        fingerprint=fingerprint,
        deadline_ms=int(deadline_ms),
        held_seq=int(held_seq),
        seq=int(held_seq + later),
        reference=reference,
        persons=tuple(persons),
    )


async def live_in(journal: Journal, quotas: Collection[str]) -> AsyncIterator[tuple[str, KeptReservation]]:
    """The reservations of these quotas that are held or confirmed; each page is of another moment.

    Raises:
        LedgerUnreachable: the server does not answer.
    """
    names = {int(number): text(quota) async for number, quota in journal.pages(keys.names)}
    seen: set[str] = set()
    async for id_, packed in journal.pages(keys.reservations):
        kept = _decode(packed, names)
        if kept.quota in quotas and kept.state.live and text(id_) not in seen:
            seen.add(text(id_))  # a hash that is rehashed meanwhile may name one twice
            yield text(id_), kept
