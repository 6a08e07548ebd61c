"""Journal entries as the ledger packed them, back into events: positional, one letter a kind."""

from collections.abc import Callable
from typing import Any

import msgpack

from reservasi.errors import JournalGap, LedgerFault
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
)
from reservasi.ledger import openings, wire


def _decode_held(seq: int, fields: list[Any]) -> Held:
    reservation_id, quota, deadline_ms, fingerprint, sealed, persons = fields
    return Held(
        seq=seq,
        reservation_id=reservation_id,
        quota=quota,
        deadline_ms=deadline_ms,
        fingerprint=fingerprint,
        sealed=sealed,
        persons=tuple(persons),
    )


def _decode_confirmed(seq: int, fields: list[Any]) -> Confirmed:
    reservation_id, quota, places, reference = fields
    return Confirmed(seq=seq, reservation_id=reservation_id, quota=quota, places=places, payment_reference=reference)


def _take_by(fields: list[Any], least: int) -> tuple[str, str]:
    """Who made a change and why: the last field behind the `least` that an event has, where it names them."""
    if len(fields) > least and isinstance(fields[-1], list):
        actor, reason = fields.pop()
        return str(actor), str(reason)
    return "", ""


def _decode_ended(seq: int, fields: list[Any]) -> Ended:
    actor, reason = _take_by(fields, 5)
    state, reservation_id, quota, places, returns_at_ms = fields
    return Ended(
        seq=seq,
        state=wire.STATES[state],
        reservation_id=reservation_id,
        quota=quota,
        places=places,
        returns_at_ms=returns_at_ms,
        actor=actor,
        reason=reason,
    )


def _decode_returned(seq: int, fields: list[Any]) -> Returned:
    quota, places = fields
    return Returned(seq=seq, quota=quota, places=places)


def _decode_quota_set(seq: int, fields: list[Any]) -> QuotaSet:
    actor, reason = _take_by(fields, 3)
    quota, version, terms = fields
    return QuotaSet(
        seq=seq,
        quota=quota,
        version=version,
        terms=wire.decode_terms(terms),
        imported=wire.decode_imported(terms),
        actor=actor,
        reason=reason,
    )


def _decode_quota_retired(seq: int, fields: list[Any]) -> QuotaRetired:
    (quota,) = fields
    return QuotaRetired(seq=seq, quota=quota)


def _decode_opening_set(seq: int, fields: list[Any]) -> OpeningSet:
    actor, reason = _take_by(fields, 2)
    return OpeningSet(seq=seq, opening=openings.decode_opening(*fields), actor=actor, reason=reason)


def _decode_opening_retired(seq: int, fields: list[Any]) -> OpeningRetired:
    (opening,) = fields
    return OpeningRetired(seq=seq, opening=opening)


_EVENT_DECODERS: dict[str, Callable[[int, list[Any]], AnyEvent]] = {
    "h": _decode_held,
    "c": _decode_confirmed,
    "e": _decode_ended,
    "r": _decode_returned,
    "q": _decode_quota_set,
    "t": _decode_quota_retired,
    "o": _decode_opening_set,
    "u": _decode_opening_retired,
}


def _put_envelopes(events: list[list[Any]], envelopes: list[str]) -> bool:
    """Each hold names its envelope by hash; the envelopes come beside, in the same order. False: they are others."""
    holds = [event for event in events if event[0] == "h"]
    named = [event[5] for event in holds]
    if named != [wire.envelope_hash(each) for each in envelopes]:
        return False
    for event, envelope in zip(holds, envelopes, strict=True):
        event[5] = envelope
    return True


def decode_entry(entry_id: bytes, fields: dict[bytes, bytes], *, envelopes: bool = True) -> JournalEntry:
    """One stream entry as a journal entry; without `envelopes` each hold has the hash of its own, unread.

    Raises:
        LedgerFault: it is not one.
        JournalGap: an envelope beside it is not the one that it names.
    """
    try:
        epoch = int(entry_id.partition(b"-")[0])
        first_seq = int(fields[b"first"])
        payload = fields[b"events"]
        events = msgpack.unpackb(payload)
        looked_at = envelopes and b"sealed" in fields
        are_named = not looked_at or _put_envelopes(events, msgpack.unpackb(fields[b"sealed"]))
        decoded = tuple(_EVENT_DECODERS[event[0]](first_seq + at, event[1:]) for at, event in enumerate(events))
        if not are_named:
            raise JournalGap(f"an envelope beside seq {first_seq} does not chain: the entry names another one")
        return JournalEntry(
            epoch=epoch,
            first_seq=first_seq,
            at_ms=int(fields[b"at"]),
            chain=fields[b"chain"].decode(),
            payload=payload,
            events=decoded,
        )
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise LedgerFault(f"unreadable journal entry {entry_id!r}") from error
