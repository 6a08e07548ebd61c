"""The promises as pure functions over evidence: each yields a violation for every case in which it was broken."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from loadtest.checker.evidence import DatabaseEvidence, LedgerEvidence, Row
from reservasi.model import State


class Rule(StrEnum):
    FENCED = "ledger-fenced"  # the ledger is not owned, so it cannot even be read
    OVERSOLD = "oversold"  # held + confirmed + returning > capacity, or a count below 0
    COUNTS_DIFFER = "counts-differ"  # a quota's counts are not what its reservations and timers add up to
    TWO_LIVE = "two-live-reservations"  # one person, two live reservations
    PERSONS_DIFFER = "persons-differ"  # the map of persons disagrees with the live reservations
    TIMER_DIFFERS = "timer-differs"  # a hold without its deadline, or a deadline without its hold
    NOT_RECORDED = "not-recorded"  # the recorder did not come to the ledger's seq
    BOOKING_MISSING = "booking-missing"  # confirmed in the ledger, no such row
    BOOKING_UNKNOWN = "booking-unknown"  # a row for which the ledger has no confirmed reservation
    BOOKING_DOUBLED = "booking-doubled"  # one reservation, code or person confirmed twice in the database
    BOOKED_DIFFERS = "booked-differs"  # a quota row's `booked` is not what its bookings or the ledger say
    HOLD_DIFFERS = "hold-differs"  # hold rows and held reservations disagree
    JOURNAL_GAP = "journal-gap"  # (epoch, seq) or chain is broken in the journal table
    POSITION_DIFFERS = "position-differs"  # the recorded position is not the journal's end
    TIME_DIFFERS = "time-differs"  # a change at a moment at which the rules forbid it
    REPLAY_DIFFERS = "replay-differs"  # the journal from its start does not lead to what the ledger has
    OPENING_DIFFERS = "opening-differs"  # an opening's row is not what the ledger has
    OPENING_WRONG = "opening-wrong"  # an opening and its quotas did not keep together, or it came back
    DEAD_LETTER = "dead-letter"  # a change could not be recorded
    CLAIM_FORGOTTEN = "claim-forgotten"  # a 201 that the ledger knows nothing of, or otherwise
    CONFIRMATION_FORGOTTEN = "confirmation-forgotten"  # a 200 or 202 that ledger or database know otherwise
    CANCELLATION_FORGOTTEN = "cancellation-forgotten"  # a cancelled place is still somebody's
    ANSWER_CHANGED = "answer-changed"  # the same request, repeated, was answered otherwise
    ANSWER_DIFFERS = "answer-differs"  # an answer to another question, or that the journal at its seq contradicts
    ORDER_DIFFERS = "order-differs"  # an answer from before one that was complete when its request was sent


# What was acknowledged and is not there, and what is there twice.
LOST = frozenset(
    {
        Rule.CLAIM_FORGOTTEN,
        Rule.CONFIRMATION_FORGOTTEN,
        Rule.CANCELLATION_FORGOTTEN,
        Rule.BOOKING_MISSING,
        Rule.NOT_RECORDED,
    }
)
OVERSOLD = frozenset({Rule.OVERSOLD, Rule.TWO_LIVE, Rule.BOOKING_DOUBLED})


class Violation(msgspec.Struct, frozen=True):
    rule: Rule
    subject: str  # the quota, reservation, person hash or seq it is about
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.detail}"


def ledger_violations(ledger: LedgerEvidence) -> Iterator[Violation]:
    yield from _quota_counts(ledger)
    yield from _persons(ledger)
    yield from _deadlines(ledger)


def _quota_counts(ledger: LedgerEvidence) -> Iterator[Violation]:
    taken: Counter[tuple[str, State]] = Counter()
    for record in ledger.reservations.values():
        taken[record.quota, record.state] += record.places
    for id_, words in ledger.impossible.items():
        yield Violation(Rule.OVERSOLD, id_, words)
    for quota in ledger.quotas.values():
        counts = quota.counts
        if counts.taken > quota.terms.capacity or min(counts.held, counts.confirmed, counts.returning) < 0:
            yield Violation(Rule.OVERSOLD, quota.id, f"{counts} of capacity {quota.terms.capacity}")
        timers = ledger.timers.get(quota.id, {})
        returning = sum(int(member.rpartition(":")[2]) for member in timers if member.startswith("+"))
        expected = (taken[quota.id, State.HELD], taken[quota.id, State.CONFIRMED], returning)
        if (counts.held, counts.confirmed, counts.returning) != expected:
            detail = f"the quota says {counts}, its reservations (held, confirmed, returning) = {expected}"
            yield Violation(Rule.COUNTS_DIFFER, quota.id, detail)
    for quota_id in {quota_id for quota_id, state in taken if state.live} - ledger.quotas.keys():
        yield Violation(Rule.COUNTS_DIFFER, quota_id, "reservations of a quota that does not exist")


def _persons(ledger: LedgerEvidence) -> Iterator[Violation]:
    live: dict[str, list[str]] = defaultdict(list)
    for reservation_id, record in ledger.reservations.items():
        if record.state.live:
            for person in record.persons:
                live[person].append(reservation_id)
    for person, ids in live.items():
        if len(ids) > 1:
            yield Violation(Rule.TWO_LIVE, person, f"live reservations {sorted(ids)}")
        if ledger.persons.get(person) not in ids:
            yield Violation(Rule.PERSONS_DIFFER, person, f"mapped to {ledger.persons.get(person)}, live in {ids}")
    for person in ledger.persons.keys() - live.keys():
        yield Violation(Rule.PERSONS_DIFFER, person, f"mapped to {ledger.persons[person]}, live nowhere")


def _deadlines(ledger: LedgerEvidence) -> Iterator[Violation]:
    holds = {(r.quota, id_): r.deadline_ms for id_, r in ledger.reservations.items() if r.state is State.HELD}
    timers = {
        (quota, member): at_ms
        for quota, members in ledger.timers.items()
        for member, at_ms in members.items()
        if not member.startswith("+")
    }
    for hold in sorted(holds.keys() | timers.keys()):
        if holds.get(hold) != timers.get(hold):
            detail = f"the hold ends at {holds.get(hold)}, its timer runs at {timers.get(hold)}"
            yield Violation(Rule.TIMER_DIFFERS, hold[1], detail)


def database_violations(ledger: LedgerEvidence, database: DatabaseEvidence) -> Iterator[Violation]:
    """What the database must have of what the ledger decided, and nothing else."""
    at, reached = ledger.position, database.position
    if at.seq and (reached is None or (reached.epoch, reached.seq) < (at.epoch, at.seq)):
        yield Violation(Rule.NOT_RECORDED, f"{at.epoch}-{at.seq}", f"the recorded position is {reached}")
    for letter in database.dead_letters:
        yield Violation(Rule.DEAD_LETTER, letter.partition(" ")[0], letter)
    yield from _bookings(ledger, database)
    yield from _doubled(database)
    yield from _booked(ledger, database)
    yield from _holds(ledger, database)
    for id_ in sorted(ledger.openings.keys() | database.openings.keys()):
        if ledger.openings.get(id_) != database.openings.get(id_):
            detail = f"the row is {database.openings.get(id_)}, the ledger has {ledger.openings.get(id_)}"
            yield Violation(Rule.OPENING_DIFFERS, id_, detail)


def _bookings(ledger: LedgerEvidence, database: DatabaseEvidence) -> Iterator[Violation]:
    confirmed = {id_: r for id_, r in ledger.reservations.items() if r.state is State.CONFIRMED}
    rows = {row.reservation_id: row for row in database.bookings if row.state == "confirmed"}
    for id_, record in confirmed.items():
        row = rows.get(id_)
        if row is None:
            yield Violation(Rule.BOOKING_MISSING, id_, f"confirmed at seq {record.seq} in {record.quota}")
        elif (row.quota, row.places) != (record.quota, record.places):
            yield Violation(Rule.BOOKING_UNKNOWN, id_, f"the row is {row}, the ledger has {record}")
    for id_ in rows.keys() - confirmed.keys():
        reservation = ledger.reservations.get(id_)
        yield Violation(Rule.BOOKING_UNKNOWN, id_, f"the ledger has {reservation.state if reservation else 'nothing'}")


def _doubled(database: DatabaseEvidence) -> Iterator[Violation]:
    confirmed = [row for row in database.bookings if row.state == "confirmed"]
    live = [applicant for applicant in database.applicants if applicant.live]
    named = {
        "reservation": Counter(row.reservation_id for row in (*confirmed, *database.holds)),
        "booking code": Counter(row.booking_code for row in confirmed),
        "person": Counter(applicant.person for applicant in live),
    }
    for what, counts in named.items():
        for subject, count in counts.items():
            if count > 1:
                yield Violation(Rule.BOOKING_DOUBLED, subject, f"the {what} is live {count} times")
    places = Counter(applicant.reservation_id for applicant in live)
    for row in (*confirmed, *database.holds):
        if places[row.reservation_id] != row.places:
            detail = f"{places[row.reservation_id]} live applicants on {row.places} places"
            yield Violation(Rule.PERSONS_DIFFER, row.reservation_id, detail)


def _booked(ledger: LedgerEvidence, database: DatabaseEvidence) -> Iterator[Violation]:
    places: Counter[str] = Counter()
    for row in database.bookings:
        if row.state == "confirmed":
            places[row.quota] += row.places
    for quota_id in sorted(database.quotas.keys() | ledger.quotas.keys()):
        capacity, booked = database.quotas.get(quota_id, (None, None))
        quota = ledger.quotas.get(quota_id)
        wanted = (quota.terms.capacity, quota.counts.confirmed) if quota else (None, None)
        if quota and quota_id in database.retired:
            yield Violation(Rule.BOOKED_DIFFERS, quota_id, "retired in the database, not in the ledger")
        elif (capacity, booked) != wanted or booked != places[quota_id]:
            detail = f"row (capacity, booked) {(capacity, booked)}, ledger {wanted}, its bookings {places[quota_id]}"
            yield Violation(Rule.BOOKED_DIFFERS, quota_id, detail)


def _holds(ledger: LedgerEvidence, database: DatabaseEvidence) -> Iterator[Violation]:
    held = {
        Row(reservation_id=id_, quota=record.quota, places=record.places)
        for id_, record in ledger.reservations.items()
        if record.state is State.HELD
    }
    for row in sorted(held ^ set(database.holds), key=lambda row: row.reservation_id):
        where = "the ledger" if row in held else "the database"
        yield Violation(Rule.HOLD_DIFFERS, row.reservation_id, f"{row} is only in {where}")
