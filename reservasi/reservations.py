"""Operations on reservations: claim, confirm, cancel, find; for staff, set a quota.

Used by the front and the command line. Each call returns the ledger's `Answer`; only faults raise.
"""

import asyncio
import contextlib
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
HEAR_WAIT_S = 0.5  # longer than the delay between fronts in getting the recorded position


class Applicant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One person who needs a place, validated; `front/reading/` decodes it directly from a plain request."""

    nik: str  # 16 ASCII digits, checked
    name: str
    birth_date: date


class Contact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Contact data of the group; either may be empty."""

    email: str = ""
    phone: str = ""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a person who looks for their reservation states about themselves, validated."""

    program: str
    nik: str
    birth_date: date
    contact: Contact  # as given with the claim: the address, the number, or both


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A validated request for places."""

    quota: str
    applicants: tuple[Applicant, ...]  # 1..the program's applicants_max, distinct NIKs
    contact: Contact
    idempotency_key: str
    ticket: str = ""  # of the quota's waiting room; not checked here, and not part of the fingerprint


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a confirm or a cancel."""

    answer: Answer
    recorded: bool  # whether PostgreSQL has the accepted change: 200, else 202


ResolveChange: TypeAlias = Callable[[Change | ReservasiError], None]


class Reservations:
    """All operations of a front on reservations, over all programs."""

    def __init__(
        self,
        sealing: Sealing,
        availability: Availability,
        recorded: RecordedPositions,
        *,
        confirm_wait_ms: int,
        records: Records | None = None,
    ) -> None:
        """Without `records`, reservations that have left the ledger cannot be found."""
        self._sealing = sealing
        self._availability = availability
        self._recorded = recorded
        self._confirm_wait_s = confirm_wait_ms / 1000
        self._records = records
        self._groups: dict[str, GroupCommit] = {}
        self._programs_by_tag: dict[str, str] = {}

    def serve(self, program: str, group: GroupCommit) -> None:
        """Accept commands for a program from now on.

        Raises:
            ConfigurationError: another program's reservation ids have the same tag, so that they could not be
                distinguished.
        """
        tag = program_tag(program)
        other = self._programs_by_tag.get(tag, program)
        if other != program:
            raise ConfigurationError(f"programs {other!r} and {program!r} share the tag {tag!r}: rename one of them")
        self._programs_by_tag[tag] = program
        self._groups[program] = group

    def leave(self, program: str) -> None:
        """Stop accepting commands for a program; has no effect if it is not served."""
        self._groups.pop(program, None)
        if self._programs_by_tag.get(program_tag(program)) == program:
            del self._programs_by_tag[program_tag(program)]

    def program_of(self, reservation_id: str) -> str | None:
        """The program of a reservation id."""
        return self._programs_by_tag.get(reservation_id[:TAG_CHARS])

    async def claim(self, request: ClaimRequest) -> tuple[str, Answer]:
        """Claim one place for each applicant.

        Returns the reservation id and an answer whose outcome is HELD, EXISTS (a replay: the first answer again),
        EXISTS_WITH_DIFFERENT_CONTENT, UNKNOWN_QUOTA, CLOSED, NOT_OPEN, DUPLICATE_APPLICANT or SOLD_OUT.

        Raises:
            Overloaded, LedgerUnreachable, LedgerFenced: the result is unknown; the same request may be repeated.
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
        """Whether commands for a program are accepted."""
        return program in self._groups

    def admits_claims(self, program: str) -> bool:
        """Whether the queue has room for a claim in the program."""
        group = self._groups.get(program)
        return group is None or group.admits_claims

    def person(self, program: str, nik: str) -> str:
        """A person's keyed hash in the program."""
        return self._sealing.person(program, nik)

    def persons(self, program: str, request: ClaimRequest) -> tuple[str, ...]:
        """The keyed hashes of the applicants; `program` is the quota's."""
        person, applicants = self._sealing.person, request.applicants
        if len(applicants) == 1:
            return (person(program, applicants[0].nik),)
        return tuple([person(program, applicant.nik) for applicant in applicants])

    def reservation_id(self, program: str, persons: tuple[str, ...], request: ClaimRequest) -> str:
        """The id of the reservation that a request makes; the same for a replay."""
        return self._sealing.reservation_id(program, persons[0], request.idempotency_key)

    def prepare(self, request: ClaimRequest, persons: tuple[str, ...], reservation_id: str) -> Claim:
        """The ledger command of a request."""
        personal = _encode({"applicants": request.applicants, "contact": request.contact})
        return Claim(
            reservation_id=reservation_id,
            quota=request.quota,
            fingerprint=self._sealing.fingerprint(f"{request.quota}\0".encode() + personal),
            sealed=self._sealing.seal(reservation_id, personal),
            persons=persons,
        )

    def enqueue(self, program: str, command: Claim, resolve: Resolve) -> Submitted:
        """Queue a prepared claim for the next batch; `resolve` gets what `claim` returns or raises.

        Raises:
            Overloaded: the queue is full; `resolve` is not called.
        """
        return self._groups[program].enqueue(command, resolve)

    def enqueue_confirm(self, reservation_id: str, payment_reference: str, resolve: ResolveChange) -> Submitted | None:
        """Make a hold permanent with the next batch, and wait a bounded time until that is recorded.

        `resolve` gets the change or the exception. Outcomes: CONFIRMED, EXISTS (it was confirmed before), HOLD_EXPIRED,
        NOT_HELD, NOT_FOUND.

        Raises:
            Overloaded: the queue is full; `resolve` is not called.
        """
        program = self.program_of(reservation_id)
        if program is None:
            resolve(Change(answer=_without_ledger(Outcome.NOT_FOUND), recorded=False))
            return None

        def on_result(result: Answer | ReservasiError) -> None:
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
        return self._groups[program].enqueue(command, on_result)

    async def confirm(self, reservation_id: str, payment_reference: str) -> Change:
        """`enqueue_confirm` for a task; raises the exception."""
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

        Outcomes: RELEASED, CANCELLED, EXISTS (it had already ended; `state` says how), HOLD_EXPIRED, TOO_LATE,
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
        """Like `find`, without a task: `resolve` gets the result or the exception.

        Raises:
            Overloaded: the queue is full; `resolve` is not called.
        """
        program = self.program_of(reservation_id)
        if program is None:
            resolve(_without_ledger(Outcome.NOT_FOUND))
            return None
        return self._groups[program].enqueue(Find(reservation_id=reservation_id), resolve)

    async def live_reservation_of(self, proof: Proof) -> str | None:
        """The recorded live reservation of a person who proves to be one of its applicants.

        None if there is none, if the birth date or the contact differs, or if the claim had no contact. Before that,
        the records get a moment to catch up with a claim that was just accepted.

        Raises:
            RecordsUnavailable: the records do not answer.
        """
        found = await self._proven(proof)
        if found is None and await self._are_records_complete(proof.program):
            found = await self._proven(proof)
        return found

    async def _are_records_complete(self, program: str) -> bool:
        """Wait a moment until the records have everything that has happened by now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEAR_WAIT_S):
                await self._availability.complete(program)
        at = self._availability.position(program)
        return await self._recorded.wait(program, at.epoch, at.seq, "", HEAR_WAIT_S)

    async def _proven(self, proof: Proof) -> str | None:
        person = self._sealing.person(proof.program, proof.nik)
        live = await self._records.live_of(proof.program, person) if self._records else None
        if live is None:
            return None
        reservation_id, sealed = live
        try:
            personal = _decode_personal(self._sealing.open(reservation_id, sealed))
        except (SealBroken, msgspec.MsgspecError):  # the envelope or its key is lost: nothing can be proven
            return None
        return reservation_id if _proves(proof, personal) else None

    async def past_booking(self, reservation_id: str) -> BookingRow | None:
        """A confirmed reservation whose date has passed, from the records.

        Raises:
            RecordsUnavailable: the records do not answer.
        """
        booking = await self._records.booking(reservation_id) if self._records else None
        return booking if booking and booking.retired_at_ms else None

    def known_quota(self, quota_id: str) -> Quota | None:
        """A quota from the view."""
        return self._availability.quota(quota_id)

    async def quota(self, quota_id: str) -> Quota | None:
        """A quota from the view, or else from the records, which keep quotas whose window is over.

        Raises:
            RecordsUnavailable: the view does not have it, and the records do not answer.
        """
        quota = self._availability.quota(quota_id)
        if quota is not None or self._records is None:
            return quota
        row = await self._records.quota_row(program_of(quota_id), quota_id)
        return Quota(id=row.id, terms=row.terms, counts=QuotaCounts(version=row.version)) if row else None

    async def live_in(self, program: str, quotas: Sequence[str], answer: Answer) -> list[LiveRow]:
        """The held and confirmed reservations of these quotas, once the records have everything up to that answer.

        Raises:
            RecordsUnavailable: the records are not that far yet.
        """
        waited = await self._recorded.wait(program, answer.epoch, answer.seq, "", self._confirm_wait_s)
        if self._records is None or not waited:
            raise RecordsUnavailable(f"the records of {program} do not have the change yet")
        return await self._records.live_in(program, quotas)

    def when_known_recorded(self, reservation_id: str, answer: Answer, resolve: Callable[[bool], None]) -> None:
        """Find out whether PostgreSQL has the change of an answer of `find`.

        Waits a moment: another front may already have reported it, before this one got the position.
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
        """The code for the counter, such as `K7QF-3M2P-XW8D`."""
        return self._sealing.booking_code(reservation_id)


class _Personal(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a claim's envelope."""

    applicants: tuple[Applicant, ...]
    contact: Contact


_decode_personal = msgspec.json.Decoder(_Personal).decode


def _proves(proof: Proof, personal: _Personal) -> bool:
    """Whether the proof names one of the applicants and the group's contact; if both are given, both must match."""
    stated, given = proof.contact, personal.contact
    is_applicant = any((each.nik, each.birth_date) == (proof.nik, proof.birth_date) for each in personal.applicants)
    is_known = (stated.email or stated.phone) and (
        (not stated.email or stated.email.casefold() == given.email.casefold())
        and (not stated.phone or _digits(stated.phone) == _digits(given.phone))
    )
    return is_applicant and bool(is_known)


def _digits(phone: str) -> str:
    """A telephone number as dialled within Indonesia, however it was written."""
    digits = "".join(filter(str.isdigit, phone)).removeprefix("00")
    return f"0{digits[2:]}" if digits.startswith("62") else digits


async def end_reservation(
    group: GroupCommit, reservation_id: str, *, by_staff: bool, actor: str = "", reason: str = ""
) -> Answer:
    """End a reservation of the group's program, whatever its state; outcomes as of `Reservations.cancel`."""
    cancel = Cancel(reservation_id=reservation_id, by_staff=by_staff, actor=actor, reason=reason)
    # A hold may be confirmed between two attempts, but never becomes a hold again: three are enough.
    answer = await group.submit(cancel)
    if answer.outcome is Outcome.NOT_CONFIRMED:
        answer = await group.submit(Release(reservation_id=reservation_id, actor=actor, reason=reason))
    if answer.outcome is Outcome.NOT_HELD:
        answer = await group.submit(cancel)
    return answer


async def until_recorded(
    positions: RecordedPositions, program: str, reservation_id: str, answer: Answer, timeout_s: float
) -> Change:
    """Wait up to `timeout_s` for the record of a confirm or cancel; a refusal has none."""
    recorded = answer.outcome in ACCEPTED and await positions.wait(
        program, answer.epoch, answer.seq, reservation_id, timeout_s
    )
    return Change(answer=answer, recorded=recorded)


@cache
def _without_ledger(outcome: Outcome) -> Answer:
    """A refusal without a ledger call, which has no place in the ledger's history."""
    return Answer(outcome=outcome, epoch=0, seq=0, now_ms=0)
