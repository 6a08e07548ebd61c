"""Which quotas need a ticket, and of which opening, as shown beside each quota."""

from typing import NamedTuple

from reservasi.availability import Availability
from reservasi.model import Opening, Quota
from reservasi.waiting_room.room import needs_ticket
from reservasi.waiting_room.state import NEVER_MS, last_end_ms


class TicketRule(NamedTuple):
    """The opening of a quota, and whether it needs a ticket."""

    opening: str | None
    required: bool  # a ticket of its waiting room, now or after it opens


NO_OPENING = TicketRule(None, required=False)


def ticket_rule(availability: Availability, quota: Quota, now_ms: int) -> TicketRule:
    """The rule of a quota at a moment."""
    opening = availability.opening_of(quota)
    return NO_OPENING if opening is None else rule_of(opening, now_ms)


def rule_of(opening: Opening, now_ms: int) -> TicketRule:
    """The rule of an opening's quotas at a moment."""
    return TicketRule(opening.id, needs_ticket(opening, now_ms))


class TicketRules:
    """The rules for cached answers and live pages; without a view, no quota has an opening.

    `stamp` is unchanged while no rule changes, so that a rule need not be looked up again.
    """

    def __init__(self, availability: Availability | None = None) -> None:
        self._availability = availability
        self._version = -1  # of the view, as far as tickets are concerned
        self._from_ms = 0
        self.turn_ms = NEVER_MS  # when the next waiting room ends by the clock, after which no ticket is needed
        self.stamp = 0

    def of(self, quota: Quota, now_ms: int) -> TicketRule:
        """The rule of a quota at a moment."""
        return NO_OPENING if self._availability is None else ticket_rule(self._availability, quota, now_ms)

    def refresh(self, now_ms: int) -> None:
        """Update `stamp` and `turn_ms` for a moment."""
        if self._availability is None:
            return
        version = self._availability.tickets_version
        if version == self._version and self._from_ms <= now_ms < self.turn_ms:
            return
        ends = (last_end_ms(each) for each in self._availability.all_openings() if each.terms.waiting_room)
        self._version, self._from_ms = version, now_ms
        self.turn_ms = min((at_ms for at_ms in ends if at_ms > now_ms), default=NEVER_MS)
        self.stamp += 1
