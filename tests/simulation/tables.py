"""One program's rows, as `records/writes.py` and PostgreSQL's constraints leave them."""

from collections.abc import Callable

from reservasi.model import Opening, QuotaTerms, State
from reservasi.records.effects import Effects, Life, Unapplicable

BookingCode = Callable[[str], str]


class Tables:
    """One program's rows."""

    def __init__(self) -> None:
        self.terms: dict[str, QuotaTerms] = {}  # of quotas in the ledger
        self.retired: dict[str, int] = {}  # the others, and when they left it
        self.booked: dict[str, int] = {}
        self.holds: dict[str, Life] = {}
        self.bookings: dict[tuple[str, int, int], tuple[Life, str]] = {}  # as they were held -> row, booking code
        self.persons: dict[str, tuple[str, ...]] = {}  # of live reservations
        self.openings: dict[str, Opening] = {}

    def copy(self) -> "Tables":
        """A transaction's own."""
        copy = Tables()
        copy.__dict__.update({name: dict(rows) for name, rows in vars(self).items()})
        return copy

    def apply(self, effects: Effects, booking_code: BookingCode) -> None:
        """Write what a batch leads to, in the order of `records/writes.py`.

        Raises:
            Unapplicable: a row is missing, or a promise would be broken.
        """
        for life in effects.ended_holds:
            self._take_hold(life)
            del self.persons[life.reservation_id]
        for life in effects.moved:
            hold = self._take_hold(life)
            self._add_booking(hold, booking_code)
        for life in (*effects.ended_bookings, *effects.ended_at_once, *effects.retired):
            self._end_booking(life)
        for life in effects.new_holds:
            self._need(life.reservation_id not in self.holds)
            self.holds[life.reservation_id] = life
            self._add_persons(life)
        for life in effects.new_bookings:
            self._add_booking(life, booking_code)
            if life.ended is None:
                self._add_persons(life)
            else:
                self._end_booking_row(life)
        self._apply_quotas(effects)
        for opening_id in effects.retired_openings:
            self._need(self.openings.pop(opening_id, None) is not None)
        for opening_id, change in effects.openings.items():
            self._apply_opening(change.opening)
            if change.retired_at_ms:
                del self.openings[opening_id]

    def _apply_quotas(self, effects: Effects) -> None:
        for quota, change in effects.quotas.items():
            if change.terms is not None:
                self.terms[quota] = change.terms
            self._need(quota in self.terms)
            self.booked[quota] = self.booked.get(quota, 0) + change.booked_delta
            self._need(0 <= self.booked[quota] <= self.terms[quota].capacity)
            if change.retired_at_ms:
                del self.terms[quota]
                self.retired[quota] = change.retired_at_ms
        self._need(effects.quotas_held <= self.terms.keys())

    def _apply_opening(self, now: Opening) -> None:
        before = self.openings.get(now.id, now)
        self._need(before.terms.commitment == now.terms.commitment and before.beacon in ("", now.beacon))
        self._need(before.admitted_through <= now.admitted_through and before.arrived <= now.arrived)
        self._need(not before.drawn or (now.drawn and now.joined == before.joined))
        self._need(now.cancelled or not before.cancelled)
        self.openings[now.id] = now

    def _need(self, condition: bool) -> None:
        if not condition:
            raise Unapplicable("nothing recorded fits this change")

    def _take_hold(self, life: Life) -> Life:
        hold = self.holds.pop(life.reservation_id, None)
        if hold is None or (hold.quota, hold.places) != (life.quota, life.places):
            raise Unapplicable("no such hold")
        return hold

    def _add_booking(self, life: Life, booking_code: BookingCode) -> None:
        assert life.held is not None
        key = (life.reservation_id, life.held_epoch, life.held.seq)
        self._need(key not in self.bookings)
        self.bookings[key] = (_confirmed(life), booking_code(life.reservation_id))

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
        self.bookings[live[0]] = (_with_state(row, life), code)


def _confirmed(life: Life) -> Life:
    return Life(life.reservation_id, life.quota, life.places, life.held, life.held_epoch, state=State.CONFIRMED)


def _with_state(row: Life, ended: Life) -> Life:
    return Life(row.reservation_id, row.quota, row.places, row.held, row.held_epoch, state=ended.state)
