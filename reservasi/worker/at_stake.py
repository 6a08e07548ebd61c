"""What a fenced ledger has and the records do not: what discarding the ledger would destroy."""

import msgspec

from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.stored_reservations import Holdings
from reservasi.model import State
from reservasi.records import Records

MAY_BE_BOOKINGS = ("reservations ", "names ")  # keys whose damaged values may be bookings


class AtStake(msgspec.Struct, frozen=True, kw_only=True):
    """Reservations that are live in the ledger and not in the records, and the reverse."""

    confirmed: int = 0
    places: int = 0  # of the confirmed ones
    held: int = 0
    ended: int = 0  # live in the records, ended in the ledger
    unreadable: int = 0  # values that may be bookings; a key that is damaged as a whole counts as one

    def __str__(self) -> str:
        booked = f"{self.confirmed:,} confirmed bookings ({self.places:,} places)"
        words = f"{booked} and {self.held:,} holds are only in the ledger"
        if self.ended:
            words += f", where {self.ended:,} recorded reservations have ended"
        if self.unreadable:
            words += f"; {self.unreadable:,} damaged values may be more bookings"
        return words


async def count_at_stake(program: str, journal: Journal, records: Records) -> AtStake:
    """Compare the reservations of a fenced ledger with those of the records.

    Raises:
        LedgerUnreachable, RecordsUnavailable: one of them does not answer.
    """
    holdings = await Holdings.read(journal)
    reservations = holdings.reservations
    live = {id_: kept for id_, kept in reservations.items() if kept.state.live}
    ended = 0
    async with records.standing(program) as standing:
        async for page in standing.live():
            for id_, kept in page:
                row = live.get(id_)
                if row is None or row.held_seq != kept.held_seq:
                    ended += id_ in reservations and row is None
                elif row.state is kept.state:
                    del live[id_]
    confirmed = [kept for kept in live.values() if kept.state is State.CONFIRMED]
    unreadable = sum(each.startswith(MAY_BE_BOOKINGS) for each in holdings.unreadable)
    places = sum(kept.places for kept in confirmed)
    return AtStake(
        confirmed=len(confirmed), places=places, held=len(live) - len(confirmed), ended=ended, unreadable=unreadable
    )
