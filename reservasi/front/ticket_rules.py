"""Which quotas are claimed with a ticket, and of which opening: what availability says beside each."""

from typing import NamedTuple, TypeAlias

from reservasi.availability import Availability
from reservasi.model import Opening, Quota
from reservasi.waiting_room.room import NEVER_MS, last_end_ms, needs_ticket


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


_Kept: TypeAlias = tuple[Opening, TicketRule, int]  # with the moment at which another rule holds


class TicketRules:
    """The rules as memory and live pages ask for them; without a view, no quota has an opening."""

    def __init__(self, availability: Availability | None = None) -> None:
        self._availability = availability
        self._kept: dict[str, _Kept] = {}  # by opening, as many as there are

    def of(self, quota: Quota, now_ms: int) -> TicketRule:
        """What a quota says of its opening at a moment; the same object while nothing else is to be said."""
        opening = None if self._availability is None else self._availability.opening_of(quota)
        if opening is None:
            return NO_OPENING
        kept = self._kept.get(opening.id)
        if kept is not None and kept[0] is opening and now_ms < kept[2]:
            return kept[1]
        return self._keep(opening, now_ms)

    def _keep(self, opening: Opening, now_ms: int) -> TicketRule:
        rule, known = rule_of(opening, now_ms), self._kept.get(opening.id)
        if known is not None and known[1] == rule:
            rule = known[1]
        self._kept[opening.id] = (opening, rule, last_end_ms(opening) if rule.required else NEVER_MS)
        return rule

    def turn_ms(self, now_ms: int) -> int:
        """The next moment at which a waiting room ends by the clock, after which no ticket is needed."""
        openings = () if self._availability is None else self._availability.all_openings()
        ends = (last_end_ms(opening) for opening in openings if opening.terms.waiting_room)
        return min((at_ms for at_ms in ends if at_ms > now_ms), default=NEVER_MS)
