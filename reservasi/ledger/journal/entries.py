"""Decodes journal entries into events. An event is a positional msgpack array that begins with a letter for its kind.

Only this module knows the positions: all others work with the named fields of `events.py`.

A later version may write events that this one does not know, and stored data may be damaged. An event that cannot be
read becomes `Unreadable`, and the other events of its entry are decoded, since the chain covers the packed events. An
entry that is not an array of events, or lacks a field, cannot be followed and raises `UnreadableEntry`.
"""

import contextlib
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
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
_RESERVATION_AT = {"h": 0, "c": 0, "e": 1}  # index of the reservation id among the texts of an event
_UNFIT = (
    LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, msgspec.ValidationError,
)  # fmt: skip


def _assert_types(fields: list[Any], wanted: list[type]) -> None:
    if list(map(type, fields)) != wanted:
        raise TypeError("its fields have other types")


def _checked(event: E) -> E:
    """Check the type of each field and return the event."""
    msgspec.convert(msgspec.to_builtins(event), type(event))
    return event


# Under load, entries contain only holds, and every front follows them: such entries are read and checked in one step.
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
    """Actor and reason: the last field after the `least` fields that an event has, if it names them."""
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
RESERVATION_KINDS = frozenset("hcer")  # what happens to reservations and their places


def decode_one(seq: int, packed: bytes, envelopes: Sequence[str] = ()) -> AnyEvent:
    """Decode one packed event; `envelopes` are candidates for its own."""
    return _decode_packed(seq, packed, {messages.envelope_hash(each): each for each in envelopes})


def pack_events(events: Iterable[Held | Ended | Returned]) -> bytes:
    """Pack events like an entry, for events that follow from the ledger's state after their entry was lost."""
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
    """Decode one stream entry; without `envelopes` each hold has the hash of its envelope instead.

    Raises:
        UnreadableEntry: it is not a journal entry.
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


def read_events(first_seq: int, payload: bytes, kinds: Container[str] | None = None) -> tuple[AnyEvent, ...]:
    """The events of an entry; each hold has the hash of its envelope. Events of kinds not in `kinds` may be left out.

    Raises:
        ValueError: it is not an array of events.
    """
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return tuple([_held(seq, fields) for seq, fields in enumerate(_HOLDS.decode(payload), first_seq)])
    try:
        events = enumerate(msgpack.unpackb(payload), first_seq)
        return tuple([_decode(seq, event) for seq, event in events if kinds is None or event[0] in kinds])
    except _UNFIT:
        return tuple(_decode_packed(seq, packed, None) for seq, packed in enumerate(_split(payload), first_seq))


def _decode_with(first_seq: int, payload: bytes, sealed: bytes) -> tuple[AnyEvent, ...]:
    """Decode the events and put the envelopes of the entry into the holds."""
    try:
        events = msgpack.unpackb(payload)
        _put_envelopes(events, msgpack.unpackb(sealed) if sealed else None)
        return tuple([_decode(seq, event) for seq, event in enumerate(events, first_seq)])
    except _UNFIT:
        return _decode_apart(first_seq, payload, sealed)


def _put_envelopes(events: list[list[Any]], envelopes: list[str] | None) -> None:
    """Replace the envelope hashes of the holds by the envelopes, which are stored in the same order.

    Raises:
        ValueError: an envelope does not have the hash. Without envelopes, each hold must contain its own.
    """
    holds = [event for event in events if event[0] == "h"]
    if envelopes is None:
        if any(len(event[5]) == HASH_CHARS for event in holds):
            raise ValueError("the entry has no envelopes")
        return
    if [event[5] for event in holds] != [messages.envelope_hash(each) for each in envelopes]:
        raise ValueError("an envelope of the entry does not have the hash that its hold names")
    for event, envelope in zip(holds, envelopes, strict=True):
        event[5] = envelope


def _decode(seq: int, event: list[Any]) -> AnyEvent:
    if type(event) is not list:
        raise TypeError("it is not an array")
    return _EVENT_DECODERS[event[0]](seq, event[1:])


def _decode_apart(first_seq: int, payload: bytes, sealed: bytes) -> tuple[AnyEvent, ...]:
    """Decode an entry of which some events cannot be read, each event separately, with the envelope of its hash."""
    by_hash = {messages.envelope_hash(each): each for each in _envelopes(sealed)}
    events = [_decode_packed(seq, packed, by_hash) for seq, packed in enumerate(_split(payload), first_seq)]
    taken = {event.sealed for event in events if isinstance(event, Held)}
    left = {hash_: envelope for hash_, envelope in by_hash.items() if envelope not in taken}
    return tuple(_with_envelopes(event, left) if isinstance(event, Unreadable) else event for event in events)


def _envelopes(sealed: bytes) -> list[str]:
    """The envelopes that can be read; a damaged one has a hash that no event names."""
    unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="replace", max_buffer_size=0)
    unpacker.feed(sealed)
    readable_envelopes: list[str] = []
    with contextlib.suppress(msgpack.UnpackException, *_UNFIT):
        for _ in range(unpacker.read_array_header()):
            envelope = unpacker.unpack()
            if isinstance(envelope, str):
                readable_envelopes.append(envelope)
    return readable_envelopes


def _decode_packed(seq: int, packed: bytes, by_hash: dict[str, str] | None) -> AnyEvent:
    """Decode one event; `by_hash` None: holds keep the hash of their envelope."""
    event = _unpack(packed)
    try:
        decoded = _decode(seq, event)
    except _UNFIT as error:
        letter = event[0] if isinstance(event, list) and event and isinstance(event[0], str) else ""
        return _unreadable(seq, letter, _why_not(letter, error), packed)
    if by_hash is None or not isinstance(decoded, Held) or len(decoded.sealed) != HASH_CHARS:
        return decoded
    if decoded.sealed not in by_hash:
        return _unreadable(seq, "h", "the entry does not have its envelope", packed)
    return msgspec.structs.replace(decoded, sealed=by_hash[decoded.sealed])


def _why_not(letter: str, error: Exception) -> str:
    if letter in _EVENT_DECODERS:
        return "its fields are not known to this version"
    return "its kind is not known to this version" if letter else f"it is not an event: {_why(error)}"


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
    """All texts in a nested value."""
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
    """The reservation of an event: at the position of its kind, else the first text that looks like a reservation
    id.
    """
    event = _unpack(packed)
    fields = [each for each in event[1:] if isinstance(each, str)] if isinstance(event, list) else []
    at = _RESERVATION_AT.get(letter)
    if at is not None:
        return fields[at] if len(fields) > at else None
    return next((each for each in fields if _RESERVATION_ID.fullmatch(each)), None)


def _with_envelopes(event: Unreadable, left: dict[str, str]) -> Unreadable:
    """Add the envelopes that the event names; if it names none, all that no other event names."""
    own = {hash_: envelope for hash_, envelope in left.items() if hash_.encode() in event.packed}
    return msgspec.structs.replace(event, envelopes=tuple((own or left).values()))


def _split(payload: bytes) -> Iterator[bytes]:
    """The packed events, one by one.

    Raises:
        ValueError: the payload is not exactly one array.
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
        raise ValueError("its array of events is incomplete") from error
    if start != len(payload):
        raise ValueError("there is data after its array of events")


def _unpack(packed: bytes) -> Any:
    try:
        return msgpack.unpackb(packed)
    except (ValueError, TypeError):
        return None


def _why(error: Exception) -> str:
    """The reason of an error as a message."""
    if isinstance(error, KeyError) and error.args[0] in ENTRY_FIELDS:
        return f"it has no field {error.args[0].decode()}"
    return str(error) or type(error).__name__
