"""Whether each answer is what the journal says at the answer's own seq, and to what was asked."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from loadtest.checker.evidence import DatabaseEvidence, LedgerEvidence, whole_journal
from loadtest.checker.history import Exchange
from loadtest.checker.order_rules import GOOD
from loadtest.checker.replay import Model
from loadtest.checker.rules import Rule, Violation
from reservasi.events import AnyEvent, Confirmed, Ended, Held, JournalEntry, QuotaSet
from reservasi.model import QuotaTerms, State


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
                    subject = f"person {exchange.person}, {exchange.call} {exchange.key or exchange.reservation_id}"
                    detail = f"{exchange.outcome} {_kind(exchange)} at seq {exchange.seq}: {wrong}"
                    yield Violation(Rule.ANSWER_DIFFERS, subject, detail)


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


def _kind(exchange: Exchange) -> str:
    return str(exchange.body.get("type", "")).rpartition("/")[2]


def _too_late(history: Sequence[Exchange], journal: Sequence[JournalEntry]) -> Iterator[Violation]:
    """Cancellations by applicants after the last moment for them; staff, who may, are in no history."""
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
