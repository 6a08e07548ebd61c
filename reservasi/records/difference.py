"""The difference between a ledger and the rows of records that are an older copy, as the effects of one batch. No
writes.

A row and a reservation of the ledger are the same reservation if both id and seq of the hold agree. The same id with
another seq is a later reservation, which began after the first one had ended.
"""

from collections.abc import Iterable, Sequence

import msgspec

from reservasi.contents import (
    DIGEST_ONLY,
    Confirmation,
    EndedReservation,
    KeptReservation,
    LedgerState,
    can_be_recorded,
)
from reservasi.errors import RebuildRefused
from reservasi.events import Confirmed, Ended, Held, JournalEntry, OpeningSet, QuotaSet
from reservasi.model import APPLICANTS_MAX, State
from reservasi.records.effects import Effects, Life, NamedChange, OpeningChange, QuotaChange
from reservasi.records.openings import load_openings
from reservasi.records.pool import Connection

LIVE_HOLDS = """
SELECT reservation_id, quota, places, fingerprint, epoch AS held_epoch, seq AS held_seq FROM holds WHERE program = $1
"""
LIVE_BOOKINGS = """
SELECT reservation_id, quota, places, fingerprint, held_epoch, held_seq FROM bookings
WHERE program = $1 AND state = 'confirmed' AND retired_at_ms = 0
"""
PAST_BOOKINGS = """
SELECT reservation_id, held_seq FROM bookings
WHERE program = $1 AND reservation_id = ANY($2::text[]) AND (state <> 'confirmed' OR retired_at_ms > 0)
"""
BOOKED = "SELECT id, booked, retired_at_ms FROM quotas WHERE program = $1"
ENVELOPE, REFERENCE, TIMES = "envelope", "payment_reference", "times"  # parts that a row may lack


class Row(msgspec.Struct, frozen=True):
    """A live reservation in the records."""

    reservation_id: str
    quota: str
    places: int
    fingerprint: str
    held_epoch: int
    held_seq: int


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a program that are compared with its ledger."""

    holds: list[Row]
    bookings: list[Row]
    past: set[tuple[str, int]]  # bookings that ended or retired: reservation id and seq of the hold
    booked: dict[str, tuple[int, int]]  # quota -> (booked, time of retirement)
    openings: list[str]


async def read_rows(connection: Connection, program: str, state: LedgerState) -> Rows:
    """The rows as they are now."""
    ids = list({*state.live, *state.ended})
    return Rows(
        holds=[Row(*row.values()) for row in await connection.fetch(LIVE_HOLDS, program)],
        bookings=[Row(*row.values()) for row in await connection.fetch(LIVE_BOOKINGS, program)],
        past={(row[0], row[1]) for row in await connection.fetch(PAST_BOOKINGS, program, ids)},
        booked={row[0]: (row[1], row[2]) for row in await connection.fetch(BOOKED, program)},
        openings=[opening.id for opening in await load_openings(connection, program)],
    )


class Difference:
    """What the ledger has and the rows lack, and the reverse."""

    def __init__(self, state: LedgerState, rows: Rows, forgotten_ms: int) -> None:
        self.lacking: dict[tuple[str, int, int], str] = {}
        self.left_out = len(state.unreadable)
        self._state = state
        self._forgotten_ms = forgotten_ms
        self._holds = {row.reservation_id: row for row in rows.holds}
        self._bookings = {row.reservation_id: row for row in rows.bookings}
        self._past = set(rows.past)
        self._booked = rows.booked
        self._openings = rows.openings
        self._quotas = {quota.id: quota for quota in state.quotas}
        self.new_bookings: list[Life] = []
        self.new_holds: list[Life] = []
        self.moved: list[Life] = []
        self.ended: list[Life] = []  # holds and bookings

    def effects(self) -> Effects:
        """The whole difference, as a batch of the journal would have caused it."""
        effects = Effects(named=list(_named(self._state.entries)))
        booked = dict.fromkeys(self._quotas, 0)
        for id_ in self._state.unreadable:
            self._leave(id_)
        for id_, kept in self._state.live.items():
            if not can_be_recorded(kept, self._quotas):
                self.left_out += 1
                self._leave(id_)
                continue
            if kept.state is State.CONFIRMED:
                booked[kept.quota] += kept.places
            self._follow(effects, id_, kept)
        for row in (*self._holds.values(), *self._bookings.values()):
            self._end(effects, row)
        for id_, ended in self._state.ended.items():
            self._remember(effects, id_, ended)
        self._set_quotas(effects, booked)
        self._set_openings(effects)
        return effects

    def _leave(self, id_: str) -> None:
        """Keep the row as it is: its state cannot be determined."""
        self._holds.pop(id_, None)
        self._bookings.pop(id_, None)

    def _follow(self, effects: Effects, id_: str, kept: KeptReservation) -> None:
        """Record a live reservation of the ledger; its row, if it exists, is taken out of the pending rows."""
        hold, booking = self._holds.get(id_), self._bookings.get(id_)
        if kept.state is State.HELD and _is_same(hold, kept):
            del self._holds[id_]
        elif kept.state is State.CONFIRMED and _is_same(booking, kept):
            del self._bookings[id_]
        elif kept.state is State.CONFIRMED and hold and _is_same(hold, kept):
            life = self._confirmed(self._of_row(hold), kept)
            effects.moved.append(life)
            self.moved.append(life)
            del self._holds[id_]
        elif kept.state is State.CONFIRMED:
            life = self._confirmed(self._new(id_, kept), kept)
            effects.new_bookings.append(life)
            self.new_bookings.append(life)
        else:
            life = self._new(id_, kept)
            effects.new_holds.append(life)
            self.new_holds.append(life)

    def _end(self, effects: Effects, row: Row) -> None:
        """Record the end of a reservation whose row is live."""
        is_hold = self._holds.get(row.reservation_id) is row
        ended = self._state.ended.get(row.reservation_id)
        if ended is not None and not _is_same(row, ended.reservation):
            ended = None
        life = self._of_row(row)
        self.ended.append(life)
        if is_hold and (ended is None or ended.reservation.state not in (State.CANCELLED, State.RETIRED)):
            effects.ended_holds.append(life)
            return
        if is_hold and ended is not None:
            self._confirmed(life, ended.reservation)
            effects.moved.append(life)
        self._close(life, ended)
        if life.state is State.RETIRED:
            effects.retired.append(life)
        else:
            (effects.ended_at_once if is_hold else effects.ended_bookings).append(life)
        self._past.add((row.reservation_id, row.held_seq))

    def _remember(self, effects: Effects, id_: str, ended: EndedReservation) -> None:
        """Record a booking that began and ended while the records were behind."""
        kept = ended.reservation
        was_booked = kept.state in (State.CANCELLED, State.RETIRED)
        if not was_booked or (id_, kept.held_seq) in self._past or not 1 <= kept.places <= APPLICANTS_MAX:
            return
        life = self._confirmed(self._new(id_, kept), kept)
        self._close(life, ended)
        effects.new_bookings.append(life)
        self.ended.append(life)

    def _of_row(self, row: Row) -> Life:
        return Life(row.reservation_id, row.quota, row.places, None, row.held_epoch)

    def _new(self, id_: str, kept: KeptReservation) -> Life:
        epoch = self._state.epoch_of(kept.held_seq)
        envelope = self._state.envelopes.get((id_, kept.held_seq))
        held_at_ms = envelope.held_at_ms if envelope else self._held_about_ms(kept)
        if envelope is None:
            self._lacks(id_, epoch, kept.held_seq, ENVELOPE, TIMES)
        held = Held(
            seq=kept.held_seq,
            reservation_id=id_,
            quota=kept.quota,
            deadline_ms=kept.deadline_ms,
            fingerprint=kept.fingerprint,
            sealed=envelope.sealed if envelope else "",
            persons=kept.persons,
        )
        return Life(id_, kept.quota, kept.places, held, epoch, held_at_ms, epoch, kept.held_seq)

    def _held_about_ms(self, kept: KeptReservation) -> int:
        quota = self._quotas.get(kept.quota)
        return max(0, kept.deadline_ms - (quota.terms.hold_ms if quota else 0))

    def _confirmed(self, life: Life, kept: KeptReservation) -> Life:
        """Confirm a reservation; where time or payment reference are unknown, with what the ledger still has."""
        confirmation = self._confirmation(life.reservation_id, kept)
        if confirmation is None:
            reference = DIGEST_ONLY + kept.reference if kept.reference else ""
            missing = (REFERENCE, TIMES) if reference else (TIMES,)
            self._lacks(life.reservation_id, life.held_epoch, kept.held_seq, *missing)
            confirmation = Confirmation(payment_reference=reference, confirmed_at_ms=self._held_about_ms(kept))
        life.state, life.confirmed_at_ms = State.CONFIRMED, confirmation.confirmed_at_ms
        life.epoch, life.seq = self._state.epoch_of(kept.seq), kept.seq
        life.confirmed = Confirmed(
            seq=kept.seq,
            reservation_id=life.reservation_id,
            quota=life.quota,
            places=life.places,
            payment_reference=confirmation.payment_reference,
        )
        return life

    def _confirmation(self, id_: str, kept: KeptReservation) -> Confirmation | None:
        if kept.state is State.CONFIRMED:
            return self._state.confirmations.get((id_, kept.seq))
        seqs = [seq for of, seq in self._state.confirmations if of == id_ and kept.held_seq < seq < kept.seq]
        return self._state.confirmations[id_, max(seqs)] if seqs else None

    def _close(self, life: Life, ended: EndedReservation | None) -> None:
        """Record how and when a booking ended. If the ledger has forgotten it, this follows from whether its quota
        still exists.
        """
        if ended is not None:
            state, at_ms, seq = ended.reservation.state, ended.ended_at_ms, ended.reservation.seq
        else:
            state = State.CANCELLED if life.quota in self._quotas else State.RETIRED
            at_ms = self._state.retired_quotas.get(life.quota, self._forgotten_ms)
            at_ms, seq = (self._forgotten_ms if state is State.CANCELLED else at_ms), self._state.position.seq
        life.state, life.ended_at_ms = state, at_ms
        life.epoch, life.seq = self._state.epoch_of(seq), seq
        life.ended = Ended(
            seq=seq,
            state=state,
            reservation_id=life.reservation_id,
            quota=life.quota,
            places=life.places,
            returns_at_ms=next((each.at_ms for each in self._state.returning if each.seq == seq), 0),
        )

    def _lacks(self, id_: str, epoch: int, held_seq: int, *what: str) -> None:
        before = self.lacking.get((id_, epoch, held_seq), "")
        self.lacking[id_, epoch, held_seq] = ",".join(sorted({*filter(None, before.split(",")), *what}))

    def _set_quotas(self, effects: Effects, booked: dict[str, int]) -> None:
        for id_, quota in self._quotas.items():
            effects.quotas[id_] = QuotaChange(
                booked_delta=booked[id_] - self._booked.get(id_, (0, 0))[0],
                terms=quota.terms,
                version=quota.counts.version,
                imported=quota.imported,
            )
        for id_, (places, retired_at_ms) in self._booked.items():
            if id_ not in self._quotas and not retired_at_ms and id_ not in self._state.unreadable:
                at_ms = self._state.retired_quotas.get(id_, self._forgotten_ms)
                effects.quotas[id_] = QuotaChange(booked_delta=-places, retired_at_ms=at_ms)

    def _set_openings(self, effects: Effects) -> None:
        here = {opening.id for opening in self._state.openings}
        at = self._state.position
        effects.retired_openings = {
            id_: self._forgotten_ms for id_ in self._openings if id_ not in here and id_ not in self._state.unreadable
        }
        effects.openings = {each.id: OpeningChange(each, at.epoch, at.seq) for each in self._state.openings}


def _is_same(row: Row | None, kept: KeptReservation) -> bool:
    """Whether a row belongs to this hold; another hold under the same id began after the first one had ended.

    Raises:
        RebuildRefused: the row has the same seq and other content.
    """
    if row is None or row.held_seq != kept.held_seq:
        return False
    if (row.quota, row.places, row.fingerprint) != (kept.quota, kept.places, kept.fingerprint):
        raise RebuildRefused(
            f"ledger and records have different reservations under {row.reservation_id} at seq {row.held_seq}: the "
            "records have another history and are not an older copy; nothing was changed"
        )
    return True


def _named(entries: Sequence[JournalEntry]) -> Iterable[NamedChange]:
    """Changes with an actor that the journal still has, for the audit table."""
    for entry in entries:
        for event in entry.events:
            if isinstance(event, Ended | QuotaSet | OpeningSet) and (event.actor or event.reason):
                yield NamedChange(entry.epoch, entry.at_ms, event)
