"""The clients' answers against ledger and database, which may not contradict them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from loadtest.checker.evidence import DatabaseEvidence, LedgerEvidence
from loadtest.checker.history import INDEFINITE, Exchange
from loadtest.checker.rules import Rule, Violation
from reservasi.model import State

CLAIM_MEMBERS = ("id", "quota", "places")
REPEATED_MEMBERS = ("id", "status", "quota", "places", "hold_expires_at", "manage_token")


def history_violations(
    history: Iterable[Exchange], ledger: LedgerEvidence, database: DatabaseEvidence
) -> Iterator[Violation]:
    claims: dict[tuple[int, str], list[Exchange]] = defaultdict(list)
    managed: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in history:
        if exchange.call == "claim":
            claims[exchange.person, exchange.key].append(exchange)
        elif exchange.reservation_id:
            managed[exchange.reservation_id].append(exchange)
    for same_request in claims.values():
        yield from _claim_violations(same_request, ledger)
    codes = {row.reservation_id: row.booking_code for row in database.bookings}
    for reservation_id, exchanges in managed.items():
        yield from _life_violations(reservation_id, exchanges, ledger, codes)
    yield from _second_places(claims, managed, ledger)


def _claim_violations(same_request: list[Exchange], ledger: LedgerEvidence) -> Iterator[Violation]:
    held = [exchange for exchange in same_request if exchange.outcome == 201]
    if not held:
        return
    first = min(held, key=lambda exchange: exchange.answered_ms)
    repeats = [exchange for exchange in same_request if _asks(exchange) == _asks(first)]
    yield from _changed(repeats, first, frozenset({201}), REPEATED_MEMBERS)
    for other in held:
        if _asks(other) != _asks(first):
            detail = f"its key was used for {_asks(first)}; asked for {_asks(other)}, answered {other.body}"
            yield Violation(Rule.ANSWER_DIFFERS, f"person {other.person}, claim {other.key}", detail)
    id_ = str(first.body.get("id"))
    record = ledger.reservations.get(id_)
    answer = tuple(first.body.get(member) for member in CLAIM_MEMBERS)
    if record is None or (id_, record.quota, record.places) != answer or answer[1:] != (first.quota, first.places):
        yield Violation(Rule.CLAIM_FORGOTTEN, id_, f"person {first.person} got {answer}, the ledger has {record}")


def _asks(exchange: Exchange) -> tuple[str, int]:
    return exchange.quota, exchange.places


def _life_violations(
    id_: str, exchanges: list[Exchange], ledger: LedgerEvidence, codes: dict[str, str]
) -> Iterator[Violation]:
    record = ledger.reservations.get(id_)
    state = record.state if record else None
    confirms = [exchange for exchange in exchanges if exchange.call == "confirm"]
    confirmed = [exchange for exchange in confirms if exchange.outcome == 200]
    accepted = [exchange for exchange in confirms if exchange.outcome in (200, 202)]
    cancelled = [exchange for exchange in exchanges if exchange.call == "cancel" and exchange.outcome in (200, 202)]
    if accepted and state not in (State.CONFIRMED, State.CANCELLED, State.RETIRED):
        yield Violation(Rule.CONFIRMATION_FORGOTTEN, id_, f"answered {accepted[0].outcome}, the ledger has {state}")
    if confirmed:
        code = confirmed[0].body.get("booking_code")
        if codes.get(id_) != code:
            yield Violation(Rule.CONFIRMATION_FORGOTTEN, id_, f"answered {code}, the database has {codes.get(id_)}")
        if not cancelled:
            yield from _changed(confirms, confirmed[0], frozenset({200, 202}), ("id", "booking_code"))
    if cancelled and state not in (State.CANCELLED, State.RELEASED):
        yield Violation(Rule.CANCELLATION_FORGOTTEN, id_, f"answered {cancelled[0].outcome}, the ledger has {state}")


def _changed(
    same_request: list[Exchange], first: Exchange, allowed: frozenset[int], members: tuple[str, ...]
) -> Iterator[Violation]:
    """Repeats that were answered otherwise than the first good answer, once somebody had that one."""
    for exchange in same_request:
        subject = f"person {exchange.person}, {exchange.call} {exchange.key or exchange.reservation_id}"
        if exchange.outcome == first.outcome:
            if _members(exchange, members) != _members(first, members):
                yield Violation(Rule.ANSWER_CHANGED, subject, f"first {first.body}, then {exchange.body}")
        elif exchange.sent_ms > first.answered_ms and exchange.outcome not in allowed | INDEFINITE:
            detail = f"first {first.outcome}, then {exchange.outcome} {exchange.body}"
            yield Violation(Rule.ANSWER_CHANGED, subject, detail)


def _members(exchange: Exchange, members: tuple[str, ...]) -> list[Any]:
    return [exchange.body.get(member) for member in members]


def _second_places(
    claims: dict[tuple[int, str], list[Exchange]], managed: dict[str, list[Exchange]], ledger: LedgerEvidence
) -> Iterator[Violation]:
    """People who were given two places, and neither cancelled one nor let its hold expire, nor was its date over."""
    over = (State.EXPIRED, State.RETIRED)
    ended = {id_ for id_, record in ledger.reservations.items() if record.state in over}
    ids: dict[int, set[str]] = defaultdict(set)
    for (person, _), same_request in claims.items():
        ids[person].update(str(exchange.body.get("id")) for exchange in same_request if exchange.outcome == 201)
    for person, several in ids.items():
        given_up = {id_ for id_ in several if any(exchange.call == "cancel" for exchange in managed[id_])}
        kept = several - given_up - ended
        if len(kept) > 1:
            yield Violation(Rule.TWO_LIVE, f"person {person}", f"was given {sorted(kept)}")
