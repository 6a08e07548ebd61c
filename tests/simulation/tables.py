"""One program's rows, as `records/writes.py` and PostgreSQL's constraints leave them."""

from collections.abc import Callable, Iterator

import msgspec

from reservasi.contents import KeptReservation
from reservasi.model import Opening, State
from reservasi.records import QuotaRow
from reservasi.records.difference import Row, Rows
from reservasi.records.effects import ENDED_BOOKING, Effects, Life, QuotaChange, Unapplicable

BookingCode = Callable[[str], str]


class Tables:
    """One program's rows."""

    def __init__(self) -> None:
        self.quotas: dict[str, QuotaRow] = {}
        self.holds: dict[str, Life] = {}
        self.bookings: dict[tuple[str, int, int], tuple[Life, str]] = {}  # as they were held -> row, booking code
        self.persons: dict[str, tuple[str, ...]] = {}  # of live reservations
        self.openings: dict[str, Opening] = {}

    def copy(self) -> "Tables":
        """A transaction's own."""
        copy = Tables()
        copy.__dict__.update({name: dict(rows) for name, rows in vars(self).items()})
        return copy

    def quotas_in_ledger(self) -> Iterator[QuotaRow]:
        """Those that are not retired."""
        return (row for row in self.quotas.values() if not row.retired_at_ms)

    def live(self) -> Iterator[Life]:
        """What is held or confirmed."""
        yield from self.holds.values()
        yield from (life for life, _ in self.bookings.values() if life.state is State.CONFIRMED)

    def rows(self) -> Rows:
        """What a ledger is compared with."""
        bookings = [life for life, _ in self.bookings.values()]
        return Rows(
            holds=[_row(life) for life in self.holds.values()],
            bookings=[_row(life) for life in bookings if life.state is State.CONFIRMED],
            past={(life.reservation_id, _held_seq(life)) for life in bookings if life.state in ENDED_BOOKING},
            booked={row.id: (row.booked, row.retired_at_ms) for row in self.quotas.values()},
            openings=list(self.openings),
        )

    def apply(self, effects: Effects, booking_code: BookingCode) -> None:
        """Write what a batch leads to, in the order of `records/writes.py`.

        Raises:
            Unapplicable: a row is missing, or a promise would be broken.
        """
        for life in effects.ended_holds:
            self._take_hold(life)
            del self.persons[life.reservation_id]
        for life in effects.moved:
            self._add_booking(_moved(self._take_hold(life), life), booking_code)
        for life in (*effects.ended_bookings, *effects.ended_at_once, *effects.retired):
            self._end_booking(life)
        for life in effects.new_holds:
            self._need(life.reservation_id not in self.holds)
            self.holds[life.reservation_id] = life
            self._add_persons(life)
        for life in effects.new_bookings:
            self._add_booking(_moved(life, life), booking_code)
            if life.ended is None:
                self._add_persons(life)
            else:
                self._end_booking_row(life)
        for quota, change in effects.quotas.items():
            self._apply_quota(quota, change)
        self._need(effects.quotas_held <= {row.id for row in self.quotas_in_ledger()})
        for opening_id in effects.retired_openings:
            self._need(self.openings.pop(opening_id, None) is not None)
        for opening_id, opened in effects.openings.items():
            self._apply_opening(opened.opening)
            if opened.retired_at_ms:
                del self.openings[opening_id]

    def _apply_quota(self, id_: str, change: QuotaChange) -> None:
        row = self.quotas.get(id_)
        if change.terms is not None:
            booked = row.booked if row else 0
            row = QuotaRow(id=id_, terms=change.terms, booked=booked, version=change.version, imported=change.imported)
        if row is None or row.retired_at_ms:
            raise Unapplicable("no such quota")
        booked = row.booked + change.booked_delta
        self._need(0 <= booked <= row.terms.capacity)
        self.quotas[id_] = msgspec.structs.replace(row, booked=booked, retired_at_ms=change.retired_at_ms)

    def _apply_opening(self, now: Opening) -> None:
        before = self.openings.get(now.id, now)
        self._need(before.terms.commitment == now.terms.commitment and before.beacon in ("", now.beacon))
        self._need(before.admitted_through <= now.admitted_through and before.arrived <= now.arrived)
        self._need(not before.drawn or (now.drawn and now.joined == before.joined))
        self._need(now.cancelled or not before.cancelled)
        self.openings[now.id] = now

    def _need(self, condition: bool) -> None:
        if not condition:
            raise Unapplicable("no recorded row fits this change")

    def _take_hold(self, life: Life) -> Life:
        hold = self.holds.pop(life.reservation_id, None)
        if hold is None or (hold.quota, hold.places) != (life.quota, life.places):
            raise Unapplicable("no such hold")
        return hold

    def _add_booking(self, life: Life, booking_code: BookingCode) -> None:
        key = (life.reservation_id, life.held_epoch, _held_seq(life))
        self._need(key not in self.bookings)
        self.bookings[key] = (life, booking_code(life.reservation_id))

    def _add_persons(self, life: Life) -> None:
        assert life.held is not None
        live = {person for persons in self.persons.values() for person in persons}
        self._need(not live & set(life.held.persons) and life.reservation_id not in self.persons)
        self.persons[life.reservation_id] = life.held.persons

    def _end_booking(self, life: Life) -> None:
        self._end_booking_row(life)
        self._need(self.persons.pop(life.reservation_id, None) is not None)

    def _end_booking_row(self, life: Life) -> None:
        live = [key for key, (row, _) in self.bookings.items() if key[0] == life.reservation_id and row.state.live]
        self._need(len(live) == 1)
        row, code = self.bookings[live[0]]
        self._need((row.quota, row.places) == (life.quota, life.places))
        self.bookings[live[0]] = (_with(row, life, state=life.state, ended_at_ms=life.ended_at_ms), code)


def kept(life: Life, state: State) -> KeptReservation:
    """A row as a ledger is loaded with it."""
    assert life.held is not None
    return KeptReservation(
        quota=life.quota,
        state=state,
        fingerprint=life.held.fingerprint,
        deadline_ms=life.held.deadline_ms,
        held_seq=life.held.seq,
        seq=life.seq,
        reference=life.confirmed.payment_reference if life.confirmed else "",
        persons=life.held.persons,
    )


def _held_seq(life: Life) -> int:
    assert life.held is not None
    return life.held.seq


def _row(life: Life) -> Row:
    assert life.held is not None
    return Row(life.reservation_id, life.quota, life.places, life.held.fingerprint, life.held_epoch, life.held.seq)


def _moved(hold: Life, life: Life) -> Life:
    """The booking that a hold becomes, as it is before it ends."""
    return _with(hold, life, state=State.CONFIRMED, ended_at_ms=0)


def _with(row: Life, life: Life, *, state: State, ended_at_ms: int) -> Life:
    """A row after what a batch did to it."""
    return Life(
        row.reservation_id,
        row.quota,
        row.places,
        row.held,
        row.held_epoch,
        row.held_at_ms,
        life.epoch,
        life.seq,
        state,
        life.confirmed or row.confirmed,
        life.confirmed_at_ms or row.confirmed_at_ms,
        None,
        ended_at_ms,
    )
