"""Real-time order: a request that is sent after another one was answered must not get an older answer.

An answer shows a place in the program's history, (epoch, seq). If it was complete before another request was sent,
then that one's answer may not lie before it; those of an old primary, a restored copy or a stale reply would. Times are
the clients', so they must share a clock that is not set during the run.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from loadtest.checker.evidence import DatabaseEvidence, LedgerEvidence, whole_journal
from loadtest.checker.history import Exchange
from loadtest.checker.rules import Rule, Violation
from reservasi.events import Confirmed, Ended, Held

GOOD = {"claim": frozenset({201}), "confirm": frozenset({200, 202}), "cancel": frozenset({200, 202})}
# Refusals that speak of the program as it is when they are given; others speak of an earlier change.
OF_NOW = frozenset(
    {"sold-out", "not-open", "closed", "unknown-quota", "duplicate-applicant", "idempotency-key-reused", "not-found"}
)
Place = tuple[int, int]  # epoch, seq


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One request, from its first try to its first definite answer, and the place in the history that this shows."""

    sent_ms: float
    answered_ms: float
    place: Place
    subject: str


def order_violations(
    history: Sequence[Exchange], ledger: LedgerEvidence, database: DatabaseEvidence
) -> Iterator[Violation]:
    shown = [*_changes(history, _places(ledger, database)), *_refusals(history)]
    by_answer = sorted(shown, key=lambda each: each.answered_ms)
    complete, latest = 0, None
    for each in sorted(shown, key=lambda each: each.sent_ms):
        while by_answer[complete].answered_ms < each.sent_ms:  # the last one is answered after it was sent
            if latest is None or by_answer[complete].place > latest.place:
                latest = by_answer[complete]
            complete += 1
        if latest is not None and each.place < latest.place:
            before = f"{latest.subject} had shown {latest.place}"
            yield Violation(Rule.ORDER_DIFFERS, each.subject, f"shows {each.place}, when {before}")


def _places(ledger: LedgerEvidence, database: DatabaseEvidence) -> dict[tuple[str, str], list[Place]]:
    """Where the journal has the change that a good answer to a call speaks of."""
    kinds = {Held: "claim", Confirmed: "confirm", Ended: "cancel"}
    places: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for entry in whole_journal(ledger, database):
        for event in entry.events:
            if isinstance(event, Held | Confirmed | Ended):
                places[kinds[type(event)], event.reservation_id].append((entry.epoch, event.seq))
    return places


def _changes(history: Iterable[Exchange], places: dict[tuple[str, str], list[Place]]) -> Iterator[Shown]:
    """The requests that changed something. A repeat speaks of the first one's change, so they are one."""
    same: dict[tuple[object, ...], list[Exchange]] = defaultdict(list)
    for exchange in history:
        if exchange.call in GOOD:
            same[exchange.call, exchange.person, exchange.key, exchange.quota, exchange.reservation_id].append(exchange)
    for tries in same.values():
        good = [exchange for exchange in tries if exchange.outcome in GOOD[exchange.call]]
        if not good:
            continue
        first = min(good, key=lambda exchange: exchange.answered_ms)
        found = places.get((first.call, first.reservation_id or str(first.body.get("id"))), [])
        if len(found) == 1:
            yield Shown(
                sent_ms=min(exchange.sent_ms for exchange in tries),
                answered_ms=first.answered_ms,
                place=found[0],
                subject=_subject(first),
            )


def _refusals(history: Iterable[Exchange]) -> Iterator[Shown]:
    for exchange in history:
        if exchange.epoch and str(exchange.body.get("type", "")).rpartition("/")[2] in OF_NOW:
            yield Shown(
                sent_ms=exchange.sent_ms,
                answered_ms=exchange.answered_ms,
                place=(exchange.epoch, exchange.seq),
                subject=_subject(exchange),
            )


def _subject(exchange: Exchange) -> str:
    return f"person {exchange.person}, {exchange.call} {exchange.key or exchange.reservation_id}"
