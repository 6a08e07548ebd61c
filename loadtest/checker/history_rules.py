"""The clients' answers against ledger, database and journal, which may not contradict them.

*History* rules look at the end of a run, *order* rules at the moments at which answers came, *answer* rules at the
journal as it was at an answer's own seq.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from loadtest.checker.evidence import DatabaseEvidence, LedgerEvidence, whole_journal
from loadtest.checker.history import INDEFINITE, Exchange
from loadtest.checker.replay import Model
from loadtest.checker.rules import Rule, Violation
from reservasi.events import AnyEvent, Confirmed, Ended, Held, JournalEntry, QuotaSet
from reservasi.model import QuotaTerms, State

CLAIM_MEMBERS = ("id", "quota", "places")
REPEATED_MEMBERS = ("id", "status", "quota", "places", "hold_expires_at", "manage_token")
GOOD = {"claim": frozenset({201}), "confirm": frozenset({200, 202}), "cancel": frozenset({200, 202})}
# Refusals that speak of the program as it is when they are given; others speak of an earlier change.
OF_NOW = frozenset(
    {"sold-out", "not-open", "closed", "unknown-quota", "duplicate-applicant", "idempotency-key-reused", "not-found"}
)
Place = tuple[int, int]  # epoch, seq


def _kind(exchange: Exchange) -> str:
    """The last part of a refusal's type."""
    return str(exchange.body.get("type", "")).rpartition("/")[2]


def _subject(exchange: Exchange) -> str:
    return f"person {exchange.person}, {exchange.call} {exchange.key or exchange.reservation_id}"


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
        subject = _subject(exchange)
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
    """People who were given two places although none was cancelled, expired or over."""
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


# -- real-time order: a request that is sent after another one was answered must not get an older answer ------------
# An answer shows a place in the program's history, (epoch, seq). If it was complete before another request was sent,
# then that one's answer may not lie before it; those of an old primary, a restored copy or a stale reply would. Times
# are the clients', so they must share a clock that is not set during the run.


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
        candidates = places.get((first.call, first.reservation_id or str(first.body.get("id"))), [])
        if len(candidates) == 1:
            yield Shown(
                sent_ms=min(exchange.sent_ms for exchange in tries),
                answered_ms=first.answered_ms,
                place=candidates[0],
                subject=_subject(first),
            )


def _refusals(history: Iterable[Exchange]) -> Iterator[Shown]:
    for exchange in history:
        if exchange.epoch and _kind(exchange) in OF_NOW:
            yield Shown(
                sent_ms=exchange.sent_ms,
                answered_ms=exchange.answered_ms,
                place=(exchange.epoch, exchange.seq),
                subject=_subject(exchange),
            )


# -- each answer is what the journal says at the answer's own seq, and to what was asked ----------------------------


def answer_violations(
    history: Sequence[Exchange], ledger: LedgerEvidence, database: DatabaseEvidence
) -> Iterator[Violation]:
    journal = whole_journal(ledger, database)
    yield from _at_their_seq(history, journal)
    yield from _too_late(history, journal)


def _at_their_seq(history: Sequence[Exchange], journal: Sequence[JournalEntry]) -> Iterator[Violation]:
    answered: dict[int, list[Exchange]] = defaultdict(list)
    for exchange in history:
        answered[exchange.seq].append(exchange)
    answered.pop(0, None)  # from memory, over HTTP, or of an empty ledger
    model = Model()
    for entry in journal if answered else ():
        for event in entry.events:
            model.apply(event)
            for exchange in answered.get(event.seq, ()):
                # A change that was lost with its ledger left its seq to another one; other rules name the loss.
                wrong = _contradicted(exchange, event, model) if entry.epoch <= exchange.epoch else None
                if wrong:
                    detail = f"{exchange.outcome} {_kind(exchange)} at seq {exchange.seq}: {wrong}"
                    yield Violation(Rule.ANSWER_DIFFERS, _subject(exchange), detail)


def _contradicted(exchange: Exchange, event: AnyEvent, model: Model) -> str | None:
    """How an answer contradicts the change at its seq, or what was so right after it."""
    kind = _kind(exchange)
    if exchange.outcome in GOOD.get(exchange.call, ()) or kind == "hold-expired":
        return None if _is_of(exchange, event) else f"the change is {event}"
    if kind == "sold-out":
        remaining = model.capacity.get(exchange.quota, 0) - sum(model.counts.get(exchange.quota, []))
        return f"{remaining} remained, asked for {exchange.places}" if remaining >= exchange.places else None
    if kind == "unknown-quota":
        return "it exists" if exchange.quota in model.capacity else None
    if kind == "not-found":
        return "it lives" if exchange.reservation_id in model.live else None
    return None


def _is_of(exchange: Exchange, event: AnyEvent) -> bool:
    match event:
        case Held():
            answer = tuple(exchange.body.get(member) for member in ("id", "quota", "places"))
            return exchange.call == "claim" and answer == (event.reservation_id, event.quota, event.places)
        case Confirmed():
            return exchange.call == "confirm" and exchange.reservation_id == event.reservation_id
        case Ended():
            by_call = {"cancel": event.state is not State.RETIRED, "confirm": event.state is State.RETIRED}
            is_end = event.state is State.EXPIRED or by_call.get(exchange.call, False)
            return is_end and exchange.reservation_id == event.reservation_id
        case _:
            return False


def _too_late(history: Sequence[Exchange], journal: Sequence[JournalEntry]) -> Iterator[Violation]:
    """Cancellations by applicants after their last moment; staff may cancel later, and are in no history."""
    theirs = {e.reservation_id for e in history if e.call == "cancel" and e.outcome in GOOD["cancel"]}
    terms: dict[str, QuotaTerms] = {}
    for entry in journal if theirs else ():
        for event in entry.events:
            if isinstance(event, QuotaSet):
                terms[event.quota] = event.terms
            elif isinstance(event, Ended) and event.state is State.CANCELLED and event.reservation_id in theirs:
                last_ms = terms[event.quota].cancel_until_ms if event.quota in terms else 0
                if 0 < last_ms < entry.at_ms:
                    detail = f"cancelled by the applicant at {entry.at_ms}, after {last_ms}"
                    yield Violation(Rule.TIME_DIFFERS, event.reservation_id, detail)
