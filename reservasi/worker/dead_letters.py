"""Decodes dead letters with this version, compares them with the ledger, and tries to record them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from reservasi import events
from reservasi.contents import KeptReservation
from reservasi.errors import LedgerFenced
from reservasi.events import AnyEvent, Unreadable
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.entries import decode_one
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.stored_reservations import Holdings
from reservasi.ledger.whole import read_state
from reservasi.model import Position, State
from reservasi.records import BookingCode, Letter, LetterPosition, Records, Tried
from reservasi.worker.ledger_owner import Ownership, compare_ledger

PAGE_LETTERS = 500
SNAPSHOT_TIMEOUT_S = 10.0
READABLE_FENCED = (Ownership.OWNABLE, Ownership.DAMAGED)
NOT_IN_LEDGER = "the ledger does not have this change: it was rebuilt without it, or its subject ended long ago"
KINDS: dict[str, type[AnyEvent]] = {
    each.__name__: each
    for each in (
        events.Held,
        events.Confirmed,
        events.Ended,
        events.Returned,
        events.QuotaSet,
        events.QuotaRetired,
        events.OpeningSet,
        events.OpeningRetired,
        events.Unreadable,
    )
}


class TriedLetter(msgspec.Struct, frozen=True, kw_only=True):
    """The result for a letter that was tried again."""

    id: int
    program: str
    seq: int
    kind: str
    reservation: str | None
    result: Tried
    why: str


def kind_of(letter: Letter) -> str:
    """The kind of the event for messages; for an unreadable event the ledger's letter."""
    event = _kept(letter)
    kind = str(event.get("kind") or "?")
    return f"{kind} {event.get('letter')!r}" if kind == Unreadable.__name__ else kind


def event_of(letter: Letter) -> AnyEvent:
    """Decode the event with this version: one that an earlier version could not read may be known now."""
    kept = _kept(letter)
    kind = KINDS.get(str(kept.pop("kind", "")))
    if kind is None:
        return Unreadable(seq=letter.seq, letter="", why="its kind is not known", packed=b"")
    try:
        event: AnyEvent = msgspec.convert(kept, kind)
    except msgspec.ValidationError as error:
        return Unreadable(seq=letter.seq, letter="", why=str(error), packed=b"")
    if isinstance(event, Unreadable) and event.packed:
        return decode_one(event.seq, event.packed, event.envelopes)
    return event


class LedgerNow(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger has now: a letter is recorded only if its change is part of that."""

    reservations: dict[str, KeptReservation]
    quotas: dict[str, int]  # id -> version
    openings: dict[str, int]
    uncertain: frozenset[str] = frozenset()  # ids that are damaged, or changed while they were read

    @classmethod
    async def read(cls, program: str, connection: LedgerConnection, journal: Journal, records: Records) -> "LedgerNow":
        """Read the ledger.

        Raises:
            LedgerFenced: it is neither owned, ownable nor `damaged`, so that its future is unknown.
            LedgerUnreachable, RecordsUnavailable, LedgerFault: it cannot be read.
        """
        snapshot = await connection.snapshot(SNAPSHOT_TIMEOUT_S)
        if snapshot is None:
            comparison = await compare_ledger(program, connection, journal, records)
            end = (await journal.end())[0] if comparison.verdict in READABLE_FENCED else None
            if end is not None:  # at most `meta` is damaged
                return await cls._read_fenced(journal, end)
            raise LedgerFenced(f"the ledger of {program} is fenced: it must be compared first")
        holdings = await Holdings.read(journal)
        return cls(
            reservations=holdings.reservations,
            quotas={quota.id: quota.counts.version for quota in snapshot.quotas},
            openings={opening.id: opening.version for opening in snapshot.openings},
            uncertain=frozenset(holdings.damaged_reservations) | snapshot.damaged_quotas,
        )

    @classmethod
    async def _read_fenced(cls, journal: Journal, end: Position) -> "LedgerNow":
        state = await read_state(journal, end, after_seq=end.seq, lineage={})
        return cls(
            reservations=state.live | {id_: each.reservation for id_, each in state.ended.items()},
            quotas={quota.id: quota.counts.version for quota in state.quotas},
            openings={opening.id: opening.version for opening in state.openings},
            uncertain=frozenset(state.unreadable),
        )

    def has(self, event: AnyEvent) -> bool:
        """Whether the change is still part of the ledger; a ledger that was rebuilt from the records lacks it."""
        match event:
            case events.Held() | events.Confirmed() | events.Ended():
                kept = self.reservations.get(event.reservation_id)
                return kept is not None and kept.held_seq <= event.seq <= kept.seq
            case events.QuotaSet():
                return self.quotas.get(event.quota, 0) >= event.version
            case events.OpeningSet():
                return self.openings.get(event.opening.id, 0) >= event.opening.version
            case events.QuotaRetired():
                return event.quota not in self.quotas
            case events.OpeningRetired():
                return event.opening not in self.openings
            case _:
                return True

    def has_beyond(self, recorded: "LedgerNow", event: AnyEvent) -> bool:
        """Whether recording the change would alter what is recorded."""
        if subject_of(event) in self.uncertain:
            return True
        match event:
            case events.Held() | events.Confirmed() | events.Ended():
                return self.live(event.reservation_id) != recorded.live(event.reservation_id)
            case events.Returned():  # changes no row
                return False
            case events.Unreadable():
                return True
            case _:
                return self.has(event) and not recorded.has(event)

    def live(self, reservation_id: str) -> tuple[int, State] | None:
        """The seq of the hold and the state of a live reservation."""
        kept = self.reservations.get(reservation_id)
        return (kept.held_seq, kept.state) if kept is not None and kept.state.live else None


async def settled_in_ledger_alone(
    program: str, connection: LedgerConnection, journal: Journal, records: Records
) -> list[str]:
    """Subjects of settled letters that a rebuild from the records would undo; "" if they cannot be determined.

    Raises:
        The same as `LedgerNow.read`.
    """
    if not await records.has_settled_letters(program):
        return []
    return await settled_subjects(program, records, await LedgerNow.read(program, connection, journal, records))


async def settled_subjects(program: str, records: Records, here: LedgerNow | None) -> list[str]:
    """Subjects of settled letters that the ledger has beyond the records; all, if the ledger cannot be read."""
    if not await records.has_settled_letters(program):
        return []
    there = await _recorded_now(program, records)
    subjects: set[str] = set()
    after: LetterPosition | None = None
    while letters := await records.dead_letters(program, closed=True, after=after, limit=PAGE_LETTERS):
        settled = [event_of(letter) for letter in letters if letter.outcome == "settled"]
        subjects |= {subject_of(event) for event in settled if here is None or here.has_beyond(there, event)}
        after = LetterPosition(program=program, epoch=letters[-1].epoch, seq=letters[-1].seq)
    return sorted(subjects)


async def _recorded_now(program: str, records: Records) -> LedgerNow:
    """The ledger that a rebuild would make, except for reservations that have ended."""
    async with records.standing(program) as standing:
        return LedgerNow(
            reservations={id_: kept async for page in standing.live() for id_, kept in page},
            quotas={row.id: row.version for row in await standing.quotas()},
            openings={opening.id: opening.version for opening in await standing.openings()},
        )


def subject_of(event: AnyEvent) -> str:
    """The reservation, quota or opening of an event; "" if it cannot be determined."""
    match event:
        case events.Held() | events.Confirmed() | events.Ended():
            return event.reservation_id
        case events.OpeningSet():
            return event.opening.id
        case events.OpeningRetired():
            return event.opening
        case events.Unreadable():
            return event.reservation_id or ""
        case _:
            return event.quota


async def retry(
    program: str,
    connection: LedgerConnection,
    journal: Journal,
    records: Records,
    *,
    booking_code: BookingCode,
    actor: str,
) -> AsyncIterator[TriedLetter]:
    """Try to record open letters in the order of seq, and publish which reservations are recorded now.

    Raises:
        LedgerFenced: nothing was tried; RecordsUnavailable, LedgerUnreachable: not all were; repeating it is harmless.
    """
    state: LedgerNow | None = None
    after: LetterPosition | None = None
    while letters := await records.dead_letters(program, after=after, limit=PAGE_LETTERS):
        recorded: set[str] = set()
        for letter in letters:
            state = state or await LedgerNow.read(program, connection, journal, records)
            event = event_of(letter)
            result: Tried = "overtaken"
            why = NOT_IN_LEDGER
            if state.has(event):
                result, why = await records.try_dead_letter(letter, event, booking_code, actor)
            if result == "recorded" and letter.reservation_id is not None:
                recorded.add(letter.reservation_id)
            yield TriedLetter(
                id=letter.id,
                program=program,
                seq=letter.seq,
                kind=kind_of(letter),
                reservation=letter.reservation_id,
                result=result,
                why=why,
            )
        if recorded:
            await journal.publish_revived(recorded - set(await records.dead_reservations(program)))
        last = letters[-1]
        after = LetterPosition(program=program, epoch=last.epoch, seq=last.seq)


def _kept(letter: Letter) -> dict[str, Any]:
    kept: Any = json.loads(letter.event)
    return kept if isinstance(kept, dict) else {}
