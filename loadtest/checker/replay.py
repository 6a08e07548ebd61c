"""The journal from its first entry, replayed against a model that knows nothing of the ledger's code.

It sees each moment of the run, not only its end: a place that was sold twice and given back is found here.
"""

from collections.abc import Iterator

from loadtest.checker.evidence import DatabaseEvidence, LedgerEvidence, OpeningMark, whole_journal
from loadtest.checker.rules import Rule, Violation
from loadtest.checker.step_rules import OpeningRules, Times
from reservasi.errors import JournalGap
from reservasi.events import (
    AnyEvent,
    Confirmed,
    Ended,
    Held,
    JournalEntry,
    OpeningRetired,
    OpeningSet,
    QuotaRetired,
    QuotaSet,
    Returned,
    Unreadable,
)
from reservasi.ledger.journal.stream import START, check_follows
from reservasi.model import IMPORT_ACTOR, NOT_KNOWN, STAFF_TERMS, Opening, Position, QuotaCounts, State

CLOSED = STAFF_TERMS.index("closed")


class Model:
    """Quotas and live reservations as they follow from the events alone."""

    def __init__(self) -> None:
        self.capacity: dict[str, int] = {}
        self.staff_terms: dict[str, list[int]] = {}  # STAFF_TERMS
        self.imported: dict[str, list[int]] = {}  # those that imports set last
        self.counts: dict[str, list[int]] = {}  # held, confirmed, returning
        self.live: dict[str, tuple[State, Held]] = {}
        self.persons: dict[str, str] = {}
        self.openings: dict[str, Opening] = {}

    def oversold(self, quota: str) -> str | None:
        """How a quota breaks its capacity, if it does."""
        held, confirmed, returning = self.counts.get(quota, [0, 0, 0])
        capacity = self.capacity.get(quota, 0)
        if min(held, confirmed, returning) >= 0 and held + confirmed + returning <= capacity:
            return None
        return f"held {held}, confirmed {confirmed}, returning {returning} of {capacity}"

    def second_life(self, event: AnyEvent) -> str | None:
        """The people to whom a hold gives a second live reservation, if any."""
        twice = [person for person in event.persons if person in self.persons] if isinstance(event, Held) else []
        return f"held for {twice}, who have a live reservation" if twice else None

    def apply(self, event: AnyEvent) -> str | None:
        """Follow one event; how it contradicts the ones before it, if it does."""
        match event:
            case QuotaSet():
                self.capacity[event.quota] = event.terms.capacity
                self.counts.setdefault(event.quota, [0, 0, 0])
                return self._set(event)
            case OpeningSet():
                return self._open(event.opening)
            case OpeningRetired():
                opening = self.openings.pop(event.opening, None)
                return None if opening else "an opening that was never set is retired"
            case Unreadable():
                return f"an event of kind {event.letter!r} cannot be followed: {event.why}"
            case _ if event.quota not in self.counts:
                return "an event of a quota that was never set"
            case Held():
                return self._hold(event)
            case Confirmed():
                return self._confirm(event)
            case Ended():
                return self._end(event)
            case Returned():
                self.counts[event.quota][2] -= event.places
                return None
            case QuotaRetired():
                return self._retire(event)

    def _set(self, event: QuotaSet) -> str | None:
        after = [int(getattr(event.terms, name)) for name in STAFF_TERMS]
        before, imported = self.staff_terms.get(event.quota, after), self.imported.get(event.quota, [])
        self.staff_terms[event.quota] = after
        if event.version == 1 or not event.imported:  # created; or changed by a version that did not remember it
            self.imported[event.quota] = after if event.version == 1 else []
            return None
        wanted = [
            new if event.actor == IMPORT_ACTOR and new != old else kept
            for kept, old, new in zip(imported or [NOT_KNOWN] * len(after), before, after, strict=True)
        ]
        is_closed_by_import = before[CLOSED] == after[CLOSED] == wanted[CLOSED] == 1
        if is_closed_by_import and event.actor != IMPORT_ACTOR and event.imported[CLOSED] == NOT_KNOWN:
            wanted[CLOSED] = NOT_KNOWN  # somebody closed what an import had closed
        self.imported[event.quota] = wanted
        if list(event.imported) == wanted:
            return None
        return f"imports set {wanted} by the events before, {list(event.imported)} by this one"

    def _hold(self, event: Held) -> str | None:
        if event.reservation_id in self.live:
            return f"{event.reservation_id} is held while it lives"
        self.live[event.reservation_id] = (State.HELD, event)
        self.persons.update(dict.fromkeys(event.persons, event.reservation_id))
        self.counts[event.quota][0] += event.places
        return None

    def _confirm(self, event: Confirmed) -> str | None:
        state, held = self.live.get(event.reservation_id, (None, None))
        if held is None or state is not State.HELD or (held.quota, held.places) != (event.quota, event.places):
            return f"{event.reservation_id} is confirmed while it is {state}"
        self.live[event.reservation_id] = (State.CONFIRMED, held)
        self.counts[event.quota][0] -= event.places
        self.counts[event.quota][1] += event.places
        return None

    def _end(self, event: Ended) -> str | None:
        state, held = self.live.pop(event.reservation_id, (None, None))
        before = State.CONFIRMED if event.state in (State.CANCELLED, State.RETIRED) else State.HELD
        if held is None or state is not before or (held.quota, held.places) != (event.quota, event.places):
            return f"{event.reservation_id} is {event.state} while it is {state}"
        for person in held.persons:
            self.persons.pop(person, None)
        self.counts[event.quota][0 if state is State.HELD else 1] -= event.places
        if event.returns_at_ms:
            self.counts[event.quota][2] += event.places
        return None

    def _retire(self, event: QuotaRetired) -> str | None:
        taken = self.counts.pop(event.quota)
        for of_quotas in (self.staff_terms, self.imported):
            of_quotas.pop(event.quota, None)
        del self.capacity[event.quota]
        return f"retired with {taken} places held, confirmed and returning" if any(taken) else None

    def _open(self, now: Opening) -> str | None:
        before = self.openings.get(now.id, now)
        self.openings[now.id] = now
        if before.terms.commitment != now.terms.commitment:
            return "the commitment changed"
        if before.beacon not in ("", now.beacon):
            return "the beacon changed"
        if before.terms.beacon_source != now.terms.beacon_source:
            return "the beacon comes from elsewhere"
        if before.drawn and (not now.drawn or now.joined != before.joined):
            return f"drawn among {before.joined}, then among {now.joined}"
        where, where_before = (
            (now.terms.opens_at_ms, now.terms.offices),
            (before.terms.opens_at_ms, before.terms.offices),
        )
        if before.drawn and where != where_before:
            return "it was drawn, and then moved"
        others = [
            other.id
            for other in self.openings.values()
            if other.id != now.id and not (other.cancelled or now.cancelled) and other.terms.overlaps(now.terms)
        ]
        if others:
            return f"it covers quotas of {others}"
        if now.version < before.version or now.arrived < before.arrived:
            return f"version {before.version}, then {now.version}; arrived {before.arrived}, then {now.arrived}"
        if not before.admitted_through <= now.admitted_through <= now.arrived or now.joined > now.arrived:
            return f"the mark went from {before.admitted_through} to {now.admitted_through} of {now.arrived}"
        return None


def journal_violations(ledger: LedgerEvidence, database: DatabaseEvidence) -> Iterator[Violation]:
    """Whether the recorded journal is whole, keeps the promises at each step, and leads to what the ledger has."""
    position, model, times, openings = START, Model(), Times(), OpeningRules()
    for entry in whole_journal(ledger, database):
        try:
            check_follows(position, entry)
        except JournalGap as gap:
            yield Violation(Rule.JOURNAL_GAP, f"{entry.epoch}-{entry.first_seq}", str(gap))
        yield from _step_violations(model, times, entry)
        for seq, wrong in openings.follow(entry):
            yield Violation(Rule.OPENING_WRONG, f"{entry.epoch}-{seq}", wrong)
        position = entry.position
    recorded = database.journal[-1].position if database.journal else START
    position_row = database.position  # a rebuilt ledger's is of a newer epoch, before its first change
    if position_row is not None and (position_row.seq, position_row.chain) != (recorded.seq, recorded.chain):
        detail = f"the recorded position is {database.position}, the journal ends at {recorded}"
        yield Violation(Rule.POSITION_DIFFERS, f"{recorded.epoch}-{recorded.seq}", detail)
    yield from _stream_violations(position, ledger, database)
    if (position.seq, position.chain) == (ledger.position.seq, ledger.position.chain):
        yield from _end_violations(model, ledger)


def _stream_violations(end: Position, ledger: LedgerEvidence, database: DatabaseEvidence) -> Iterator[Violation]:
    """Whether stream and database have the same entries, up to the ledger's position."""
    recorded = {(entry.epoch, entry.position.seq): entry.chain for entry in database.journal}
    until = max(recorded, default=(0, 0))
    for entry in ledger.journal:
        at = (entry.epoch, entry.position.seq)
        if at <= until and recorded.get(at) != entry.chain:
            detail = f"the database has {recorded.get(at)}, the stream {entry.chain}"
            yield Violation(Rule.JOURNAL_GAP, f"{entry.epoch}-{entry.first_seq}", detail)
    if ledger.journal and (end.seq, end.chain) != (ledger.position.seq, ledger.position.chain):
        detail = f"the journal ends at {end}, the ledger is at {ledger.position}"
        yield Violation(Rule.JOURNAL_GAP, f"{end.epoch}-{end.seq}", detail)


def _step_violations(model: Model, times: Times, entry: JournalEntry) -> Iterator[Violation]:
    for event in entry.events:
        subject = f"{entry.epoch}-{event.seq}"
        of = _subject(event)
        if wrong := model.second_life(event):
            yield Violation(Rule.TWO_LIVE, subject, f"{of}: {wrong}")
        if wrong := model.apply(event):
            yield Violation(Rule.REPLAY_DIFFERS, subject, f"{of}: {wrong}")
        if wrong := times.apply(event, entry.at_ms):
            yield Violation(Rule.TIME_DIFFERS, subject, f"{of}: {wrong}")
        if isinstance(event, OpeningSet | OpeningRetired | Unreadable):
            continue
        if wrong := model.oversold(event.quota):
            yield Violation(Rule.OVERSOLD, subject, f"{event.quota}: {wrong}")


def _subject(event: AnyEvent) -> str:
    match event:
        case OpeningSet():
            return event.opening.id
        case OpeningRetired():
            return event.opening
        case Unreadable():
            return event.letter
        case _:
            return event.quota


def _end_violations(model: Model, ledger: LedgerEvidence) -> Iterator[Violation]:
    for quota in ledger.quotas.values():
        held, confirmed, returning = model.counts.get(quota.id, [0, 0, 0])
        counts = QuotaCounts(held=held, confirmed=confirmed, returning=returning, version=quota.counts.version)
        if counts != quota.counts or model.capacity.get(quota.id) != quota.terms.capacity:
            detail = f"the journal leads to {counts} of {model.capacity.get(quota.id)}, the ledger has {quota.counts}"
            yield Violation(Rule.REPLAY_DIFFERS, quota.id, detail)
        imported = model.imported.get(quota.id)
        if quota.counts.version > 1 and imported != list(quota.imported):
            detail = f"the journal leads to {imported} set by imports, the ledger has {quota.imported}"
            yield Violation(Rule.REPLAY_DIFFERS, quota.id, detail)
    for quota_id in sorted(model.counts.keys() - ledger.quotas.keys()):
        yield Violation(Rule.REPLAY_DIFFERS, quota_id, "the journal leads to a quota that the ledger has not")
    openings = {id_: OpeningMark.of(opening) for id_, opening in model.openings.items()}
    for id_ in sorted(openings.keys() | ledger.openings.keys()):
        if openings.get(id_) != ledger.openings.get(id_):
            detail = f"the journal leads to {openings.get(id_)}, the ledger has {ledger.openings.get(id_)}"
            yield Violation(Rule.REPLAY_DIFFERS, id_, detail)
    live = {
        id_: (record.state, record.quota, frozenset(record.persons))
        for id_, record in ledger.reservations.items()
        if record.state.live
    }
    replayed = {id_: (state, held.quota, frozenset(held.persons)) for id_, (state, held) in model.live.items()}
    for id_ in sorted(live.keys() | replayed.keys()):
        if live.get(id_) != replayed.get(id_):
            detail = f"the journal leads to {replayed.get(id_)}, the ledger has {live.get(id_)}"
            yield Violation(Rule.REPLAY_DIFFERS, id_, detail)
