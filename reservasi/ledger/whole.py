"""Reads all data of a fenced ledger without the functions, to complete records that are an older copy."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from reservasi.contents import Confirmation, EndedReservation, Envelope, LedgerState, ReturningPlaces
from reservasi.errors import DamagedKey, JournalGap
from reservasi.events import Confirmed, Held, JournalEntry
from reservasi.ledger import keys
from reservasi.ledger.journal.stream import Journal, check_follows
from reservasi.ledger.stored_reservations import Holdings
from reservasi.ledger.topology.clients import text
from reservasi.ledger.wire import openings
from reservasi.ledger.wire.messages import quota_of
from reservasi.ledger.wire.stored_forms import (
    StoredQuota,
    decode_facts,
    decode_quota,
    decode_timers,
    read_each,
    readable,
)
from reservasi.model import Position, Quota

T = TypeVar("T")
PAST_QUOTA = "="  # prefix of a retired quota's number among the tombstones
NEEDED = ("reservations *", "quotas *", "facts *", "names *", "openings *")  # no row can be written without these


async def read_state(
    journal: Journal, position: Position, *, after_seq: int, lineage: Mapping[int, int]
) -> LedgerState:
    """The state of a ledger that is fenced at `position`, with the journal's entries after `after_seq`.

    `lineage` has further known epochs, each with the last seq before it. Damaged values are listed in `unreadable`.

    Raises:
        LedgerUnreachable: the server does not answer.
        DamagedKey: a whole key is damaged without which nothing can be recorded.
    """
    holdings = await Holdings.read(journal)
    unreadable = list(holdings.unreadable)
    stored, quotas = await _quotas(journal, unreadable)
    timers = [member for member, _ in await _scored(journal, keys.timers, unreadable)]
    names = {each.number: quota for quota, each in stored.items()}
    tombstones = {readable(member): int(at_ms) for member, at_ms in await _scored(journal, keys.tombstones, unreadable)}
    past = await _read(journal, keys.names, lambda number, quota: (int(number), text(quota)), unreadable)
    retired = {f"{PAST_QUOTA}{number}": quota for number, quota in past.values()}
    opening_records = await _read(journal, keys.openings, openings.decode_stored, unreadable)
    lost = [each for each in unreadable if each in NEEDED]
    if lost:
        raise DamagedKey(f"nothing of the ledger of {position} can be recorded: {', '.join(lost)} cannot be read")
    entries, envelopes, confirmations = await _journal(journal, position, after_seq)
    return LedgerState(
        position=position,
        lineage=await _lineage(journal, position, lineage, entries),
        quotas=quotas,
        openings=list(opening_records.values()),
        live={id_: kept for id_, kept in holdings.reservations.items() if kept.state.live},
        ended={
            id_: EndedReservation(reservation_id=id_, reservation=kept, ended_at_ms=tombstones[id_])
            for id_, kept in holdings.reservations.items()
            if not kept.state.live and id_ in tombstones
        },
        returning=_returning(decode_timers(timers, names, unreadable)),
        retired_quotas={retired[member]: at_ms - 1 for member, at_ms in tombstones.items() if member in retired},
        entries=entries,
        envelopes=envelopes,
        confirmations=confirmations,
        unreadable=tuple(dict.fromkeys(each.partition(" ")[2] for each in unreadable)),
    )


async def _read(
    journal: Journal, key_of: Callable[[str], str], decode: Callable[[str, Any], T], unreadable: list[str]
) -> dict[str, T]:
    key = key_of("").removeprefix("{}:")
    try:
        pairs = [pair async for pair in journal.pages(key_of)]
    except DamagedKey:
        unreadable.append(f"{key} *")
        return {}
    return read_each(pairs, decode, key=key, unreadable=unreadable)


async def _scored(journal: Journal, key_of: Callable[[str], str], unreadable: list[str]) -> list[tuple[bytes, float]]:
    try:
        return [pair async for pair in journal.scored(key_of)]
    except DamagedKey:
        unreadable.append(f"{key_of('').removeprefix('{}:')} *")
        return []


async def _quotas(journal: Journal, unreadable: list[str]) -> tuple[dict[str, StoredQuota], list[Quota]]:
    facts = await _read(journal, keys.facts, lambda _, packed: decode_facts(packed), unreadable)
    stored = await _read(journal, keys.quotas, lambda _, packed: decode_quota(packed), unreadable)
    unreadable += [f"facts {id_}" for id_ in stored if id_ not in facts]
    return stored, [quota_of(id_, each, facts[id_]) for id_, each in stored.items() if id_ in facts]


def _returning(timers: Mapping[str, Mapping[str, int]]) -> list[ReturningPlaces]:
    returning = []
    for quota, due in timers.items():
        for what, at_ms in due.items():
            seq, _, places = what.removeprefix("+").partition(":")
            if what.startswith("+") and seq.isdecimal() and places.isdecimal():
                returning.append(ReturningPlaces(quota=quota, at_ms=at_ms, seq=int(seq), places=int(places)))
    return returning


async def _journal(
    journal: Journal, tip: Position, after_seq: int
) -> tuple[list[JournalEntry], dict[tuple[str, int], Envelope], dict[tuple[str, int], Confirmation]]:
    """The entries that lead to the tip without a gap, and what readable entries say about reservations."""
    entries: list[JournalEntry] = []
    envelopes: dict[tuple[str, int], Envelope] = {}
    confirmations: dict[tuple[str, int], Confirmation] = {}
    async for entry in journal.remaining(after_seq):
        if entry is None or (entries and not _follows(entries[-1], entry)):
            entries = []
        if entry is None:
            continue
        entries.append(entry)
        for event in entry.events:
            if isinstance(event, Held):
                envelope = Envelope(sealed=event.sealed, held_at_ms=entry.at_ms)
                envelopes[event.reservation_id, event.seq] = envelope
            elif isinstance(event, Confirmed):
                confirmed = Confirmation(payment_reference=event.payment_reference, confirmed_at_ms=entry.at_ms)
                confirmations[event.reservation_id, event.seq] = confirmed
    leads = bool(entries) and (entries[-1].position.seq, entries[-1].chain) == (tip.seq, tip.chain)
    return entries if leads else [], envelopes, confirmations


def _follows(before: JournalEntry, entry: JournalEntry) -> bool:
    try:
        check_follows(before.position, entry)
    except JournalGap:
        return False
    return True


async def _lineage(
    journal: Journal, position: Position, known_epochs: Mapping[int, int], entries: list[JournalEntry]
) -> tuple[tuple[int, int], ...]:
    """All known epochs: of the records, the recorder's last word, the journal, and `meta`."""
    word = await journal.recorded_word()
    lineage = {**known_epochs, **dict(word.lineage if word else ())}
    for entry in entries:
        lineage.setdefault(entry.epoch, entry.first_seq - 1)
    lineage.setdefault(position.epoch, position.seq)
    return tuple(sorted((epoch, base_seq) for epoch, base_seq in lineage.items() if epoch <= position.epoch))
