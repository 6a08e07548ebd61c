"""How many people come, when, and what some of them do wrong."""

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run; shares are of all people."""

    people: int = 50_000
    late_share: float = 0.05  # join after the opening
    late_s: float = 5.0  # within so long
    insistent_share: float = 0.01  # join ten times
    early_share: float = 0.005  # claim before the opening
    hasty_share: float = 0.01  # claim before their number
    thief_share: float = 0.005  # claim with another's ticket
    forger_share: float = 0.002  # claim with a ticket that they altered
    careless_share: float = 0.002  # claim without a ticket
    connections: int = 64
    pollers: int = 4
    patience_s: float = 240.0  # after the opening; who has no answer then counts as failed
    seed: int = 0

    def some(self, share: float) -> int:
        return max(1, round(self.people * share)) if share else 0


INSISTENT_JOINS = 10


class Visitor(msgspec.Struct, kw_only=True):
    """One person, and what became of them; times are milliseconds since the Unix epoch."""

    person: int
    late: bool
    came_ms: float = 0.0  # when they first asked
    tickets: set[str] = set()  # all that they were given: one, if all is well
    ticket: str = ""
    ticket_id: str = ""
    number: int = -1  # by the draw, or given to those who came late
    admitted_ms: float = 0.0  # when they read that they may claim
    answered_ms: float = 0.0  # when they knew: a place, or nothing left
    outcome: str = ""  # "placed", "sold out"
