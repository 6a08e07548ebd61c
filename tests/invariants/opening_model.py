"""Openings once more, as plainly as Python can say it: what the Lua functions are compared with.

People are kept in sets, of which the ledger keeps hashes. Time stands still but for `begin`;
rates are so low that the mark never moves, since how it does is a matter of the clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from reservasi.model import (
    Admit,
    Join,
    MoveOpening,
    Opening,
    OpeningTerms,
    Outcome,
    RetireOpening,
    SetOpening,
    SetQuota,
)
from tests.invariants.ledger_model import PAST_MS

ALL_OFFICES = ("kanim", "mpp", "ulp")


Command: TypeAlias = SetOpening | MoveOpening | RetireOpening | Join | Admit | SetQuota


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
    before: frozenset[str] = frozenset()  # who joined before the draw
    leader: str = ""
    begun: bool = False

    @property
    def terms(self) -> OpeningTerms:
        return self.opening.terms

    @property
    def ended(self) -> bool:
        return self.terms.ends_at_ms < PAST_MS and not self.opening.paused

    @property
    def over(self) -> bool:
        """Whether it may be retired: one that is paused goes on, unless it was called off."""
        return self.terms.ends_at_ms < PAST_MS and (self.opening.cancelled or not self.opening.paused)

    def draw(self) -> int:
        """Settle who joined before, if it has begun; how many events that makes."""
        if not self.begun or self.opening.drawn:
            return 0
        count, self.before = len(self.people), frozenset(self.people)
        self.opening = replace(self.opening, drawn=True, joined=count, arrived=count)
        return 1


@dataclass
class KnownQuota:
    """A quota, as far as openings are concerned."""

    office: str
    opens_at_ms: int
    closed: bool = False
    version: int = 1


class OpeningModel:
    """The openings of one program."""

    def __init__(self) -> None:
        self.openings: dict[str, Known] = {}
        self.quotas: dict[str, KnownQuota] = {}
        self.seq = 0

    def begin(self, opening_id: str) -> bool:
        """Let the moment of an opening come; whether there was anything to begin."""
        entry = self.openings.get(opening_id)
        if entry is None or entry.begun:
            return False
        entry.begun = True
        return True

    def moved(self, opening_id: str, opens_at_ms: int) -> None:
        """The moment that the clock of the test gave it."""
        entry = self.openings[opening_id]
        entry.opening = replace(entry.opening, terms=replace(entry.terms, opens_at_ms=opens_at_ms))

    def run(self, commands: Sequence[Command]) -> list[SaidOfOpening]:
        """Carry out commands of one kind that arrive together."""
        joins: dict[str, set[str]] = {}
        for command in commands:
            if isinstance(command, Join):
                joins.setdefault(command.opening, set()).add(command.ticket_id)
        together = {opening_id: self._join(opening_id, tickets) for opening_id, tickets in joins.items()}
        answers = []
        for command in commands:
            match command:
                case Join():
                    entry = self.openings.get(command.opening)
                    was_before = entry is not None and command.ticket_id in entry.before
                    answers.append(
                        together[command.opening]._replace(number=-1) if was_before else together[command.opening]
                    )
                case Admit():
                    answers.append(self._admit(command))
                case SetOpening():
                    answers.append(self._set(command))
                case MoveOpening():
                    answers.append(self._move(command))
                case RetireOpening():
                    answers.append(self._retire(command))
                case SetQuota():
                    answers.append(self._set_quota(command))
        return answers

    def _join(self, opening_id: str, tickets: set[str]) -> SaidOfOpening:
        entry = self.openings.get(opening_id)
        if entry is None:
            return SaidOfOpening(Outcome.UNKNOWN_OPENING)
        if not entry.terms.waiting_room:
            return SaidOfOpening(Outcome.NO_WAITING_ROOM)
        if entry.opening.cancelled:
            return SaidOfOpening(Outcome.OPENING_CANCELLED)
        if entry.terms.joins_from_ms > PAST_MS and not entry.opening.drawn:
            return SaidOfOpening(Outcome.NOT_OPEN)
        if entry.ended:
            return SaidOfOpening(Outcome.CLOSED)
        self.seq += entry.draw()
        entry.people |= tickets
        late = entry.opening.drawn or entry.begun
        number = max(entry.opening.arrived, len(entry.people)) if late else -1
        return self._mark(Outcome.JOINED, entry, number)

    def _admit(self, command: Admit) -> SaidOfOpening:
        entry = self.openings.get(command.opening)
        if entry is None:
            return SaidOfOpening(Outcome.UNKNOWN_OPENING)
        if not entry.terms.waiting_room:
            return SaidOfOpening(Outcome.NO_WAITING_ROOM)
        if entry.opening.cancelled:
            return SaidOfOpening(Outcome.CLOSED)
        if entry.ended:
            self.seq += entry.draw()
            return SaidOfOpening(Outcome.CLOSED)
        if entry.leader not in ("", command.controller):
            return SaidOfOpening(Outcome.NOT_LEADING)
        entry.leader = command.controller
        self.seq += entry.draw()
        before = entry.opening
        arrived = max(before.arrived, len(entry.people))
        rate = before.rate_per_min
        if command.rate_per_min and entry.terms.adaptive and not before.rate_fixed:
            rate = min(command.rate_per_min, entry.terms.rate_max_per_min)
        joined = before.joined if before.drawn else arrived
        entry.opening = replace(before, arrived=arrived, joined=joined, rate_per_min=rate)
        self.seq += entry.opening != before
        return self._mark(Outcome.ADVANCED, entry, -1)

    def _mark(self, outcome: Outcome, entry: Known, number: int) -> SaidOfOpening:
        return SaidOfOpening(
            outcome,
            number=number,
            joined=entry.opening.joined,
            arrived=entry.opening.arrived,
            rate_per_min=entry.opening.rate_per_min,
        )

    def _set(self, command: SetOpening) -> SaidOfOpening:
        entry = self.openings.get(command.opening)
        if entry is None:
            return self._create(command)
        before = entry.opening
        if before.cancelled:
            return SaidOfOpening(Outcome.OPENING_CANCELLED, before.version)
        if command.terms is None and (command.paused, command.rate_per_min) != (None, None) and entry.ended:
            return SaidOfOpening(Outcome.CLOSED, before.version)
        wanted = _changed(before, command)
        if wanted == before:
            return SaidOfOpening(Outcome.EXISTS, before.version)
        moves = _where(wanted.terms) != _where(before.terms)
        if (command.terms and command.version == 0) or (moves and self._taken(command.opening, wanted.terms)):
            return SaidOfOpening(Outcome.EXISTS_WITH_DIFFERENT_CONTENT, before.version)
        if command.version not in (0, before.version):
            return SaidOfOpening(Outcome.VERSION_MISMATCH, before.version)
        opened = entry.begun or before.drawn
        always = ("opens_at_ms", "beacon_source")
        if any(getattr(wanted.terms, name) != getattr(before.terms, name) for name in always):
            return SaidOfOpening(Outcome.TOO_LATE, before.version)
        if wanted.beacon != before.beacon and (opened or before.beacon):
            return SaidOfOpening(Outcome.TOO_LATE, before.version)
        fixed = ("offices", "joins_from_ms", "waiting_room")
        if opened and any(getattr(wanted.terms, name) != getattr(before.terms, name) for name in fixed):
            return SaidOfOpening(Outcome.TOO_LATE, before.version)
        entry.opening = replace(wanted, version=before.version + 1)
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
        self.openings[command.opening] = Known(created)
        self.seq += 1
        return SaidOfOpening(Outcome.OPENING_SET, 1)

    def _taken(self, opening_id: str, terms: OpeningTerms) -> bool:
        return self._other(opening_id, terms) != ""

    def _other(self, opening_id: str, terms: OpeningTerms) -> str:
        """Another opening that covers what these terms would."""
        for id_, entry in self.openings.items():
            is_there = id_ != opening_id and not entry.opening.cancelled
            if is_there and entry.terms.opens_at_ms == terms.opens_at_ms and _offices(entry.terms) & _offices(terms):
                return id_
        return ""

    def _move(self, command: MoveOpening) -> SaidOfOpening:
        entry = self.openings.get(command.opening)
        if entry is None:
            return SaidOfOpening(Outcome.UNKNOWN_OPENING)
        before, wanted = entry.opening, _moved(entry.opening, command)
        moves = wanted.terms.opens_at_ms != before.terms.opens_at_ms
        refused = self._refused_move(command, entry, wanted)
        if refused is not None:
            return SaidOfOpening(refused, before.version)
        for quota in self.quotas.values():
            if before.terms.opens_at_ms != quota.opens_at_ms or quota.office not in _offices(before.terms):
                continue
            if moves:
                quota.opens_at_ms = wanted.terms.opens_at_ms
            if moves or (wanted.cancelled and not quota.closed):
                quota.version += 1
                self.seq += 1
            quota.closed = quota.closed or wanted.cancelled
        entry.opening = replace(wanted, version=before.version + 1, revision=before.revision + 1)
        self.seq += 1
        return SaidOfOpening(Outcome.OPENING_SET, before.version + 1)

    def _retire(self, command: RetireOpening) -> SaidOfOpening:
        entry = self.openings.get(command.opening)
        if entry is None:
            return SaidOfOpening(Outcome.UNKNOWN_OPENING)
        if not entry.over:
            return SaidOfOpening(Outcome.NOT_OVER)
        del self.openings[command.opening]
        self.seq += 1
        return SaidOfOpening(Outcome.RETIRED)

    def _refused_move(self, command: MoveOpening, entry: Known, wanted: Opening) -> Outcome | None:
        before, terms = entry.opening, wanted.terms
        moves, ends = terms.opens_at_ms != before.terms.opens_at_ms, terms.ends_at_ms != before.terms.ends_at_ms
        if wanted == before:
            return Outcome.EXISTS
        if before.cancelled:
            return Outcome.OPENING_CANCELLED
        if command.version not in (0, before.version):
            return Outcome.VERSION_MISMATCH
        if entry.ended:
            return Outcome.CLOSED
        if moves and (entry.begun or before.drawn):
            return Outcome.TOO_LATE
        if (moves and terms.opens_at_ms < PAST_MS) or (ends and terms.ends_at_ms <= max(terms.opens_at_ms, PAST_MS)):
            return Outcome.MOMENT_INVALID
        there = (q for q in self.quotas.values() if q.opens_at_ms == terms.opens_at_ms and q.office in _offices(terms))
        if moves and (self._taken(command.opening, terms) or any(there)):
            return Outcome.MOMENT_TAKEN
        return None

    def _set_quota(self, command: SetQuota) -> SaidOfOpening:
        """That one of the quotas that are there is to open at a moment."""
        quota, wanted_ms = self.quotas[command.quota], command.opens_at_ms
        assert wanted_ms is not None
        if quota.opens_at_ms == wanted_ms:
            return SaidOfOpening(Outcome.EXISTS, quota.version)
        covering = (
            (id_, entry)
            for id_, entry in self.openings.items()
            if entry.terms.opens_at_ms == quota.opens_at_ms
            and quota.office in _offices(entry.terms)
            and not entry.opening.cancelled
        )
        for id_, entry in covering:
            taker = self.openings.get(command.taker) if command.taker != id_ else None
            is_new = taker is not None and not taker.opening.cancelled and taker.terms.opens_at_ms == wanted_ms
            takes = is_new and taker is not None and quota.office in _offices(taker.terms)
            is_ahead = entry.terms.joins_from_ms > PAST_MS if entry.terms.waiting_room else not entry.begun
            if not entry.ended and not (takes and is_ahead):
                return SaidOfOpening(Outcome.OF_OPENING, quota.version)
        quota.opens_at_ms = wanted_ms
        quota.version += 1
        self.seq += 1
        return SaidOfOpening(Outcome.QUOTA_SET, quota.version)


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


def _moved(before: Opening, command: MoveOpening) -> Opening:
    terms, opens_at_ms, ends_at_ms = before.terms, command.opens_at_ms, command.ends_at_ms
    moved = replace(before, cancelled=before.cancelled if command.cancelled is None else command.cancelled)
    if not command.cancelled and opens_at_ms is not None and opens_at_ms != terms.opens_at_ms:
        distance_ms = opens_at_ms - terms.opens_at_ms
        ahead_ms = distance_ms if terms.joins_from_ms > PAST_MS else 0
        window = {"ends_at_ms": terms.ends_at_ms + distance_ms, "joins_from_ms": terms.joins_from_ms + ahead_ms}
        moved = replace(moved, moved_from_ms=terms.opens_at_ms, reason="", reason_en="")
        terms = replace(terms, opens_at_ms=opens_at_ms, **window)
    if not command.cancelled and ends_at_ms is not None:
        terms = replace(terms, ends_at_ms=ends_at_ms)
    if command.reason:
        moved = replace(moved, reason=command.reason, reason_en=command.reason_en)
    return replace(moved, terms=terms)
