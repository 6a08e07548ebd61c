"""Journal entries as the ledger packed them, back into events: positional, one letter a kind.

No other module knows the positions: all others work with the named fields of `events.py`.

A later version may write events that this one does not know, and what is stored may be damaged. One event that cannot
be read is `Unreadable` and the others of its entry are as they are, since the chain holds over the packed events; an
entry that is not an array of events, or lacks a field, cannot be followed and is an `UnreadableEntry`.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import msgpack
import msgspec

from reservasi.errors import UnreadableEntry
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
from reservasi.ledger.wire import messages, openings

E = TypeVar("E", bound=AnyEvent)
CONFIRMED = [str, str, int, str]
ENDED = [str, str, str, int, int]
RETURNED = [str, int]
ENTRY_FIELDS = (b"first", b"at", b"chain", b"events")
HASH_CHARS = 40
_RESERVATION_ID = re.compile("[a-z2-7]{26}")
_RESERVATION_AT = {"h": 0, "c": 0, "e": 1}  # among the texts of an event
_UNFIT = (
    LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, msgspec.ValidationError,
)  # fmt: skip


def _assert_types(fields: list[Any], wanted: list[type]) -> None:
    if list(map(type, fields)) != wanted:
        raise TypeError("its fields are of other types")


def _checked(event: E) -> E:
    """The event, once each of its fields has the type that it is declared with."""
    msgspec.convert(msgspec.to_builtins(event), type(event))
    return event


# A rush is entries of holds and nothing else, which every front follows: they are read and checked in one step.
_Hold: TypeAlias = tuple[Literal["h"], str, str, int, str, str, tuple[str, ...]]
_HOLDS = msgspec.msgpack.Decoder(list[_Hold])


def _decode_held(seq: int, fields: list[Any]) -> Held:
    return _held(seq, msgspec.convert(["h", *fields], _Hold))


def _held(seq: int, event: _Hold) -> Held:
    _, reservation_id, quota, deadline_ms, fingerprint, sealed, persons = event
    return Held(
        seq=seq,
        reservation_id=reservation_id,
        quota=quota,
        deadline_ms=deadline_ms,
        fingerprint=fingerprint,
        sealed=sealed,
        persons=persons,
    )


def _decode_confirmed(seq: int, fields: list[Any]) -> Confirmed:
    _assert_types(fields, CONFIRMED)
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
    _assert_types(fields, ENDED)
    state, reservation_id, quota, places, returns_at_ms = fields
    return Ended(
        seq=seq,
        state=messages.STATES[state],
        reservation_id=reservation_id,
        quota=quota,
        places=places,
        returns_at_ms=returns_at_ms,
        actor=actor,
        reason=reason,
    )


def _decode_returned(seq: int, fields: list[Any]) -> Returned:
    _assert_types(fields, RETURNED)
    quota, places = fields
    return Returned(seq=seq, quota=quota, places=places)


def _decode_quota_set(seq: int, fields: list[Any]) -> QuotaSet:
    actor, reason = _take_by(fields, 3)
    quota, version, terms = fields
    return _checked(
        QuotaSet(
            seq=seq,
            quota=quota,
            version=version,
            terms=messages.decode_terms(terms),
            imported=messages.decode_imported(terms),
            actor=actor,
            reason=reason,
        )
    )


def _decode_quota_retired(seq: int, fields: list[Any]) -> QuotaRetired:
    (quota,) = fields
    return _checked(QuotaRetired(seq=seq, quota=quota))


def _decode_opening_set(seq: int, fields: list[Any]) -> OpeningSet:
    actor, reason = _take_by(fields, 2)
    return _checked(OpeningSet(seq=seq, opening=openings.decode_opening(*fields), actor=actor, reason=reason))


def _decode_opening_retired(seq: int, fields: list[Any]) -> OpeningRetired:
    (opening,) = fields
    return _checked(OpeningRetired(seq=seq, opening=opening))


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


def decode_one(seq: int, packed: bytes, envelopes: Sequence[str] = ()) -> AnyEvent:
    """One event as it is packed; `envelopes` are those that may be its own."""
    return _decode_packed(seq, packed, {messages.envelope_hash(each): each for each in envelopes})


def pack_events(events: Iterable[Held | Ended | Returned]) -> bytes:
    """Events as an entry has them, for those that the ledger's state implies after their entry is gone."""
    packed: bytes = msgpack.packb([_fields(event) for event in events], use_bin_type=False)
    return packed


def _fields(event: Held | Ended | Returned) -> list[Any]:
    match event:
        case Held():
            content = [event.fingerprint, event.sealed, list(event.persons)]
            return ["h", event.reservation_id, event.quota, event.deadline_ms, *content]
        case Ended():
            state = messages.STATE_LETTERS[event.state]
            return ["e", state, event.reservation_id, event.quota, event.places, event.returns_at_ms]
        case Returned():
            return ["r", event.quota, event.places]


def decode_entry(entry_id: bytes, fields: dict[bytes, bytes], *, envelopes: bool = True) -> JournalEntry:
    """One stream entry as a journal entry; without `envelopes` each hold has the hash of its own, unread.

    Raises:
        UnreadableEntry: it is not one.
    """
    try:
        epoch, last_seq = map(int, entry_id.split(b"-"))
        first_seq = int(fields[b"first"])
        payload = fields[b"events"]
        events = _decode_with(first_seq, payload, fields.get(b"sealed", b"")) if envelopes else None
        entry = JournalEntry(
            epoch=epoch,
            first_seq=first_seq,
            at_ms=int(fields[b"at"]),
            chain=fields[b"chain"].decode(),
            payload=payload,
            events=read_events(first_seq, payload) if events is None else events,
        )
    except _UNFIT as error:
        raise UnreadableEntry(f"the journal entry {entry_id.decode()} cannot be read: {_why(error)}") from error
    if not entry.events or entry.position.seq != last_seq:
        raise UnreadableEntry(
            f"the journal entry {entry_id.decode()} cannot be read: it has {len(entry.events)} events from seq "
            f"{first_seq} on"
        )
    return entry


def read_events(first_seq: int, payload: bytes) -> tuple[AnyEvent, ...]:
    """The events of an entry, each hold with the hash of its envelope.

    Raises:
        ValueError: it is no array of events.
    """
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return tuple([_held(seq, fields) for seq, fields in enumerate(_HOLDS.decode(payload), first_seq)])
    try:
        return tuple([_decode(seq, event) for seq, event in enumerate(msgpack.unpackb(payload), first_seq)])
    except _UNFIT:
        return tuple(_decode_packed(seq, packed, None) for seq, packed in enumerate(_split(payload), first_seq))


def _decode_with(first_seq: int, payload: bytes, sealed: bytes) -> tuple[AnyEvent, ...]:
    """The events, each hold with its envelope out of those beside the entry."""
    try:
        events = msgpack.unpackb(payload)
        _put_envelopes(events, msgpack.unpackb(sealed) if sealed else None)
        return tuple([_decode(seq, event) for seq, event in enumerate(events, first_seq)])
    except _UNFIT:
        return _decode_apart(first_seq, payload, sealed)


def _put_envelopes(events: list[list[Any]], envelopes: list[str] | None) -> None:
    """Each hold names its envelope by hash; the envelopes come beside, in the same order.

    Raises:
        ValueError: they are others. Without any, a hold must have its own in place of the hash.
    """
    holds = [event for event in events if event[0] == "h"]
    if envelopes is None:
        if any(len(event[5]) == HASH_CHARS for event in holds):
            raise ValueError("no envelope is beside the entry")
        return
    if [event[5] for event in holds] != [messages.envelope_hash(each) for each in envelopes]:
        raise ValueError("an envelope beside the entry is not the one that it names")
    for event, envelope in zip(holds, envelopes, strict=True):
        event[5] = envelope


def _decode(seq: int, event: list[Any]) -> AnyEvent:
    if type(event) is not list:
        raise TypeError("it is no array")
    return _EVENT_DECODERS[event[0]](seq, event[1:])


def _decode_apart(first_seq: int, payload: bytes, sealed: bytes) -> tuple[AnyEvent, ...]:
    """Decode an entry of which some cannot be read: each event by itself, with the envelope that its hash names."""
    by_hash = {messages.envelope_hash(each): each for each in _envelopes(sealed)}
    events = [_decode_packed(seq, packed, by_hash) for seq, packed in enumerate(_split(payload), first_seq)]
    taken = {event.sealed for event in events if isinstance(event, Held)}
    left = {hash_: envelope for hash_, envelope in by_hash.items() if envelope not in taken}
    return tuple(_with_envelopes(event, left) if isinstance(event, Unreadable) else event for event in events)


def _envelopes(sealed: bytes) -> list[str]:
    """As many as can be read; one that is damaged is another one, which no event names."""
    unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="replace", max_buffer_size=0)
    unpacker.feed(sealed)
    found: list[str] = []
    with contextlib.suppress(msgpack.UnpackException, *_UNFIT):
        for _ in range(unpacker.read_array_header()):
            envelope = unpacker.unpack()
            if isinstance(envelope, str):
                found.append(envelope)
    return found


def _decode_packed(seq: int, packed: bytes, by_hash: dict[str, str] | None) -> AnyEvent:
    """One event; None: its hold needs no envelope."""
    event = _unpack(packed)
    try:
        decoded = _decode(seq, event)
    except _UNFIT as error:
        letter = event[0] if isinstance(event, list) and event and isinstance(event[0], str) else ""
        return _unreadable(seq, letter, _why_not(letter, error), packed)
    if by_hash is None or not isinstance(decoded, Held) or len(decoded.sealed) != HASH_CHARS:
        return decoded
    if decoded.sealed not in by_hash:
        return _unreadable(seq, "h", "its envelope is not beside the entry", packed)
    return msgspec.structs.replace(decoded, sealed=by_hash[decoded.sealed])


def _why_not(letter: str, error: Exception) -> str:
    if letter in _EVENT_DECODERS:
        return "its fields are not those that this version knows"
    return "this version knows no such kind of event" if letter else f"it is no event: {_why(error)}"


def _unreadable(seq: int, letter: str, why: str, packed: bytes) -> Unreadable:
    return Unreadable(
        seq=seq,
        letter=letter,
        why=why,
        packed=packed,
        reservation_id=_reservation_of(letter, packed),
        texts=tuple(_texts(_unpack(packed))),
    )


def _texts(value: Any) -> Iterator[str]:
    """Every text in it, however deep."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            rest += value
        elif isinstance(value, dict):
            rest += [*value.keys(), *value.values()]


def _reservation_of(letter: str, packed: bytes) -> str | None:
    """The reservation that an event is about: where known kinds have it, else the first text that looks like one."""
    event = _unpack(packed)
    fields = [each for each in event[1:] if isinstance(each, str)] if isinstance(event, list) else []
    at = _RESERVATION_AT.get(letter)
    if at is not None:
        return fields[at] if len(fields) > at else None
    return next((each for each in fields if _RESERVATION_ID.fullmatch(each)), None)


def _with_envelopes(event: Unreadable, left: dict[str, str]) -> Unreadable:
    """With those that it names, or all that nobody else does where it names none."""
    own = {hash_: envelope for hash_, envelope in left.items() if hash_.encode() in event.packed}
    return msgspec.structs.replace(event, envelopes=tuple((own or left).values()))


def _split(payload: bytes) -> Iterator[bytes]:
    """Each event as it is packed.

    Raises:
        ValueError: they are not the whole of an array.
    """
    unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=0)
    unpacker.feed(payload)
    try:
        count, start = unpacker.read_array_header(), unpacker.tell()
        for _ in range(count):
            unpacker.skip()
            end = unpacker.tell()
            yield payload[start:end]
            start = end
    except msgpack.UnpackException as error:
        raise ValueError("its array of events is cut") from error
    if start != len(payload):
        raise ValueError("there is something behind its array of events")


def _unpack(packed: bytes) -> Any:
    try:
        return msgpack.unpackb(packed)
    except (ValueError, TypeError):
        return None


def _why(error: Exception) -> str:
    """For people: what is missing, or what the library says of it."""
    if isinstance(error, KeyError) and error.args[0] in ENTRY_FIELDS:
        return f"it has no field {error.args[0].decode()}"
    return str(error) or type(error).__name__
