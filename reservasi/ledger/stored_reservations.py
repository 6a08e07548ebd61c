"""Reads reservations and persons as stored in the ledger, page by page, without the functions."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from functools import partial
from typing import Any

from reservasi.contents import KeptReservation
from reservasi.errors import DamagedKey
from reservasi.ledger import keys
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.topology.clients import text
from reservasi.ledger.wire.messages import STATES
from reservasi.ledger.wire.stored_forms import Unreadable, are_counts, are_texts, read_each, readable, unpack_list
from reservasi.model import SEQ_MAX

RESERVATION = "reservations "  # prefix of a damaged reservation's name


class Holdings:
    """The content of the hashes; each page is of another moment. Damaged values are listed in `unreadable`."""

    def __init__(
        self, reservations: dict[str, KeptReservation], persons: dict[str, str], unreadable: tuple[str, ...] = ()
    ) -> None:
        self.reservations = reservations
        self.persons = persons
        self.unreadable = unreadable  # "<key> <field>" of each damaged value

    @property
    def damaged_reservations(self) -> frozenset[str]:
        """Ids of reservations that cannot be read."""
        subjects = (each for each in self.unreadable if each.startswith(RESERVATION))
        return frozenset(each.removeprefix(RESERVATION) for each in subjects) - {"*"}

    @classmethod
    async def read(cls, journal: Journal) -> "Holdings":
        """Read the hashes.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        unreadable: list[str] = []
        names = {
            int(number): quota for number, quota in (await _read_all(journal, keys.names, _name, unreadable)).items()
        }
        persons = await _read_all(journal, keys.persons, lambda _, id_: text(id_), unreadable)
        reservations = await _read_all(journal, keys.reservations, partial(_decode, names), unreadable)
        try:
            await journal.end()
        except DamagedKey:
            unreadable.append("journal *")
        return cls(reservations, persons, tuple(unreadable))


async def _read_all(
    journal: Journal, key_of: Callable[[str], str], decode: Callable[[str, Any], Any], unreadable: list[str]
) -> dict[str, Any]:
    key = key_of("").removeprefix("{}:")
    values: dict[str, Any] = {}
    try:
        async for pair in journal.pages(key_of):
            values |= read_each([pair], decode, key=key, unreadable=unreadable)
    except DamagedKey:
        unreadable.append(f"{key} *")
    return values


def _name(number: str, quota: bytes) -> str:
    int(number)
    return text(quota)


def _decode(names: Mapping[int, str], _id: str, packed: bytes) -> KeptReservation:
    """Decode a packed reservation, in the order of R in `lua/shared.lua`.

    Raises:
        Unreadable: it is damaged.
    """
    state, number, fingerprint, deadline_ms, held_seq, later, reference, *persons = unpack_list(packed)
    if state not in STATES or not persons or not are_texts([fingerprint, reference, *persons]):
        raise Unreadable("not a reservation")
    if not are_counts([number, deadline_ms, held_seq, later], SEQ_MAX):
        raise Unreadable("not a reservation")
    return KeptReservation(
        quota=names.get(number, str(number)),
        state=STATES[state],
        fingerprint=fingerprint,
        deadline_ms=deadline_ms,
        held_seq=held_seq,
        seq=held_seq + later,
        reference=reference,
        persons=tuple(persons),
    )


async def live_in(journal: Journal, quotas: Collection[str]) -> AsyncIterator[tuple[str, KeptReservation]]:
    """The held and confirmed reservations of these quotas; each page is of another moment.

    Damaged ones are left out: `reconcile` reports them.

    Raises:
        LedgerUnreachable: the server does not answer.
        DamagedKey: the key has another type.
    """
    names = {int(number): readable(quota) async for number, quota in journal.pages(keys.names) if number.isdigit()}
    seen: set[str] = set()
    async for pair in journal.pages(keys.reservations):
        for id_, kept in read_each([pair], partial(_decode, names), key="reservations", unreadable=[]).items():
            if kept.quota in quotas and kept.state.live and id_ not in seen:
                seen.add(id_)  # a hash that is resized during the scan may return a field twice
                yield id_, kept
