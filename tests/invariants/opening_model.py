"""Openings once more, as plainly as Python can say it: what the Lua functions are compared with.

People are kept in sets, which for a few is what the ledger's estimate says as well. Time stands still but for `begin`;
rates are so low that the mark never moves, since how it does is a matter of the clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from reservasi.model import Admit, Join, Opening, OpeningTerms, Outcome, SetOpening
from tests.invariants.ledger_model import PAST_MS

ALL_OFFICES = ("kanim", "mpp", "ulp")


class SaidOfOpening(NamedTuple):
    """What of an answer does not depend on the clock."""

    outcome: Outcome
    version: int = 0
    number: int = -1
    joined: int = 0
    arrived: int = 0
    rate_per_min: int = 0


@dataclass
class Known:
    """An opening, and who joined."""

    opening: Opening
    people: set[str] = field(default_factory=set)
    leader: str = ""
    begun: bool = False

    @property
    def terms(self) -> OpeningTerms:
        return self.opening.terms

    def draw(self) -> int:
        """Settle who joined before, if it has begun; how many events that makes."""
        if not self.begun or self.opening.drawn:
            return 0
        count = len(self.people)
        self.opening = replace(self.opening, drawn=True, joined=count, arrived=count)
        return 1


class OpeningModel:
    """The openings of one program."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.seq = 0

    def begin(self, opening_id: str) -> bool:
        """Let the moment of an opening come; whether there was anything to begin."""
        found = self.known.get(opening_id)
        if found is None or found.begun:
            return False
        found.begun = True
        return True

    def moved(self, opening_id: str, opens_at_ms: int) -> None:
        """The moment that the clock of the test gave it."""
        found = self.known[opening_id]
        found.opening = replace(found.opening, terms=replace(found.terms, opens_at_ms=opens_at_ms))

    def run(self, commands: Sequence[SetOpening | Join | Admit]) -> list[SaidOfOpening]:
        """Carry out commands of one kind that arrive together."""
        joins: dict[str, set[str]] = {}
        for command in commands:
            if isinstance(command, Join):
                joins.setdefault(command.opening, set()).add(command.ticket_id)
        together = {opening_id: self._join(opening_id, tickets) for opening_id, tickets in joins.items()}
        said = []
        for command in commands:
            match command:
                case Join():
                    said.append(together[command.opening])
                case Admit():
                    said.append(self._admit(command))
                case SetOpening():
                    said.append(self._set(command))
        return said

    def _join(self, opening_id: str, tickets: set[str]) -> SaidOfOpening:
        found = self.known.get(opening_id)
        if found is None:
            return SaidOfOpening(Outcome.UNKNOWN_OPENING)
        if not found.terms.waiting_room:
            return SaidOfOpening(Outcome.NO_WAITING_ROOM)
        if found.terms.joins_from_ms > PAST_MS and not found.opening.drawn:
            return SaidOfOpening(Outcome.NOT_OPEN)
        if found.terms.ends_at_ms < PAST_MS:
            return SaidOfOpening(Outcome.CLOSED)
        self.seq += found.draw()
        found.people |= tickets
        late = found.opening.drawn or found.begun
        number = max(found.opening.arrived, len(found.people)) if late else -1
        return self._mark(Outcome.JOINED, found, number)

    def _admit(self, command: Admit) -> SaidOfOpening:
        found = self.known.get(command.opening)
        if found is None:
            return SaidOfOpening(Outcome.UNKNOWN_OPENING)
        if not found.terms.waiting_room:
            return SaidOfOpening(Outcome.NO_WAITING_ROOM)
        if found.terms.ends_at_ms < PAST_MS:
            return SaidOfOpening(Outcome.CLOSED)
        if found.leader not in ("", command.controller):
            return SaidOfOpening(Outcome.NOT_LEADING)
        found.leader = command.controller
        self.seq += found.draw()
        before = found.opening
        arrived = max(before.arrived, len(found.people))
        rate = before.rate_per_min
        if command.rate_per_min and found.terms.adaptive and not before.rate_fixed:
            rate = min(command.rate_per_min, found.terms.rate_max_per_min)
        joined = before.joined if before.drawn else arrived
        found.opening = replace(before, arrived=arrived, joined=joined, rate_per_min=rate)
        self.seq += found.opening != before
        return self._mark(Outcome.ADVANCED, found, -1)

    def _mark(self, outcome: Outcome, found: Known, number: int) -> SaidOfOpening:
        return SaidOfOpening(
            outcome,
            number=number,
            joined=found.opening.joined,
            arrived=found.opening.arrived,
            rate_per_min=found.opening.rate_per_min,
        )

    def _set(self, command: SetOpening) -> SaidOfOpening:
        found = self.known.get(command.opening)
        if found is None:
            return self._create(command)
        before = found.opening
        wanted = _changed(before, command)
        if wanted == before:
            return SaidOfOpening(Outcome.EXISTS, before.version)
        moves = _where(wanted.terms) != _where(before.terms)
        if (command.terms and command.version == 0) or (moves and self._taken(command.opening, wanted.terms)):
            return SaidOfOpening(Outcome.EXISTS_WITH_DIFFERENT_CONTENT, before.version)
        if command.version not in (0, before.version):
            return SaidOfOpening(Outcome.VERSION_MISMATCH, before.version)
        opened = found.begun or before.drawn
        if wanted.beacon != before.beacon and (opened or before.beacon):
            return SaidOfOpening(Outcome.TOO_LATE, before.version)
        fixed = ("opens_at_ms", "offices", "joins_from_ms", "waiting_room")
        if opened and any(getattr(wanted.terms, name) != getattr(before.terms, name) for name in fixed):
            return SaidOfOpening(Outcome.TOO_LATE, before.version)
        found.opening = replace(wanted, version=before.version + 1)
        self.seq += 1
        return SaidOfOpening(Outcome.OPENING_SET, before.version + 1)

    def _create(self, command: SetOpening) -> SaidOfOpening:
        if command.terms is None or command.version != 0:
            return SaidOfOpening(Outcome.UNKNOWN_OPENING)
        if self._taken(command.opening, command.terms):
            return SaidOfOpening(Outcome.EXISTS_WITH_DIFFERENT_CONTENT)
        rate = command.rate_per_min or command.terms.rate_per_min
        created = Opening(
            id=command.opening,
            terms=command.terms,
            paused=bool(command.paused),
            beacon=command.beacon or "",
            rate_per_min=rate,
            rate_fixed=bool(command.rate_per_min),
        )
        self.known[command.opening] = Known(created)
        self.seq += 1
        return SaidOfOpening(Outcome.OPENING_SET, 1)

    def _taken(self, opening_id: str, terms: OpeningTerms) -> bool:
        others = (known.terms for id_, known in self.known.items() if id_ != opening_id)
        return any(other.opens_at_ms == terms.opens_at_ms and (_offices(other) & _offices(terms)) for other in others)


def _where(terms: OpeningTerms) -> tuple[int, tuple[str, ...]]:
    return terms.opens_at_ms, terms.offices


def _offices(terms: OpeningTerms) -> set[str]:
    return set(terms.offices or ALL_OFFICES)


def _changed(before: Opening, command: SetOpening) -> Opening:
    terms, rate, fixed = before.terms, before.rate_per_min, before.rate_fixed
    if command.terms is not None:
        seed = {"commitment": terms.commitment, "sealed_seed": terms.sealed_seed}
        terms = replace(command.terms, **seed)
    if command.rate_per_min:
        rate, fixed = command.rate_per_min, True
    elif command.rate_per_min == 0 and fixed:
        rate, fixed = terms.rate_per_min, False
    elif not fixed and terms.rate_per_min != before.terms.rate_per_min:
        rate = terms.rate_per_min
    return replace(
        before,
        terms=terms,
        rate_per_min=rate,
        rate_fixed=fixed,
        paused=before.paused if command.paused is None else command.paused,
        beacon=command.beacon or before.beacon,
    )
