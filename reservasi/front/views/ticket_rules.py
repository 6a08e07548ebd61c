"""Which quotas are claimed with a ticket, and of which opening: what availability says beside each."""

from typing import NamedTuple

from reservasi.availability import Availability
from reservasi.model import Opening, Quota
from reservasi.waiting_room.room import needs_ticket
from reservasi.waiting_room.state import NEVER_MS, last_end_ms


class TicketRule(NamedTuple):
    """What a quota says of its opening."""

    opening: str | None
    required: bool  # a ticket of its waiting room, now or once it opens


NO_OPENING = TicketRule(None, required=False)


def ticket_rule(availability: Availability, quota: Quota, now_ms: int) -> TicketRule:
    """What a quota says of its opening at a moment."""
    opening = availability.opening_of(quota)
    return NO_OPENING if opening is None else rule_of(opening, now_ms)


def rule_of(opening: Opening, now_ms: int) -> TicketRule:
    """What the quotas of an opening say at a moment."""
    return TicketRule(opening.id, needs_ticket(opening, now_ms))


class TicketRules:
    """The rules as memory and live pages ask for them; without a view, no quota has an opening.

    `stamp` stays while no rule changes, so that whoever has looked one up need not do so again.
    """

    def __init__(self, availability: Availability | None = None) -> None:
        self._availability = availability
        self._version = -1  # of the view, as far as it concerns tickets
        self._from_ms = 0
        self.turn_ms = NEVER_MS  # when the next waiting room ends by the clock, after which no ticket is needed
        self.stamp = 0

    def of(self, quota: Quota, now_ms: int) -> TicketRule:
        """What a quota says of its opening at a moment."""
        return NO_OPENING if self._availability is None else ticket_rule(self._availability, quota, now_ms)

    def refresh(self, now_ms: int) -> None:
        """Give `stamp` and `turn_ms` the values of a moment."""
        if self._availability is None:
            return
        version = self._availability.tickets_version
        if version == self._version and self._from_ms <= now_ms < self.turn_ms:
            return
        ends = (last_end_ms(each) for each in self._availability.all_openings() if each.terms.waiting_room)
        self._version, self._from_ms = version, now_ms
        self.turn_ms = min((at_ms for at_ms in ends if at_ms > now_ms), default=NEVER_MS)
        self.stamp += 1
