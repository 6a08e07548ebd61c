"""What callers may ask of reservations: claim, confirm, cancel, find; and staff: set a quota.

The front and the command line come through here. Each call answers with the ledger's `Answer`; only faults raise.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from functools import cache
from typing import TypeAlias

import msgspec

from reservasi.availability import Availability
from reservasi.errors import ConfigurationError, RecordsUnavailable, ReservasiError
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.ledger.submitted import Resolve, Submitted
from reservasi.model import Answer, Cancel, Claim, Confirm, Find, Outcome, Quota, QuotaCounts, Release, SetQuota
from reservasi.programs import program_of
from reservasi.records import BookingRow, LiveRow, Records
from reservasi.sealing import TAG_CHARS, SealBroken, Sealing, program_tag

_encode = msgspec.json.Encoder().encode
ACCEPTED = frozenset({Outcome.CONFIRMED, Outcome.RELEASED, Outcome.CANCELLED, Outcome.EXISTS})  # of confirm and cancel
HEAR_WAIT_S = 0.5  # by which one front hears of the recorded position later than another, with much to spare


class Applicant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One person who needs a place, validated; `front/reading/` reads it straight out of a plain request."""

    nik: str  # 16 ASCII digits, checked
    name: str
    birth_date: date


class Contact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How to reach the group; either may be empty."""

    email: str = ""
    phone: str = ""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says who looks for the reservation that they are an applicant of, validated."""

    program: str
    nik: str
    birth_date: date
    contact: Contact  # as it was given with the claim: the address or the number, or both


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A validated request for places."""

    quota: str
    applicants: tuple[Applicant, ...]  # 1..the program's applicants_max, distinct NIKs
    contact: Contact
    idempotency_key: str
    ticket: str = ""  # of the quota's waiting room, not judged here; not part of what a replay must repeat


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a confirm or a cancel."""

    answer: Answer
    recorded: bool  # whether PostgreSQL has what was accepted: 200, else 202


ResolveChange: TypeAlias = Callable[[Change | ReservasiError], None]


class Reservations:
    """Everything a front asks of the ledger, over all programs."""

    def __init__(
        self,
        sealing: Sealing,
        availability: Availability,
        recorded: RecordedPositions,
        *,
        confirm_wait_ms: int,
        records: Records | None = None,
    ) -> None:
        """Without `records`, nothing is known of what has left the ledger."""
        self._sealing = sealing
        self._availability = availability
        self._recorded = recorded
        self._confirm_wait_s = confirm_wait_ms / 1000
        self._records = records
        self._groups: dict[str, GroupCommit] = {}
        self._programs_by_tag: dict[str, str] = {}

    def serve(self, program: str, group: GroupCommit) -> None:
        """Take commands for a program from now on.

        Raises:
            ConfigurationError: another program's reservation ids start alike, so that they could not be told apart.
        """
        tag = program_tag(program)
        other = self._programs_by_tag.get(tag, program)
        if other != program:
            raise ConfigurationError(f"programs {other!r} and {program!r} share the tag {tag!r}: rename one of them")
        self._programs_by_tag[tag] = program
        self._groups[program] = group

    def leave(self, program: str) -> None:
        """Take no more commands for a program; of one that is not served, nothing happens."""
        self._groups.pop(program, None)
        if self._programs_by_tag.get(program_tag(program)) == program:
            del self._programs_by_tag[program_tag(program)]

    def program_of(self, reservation_id: str) -> str | None:
        """The program that a reservation belongs to, by its id alone."""
        return self._programs_by_tag.get(reservation_id[:TAG_CHARS])

    async def claim(self, request: ClaimRequest) -> tuple[str, Answer]:
        """Try to take one place for each applicant.

        Returns the reservation id and an answer whose outcome is HELD, EXISTS (a replay: the first answer again),
        EXISTS_WITH_DIFFERENT_CONTENT, UNKNOWN_QUOTA, CLOSED, NOT_OPEN, DUPLICATE_APPLICANT or SOLD_OUT.

        Raises:
            Overloaded, LedgerUnreachable, LedgerFenced: nothing definite can be said; the same request may be repeated.
        """
        program = program_of(request.quota)
        persons = self.persons(program, request)
        reservation_id = self.reservation_id(program, persons, request)
        if program not in self._groups:
            return reservation_id, _without_ledger(Outcome.UNKNOWN_QUOTA)
        if self._availability.is_sold_out(request.quota, len(persons), reservation_id):
            return reservation_id, _without_ledger(Outcome.SOLD_OUT)
        command = self.prepare(request, persons, reservation_id)
        return reservation_id, await self._groups[program].submit(command)

    def serves(self, program: str) -> bool:
        """Whether commands for a program are taken."""
        return program in self._groups

    def admits_claims(self, program: str) -> bool:
        """Whether a claim in the program would be taken now, rather than refused as one too many."""
        group = self._groups.get(program)
        return group is None or group.admits_claims

    def person(self, program: str, nik: str) -> str:
        """Somebody, as the ledger knows them."""
        return self._sealing.person(program, nik)

    def persons(self, program: str, request: ClaimRequest) -> tuple[str, ...]:
        """Who the places are for, as the ledger knows them; `program` is the quota's."""
        person, applicants = self._sealing.person, request.applicants
        if len(applicants) == 1:
            return (person(program, applicants[0].nik),)
        return tuple([person(program, applicant.nik) for applicant in applicants])

    def reservation_id(self, program: str, persons: tuple[str, ...], request: ClaimRequest) -> str:
        """The id of the reservation that a request makes, the same for a replay."""
        return self._sealing.reservation_id(program, persons[0], request.idempotency_key)

    def prepare(self, request: ClaimRequest, persons: tuple[str, ...], reservation_id: str) -> Claim:
        """The command that a request stands for."""
        personal = _encode({"applicants": request.applicants, "contact": request.contact})
        return Claim(
            reservation_id=reservation_id,
            quota=request.quota,
            fingerprint=self._sealing.fingerprint(f"{request.quota}\0".encode() + personal),
            sealed=self._sealing.seal(reservation_id, personal),
            persons=persons,
        )

    def enqueue(self, program: str, command: Claim, resolve: Resolve) -> Submitted:
        """Hand a prepared claim to the next batch; `resolve` gets what `claim` returns or raises.

        Raises:
            Overloaded: too many wait: `resolve` is not called.
        """
        return self._groups[program].enqueue(command, resolve)

    def enqueue_confirm(self, reservation_id: str, payment_reference: str, resolve: ResolveChange) -> Submitted | None:
        """Make a hold permanent with the next batch, and wait a bounded time until that is recorded.

        `resolve` gets the change or the fault. Outcomes: CONFIRMED, EXISTS (it was confirmed before), HOLD_EXPIRED,
        NOT_HELD, NOT_FOUND.

        Raises:
            Overloaded: too many wait: `resolve` is not called.
        """
        program = self.program_of(reservation_id)
        if program is None:
            resolve(Change(answer=_without_ledger(Outcome.NOT_FOUND), recorded=False))
            return None

        def hear(result: Answer | ReservasiError) -> None:
            if isinstance(result, ReservasiError):
                resolve(result)
            elif result.outcome in ACCEPTED:
                self._recorded.when_recorded(
                    program,
                    result.epoch,
                    result.seq,
                    reservation_id,
                    self._confirm_wait_s,
                    lambda recorded: resolve(Change(answer=result, recorded=recorded)),
                )
            else:
                resolve(Change(answer=result, recorded=False))

        command = Confirm(reservation_id=reservation_id, payment_reference=payment_reference)
        return self._groups[program].enqueue(command, hear)

    async def confirm(self, reservation_id: str, payment_reference: str) -> Change:
        """Confirm from within a task; raises the fault."""
        changed: asyncio.Future[Change] = asyncio.get_running_loop().create_future()

        def resolve(result: Change | ReservasiError) -> None:
            if changed.done():
                return
            if isinstance(result, ReservasiError):
                changed.set_exception(result)
            else:
                changed.set_result(result)

        submitted = self.enqueue_confirm(reservation_id, payment_reference, resolve)
        try:
            return await changed
        except asyncio.CancelledError:
            if submitted is not None:
                submitted.abandon()
            raise

    async def cancel(self, reservation_id: str, *, by_staff: bool = False, actor: str = "", reason: str = "") -> Change:
        """End a reservation, and wait as for a confirm: a hold is released, a confirmed one is cancelled.

        Outcomes: RELEASED, CANCELLED, EXISTS (it was ended so before; `state` says how), HOLD_EXPIRED, TOO_LATE,
        NOT_FOUND.
        """
        program = self.program_of(reservation_id)
        if program is None:
            return Change(answer=_without_ledger(Outcome.NOT_FOUND), recorded=False)
        group = self._groups[program]
        answer = await end_reservation(group, reservation_id, by_staff=by_staff, actor=actor, reason=reason)
        return await until_recorded(self._recorded, program, reservation_id, answer, self._confirm_wait_s)

    async def find(self, reservation_id: str) -> Answer:
        """Look a reservation up: FOUND (state, quota, places, deadline) or NOT_FOUND."""
        program = self.program_of(reservation_id)
        if program is None:
            return _without_ledger(Outcome.NOT_FOUND)
        return await self._groups[program].submit(Find(reservation_id=reservation_id))

    def enqueue_find(self, reservation_id: str, resolve: Resolve) -> Submitted | None:
        """As `find`, without a task: `resolve` gets what it returns or raises.

        Raises:
            Overloaded: too many wait: `resolve` is not called.
        """
        program = self.program_of(reservation_id)
        if program is None:
            resolve(_without_ledger(Outcome.NOT_FOUND))
            return None
        return self._groups[program].enqueue(Find(reservation_id=reservation_id), resolve)

    async def live_reservation_of(self, proof: Proof) -> str | None:
        """The live reservation of whoever proves to be one of its applicants, as the records have it.

        None alike where there is none, where the birth date or the contact is another, and where no contact was given.

        Raises:
            RecordsUnavailable: nobody knows.
        """
        person = self._sealing.person(proof.program, proof.nik)
        found = await self._records.live_of(proof.program, person) if self._records else None
        if found is None:
            return None
        reservation_id, sealed = found
        try:
            personal = _decode_personal(self._sealing.open(reservation_id, sealed))
        except (SealBroken, msgspec.MsgspecError):  # it was lost, or its key was: nothing can be proven
            return None
        return reservation_id if _proves(proof, personal) else None

    async def past_booking(self, reservation_id: str) -> BookingRow | None:
        """A confirmed reservation whose date has passed, as the records keep it.

        Raises:
            RecordsUnavailable: nobody knows.
        """
        booking = await self._records.booking(reservation_id) if self._records else None
        return booking if booking and booking.retired_at_ms else None

    def known_quota(self, quota_id: str) -> Quota | None:
        """A quota as memory knows it."""
        return self._availability.quota(quota_id)

    async def quota(self, quota_id: str) -> Quota | None:
        """A quota: from memory, else from the records, which keep those whose window is over.

        Raises:
            RecordsUnavailable: memory lacks it, and nobody else knows.
        """
        known = self._availability.quota(quota_id)
        if known is not None or self._records is None:
            return known
        row = await self._records.quota_row(program_of(quota_id), quota_id)
        return Quota(id=row.id, terms=row.terms, counts=QuotaCounts(version=row.version)) if row else None

    async def live_in(self, program: str, quotas: Sequence[str], answer: Answer) -> list[LiveRow]:
        """Who is held or confirmed in these quotas, once the records have all up to that answer.

        Raises:
            RecordsUnavailable: nobody knows yet.
        """
        waited = await self._recorded.wait(program, answer.epoch, answer.seq, "", self._confirm_wait_s)
        if self._records is None or not waited:
            raise RecordsUnavailable(f"the records of {program} do not have the change yet")
        return await self._records.live_in(program, quotas)

    def when_known_recorded(self, reservation_id: str, answer: Answer, resolve: Callable[[bool], None]) -> None:
        """Whether PostgreSQL has the change that an answer of `find` speaks of.

        Waits a moment: another front may have told the person already, before this one heard of it.
        """
        program = self.program_of(reservation_id)
        if program is None:
            resolve(False)
        else:
            self._recorded.when_recorded(program, answer.epoch, answer.seq, reservation_id, HEAR_WAIT_S, resolve)

    async def set_quota(self, command: SetQuota) -> Answer:
        """Create or change a quota.

        Outcomes: QUOTA_SET, EXISTS (nothing to change), EXISTS_WITH_DIFFERENT_CONTENT, UNKNOWN_QUOTA, BELOW_TAKEN,
        WINDOW_REVERSED, VERSION_MISMATCH.
        """
        group = self._groups.get(program_of(command.quota))
        if group is None:
            return _without_ledger(Outcome.UNKNOWN_QUOTA)
        return await group.submit(command)

    def manage_token(self, reservation_id: str) -> str:
        """The bearer secret of a reservation: derived, so that a replay returns it again."""
        return self._sealing.manage_token(reservation_id)

    def holds_manage_token(self, reservation_id: str, token: str) -> bool:
        """Whether `token` is the reservation's bearer secret, compared in constant time."""
        return self._sealing.holds_manage_token(reservation_id, token)

    def booking_code(self, reservation_id: str) -> str:
        """What the person shows at the counter, such as `K7QF-3M2P-XW8D`."""
        return self._sealing.booking_code(reservation_id)


class _Personal(msgspec.Struct, frozen=True, kw_only=True):
    """What the envelope of a claim holds."""

    applicants: tuple[Applicant, ...]
    contact: Contact


_decode_personal = msgspec.json.Decoder(_Personal).decode


def _proves(proof: Proof, personal: _Personal) -> bool:
    """Whether one of the applicants is meant, and the group's contact is known: of two that are said, both."""
    said, given = proof.contact, personal.contact
    is_applicant = any((each.nik, each.birth_date) == (proof.nik, proof.birth_date) for each in personal.applicants)
    is_known = (said.email or said.phone) and (
        (not said.email or said.email.casefold() == given.email.casefold())
        and (not said.phone or _digits(said.phone) == _digits(given.phone))
    )
    return is_applicant and bool(is_known)


def _digits(phone: str) -> str:
    """A number as it is dialled within Indonesia, however it was written."""
    digits = "".join(filter(str.isdigit, phone))
    return f"0{digits[2:]}" if digits.startswith("62") else digits


async def end_reservation(
    group: GroupCommit, reservation_id: str, *, by_staff: bool, actor: str = "", reason: str = ""
) -> Answer:
    """End a reservation of the group's program, whatever its state; outcomes as of `Reservations.cancel`."""
    cancel = Cancel(reservation_id=reservation_id, by_staff=by_staff, actor=actor, reason=reason)
    # A hold may be confirmed between the two questions, but never becomes a hold again: three are enough.
    answer = await group.submit(cancel)
    if answer.outcome is Outcome.NOT_CONFIRMED:
        answer = await group.submit(Release(reservation_id=reservation_id, actor=actor, reason=reason))
    if answer.outcome is Outcome.NOT_HELD:
        answer = await group.submit(cancel)
    return answer


async def until_recorded(
    positions: RecordedPositions, program: str, reservation_id: str, answer: Answer, timeout_s: float
) -> Change:
    """Wait so long for the record of what a confirm or a cancel did; a refusal has none."""
    recorded = answer.outcome in ACCEPTED and await positions.wait(
        program, answer.epoch, answer.seq, reservation_id, timeout_s
    )
    return Change(answer=answer, recorded=recorded)


@cache
def _without_ledger(outcome: Outcome) -> Answer:
    """A refusal that needs no ledger call, and so has no place in its history."""
    return Answer(outcome=outcome, epoch=0, seq=0, now_ms=0)
