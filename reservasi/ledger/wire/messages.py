"""Encodings between Python and the Lua functions: positional msgpack, text only.

Valkey's `cmsgpack` refuses `bin` and `ext` and rounds integers above 2^53, so everything is packed as text
(`use_bin_type=False`) and numbers stay below `model.SEQ_MAX`. Layouts are documented in the header of each Lua file.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgpack
import msgspec

from reservasi.errors import ItemDamaged, LedgerFault
from reservasi.ledger.wire import openings
from reservasi.ledger.wire.stored_forms import (
    StoredQuota,
    decode_facts,
    decode_quota,
    decode_timers,
    read_each,
    readable,
)
from reservasi.model import (
    Admit,
    Answer,
    Cancel,
    Claim,
    Command,
    Confirm,
    Find,
    Join,
    MoveOpening,
    Opening,
    Outcome,
    Position,
    Quota,
    QuotaCounts,
    QuotaTerms,
    Release,
    Retire,
    RetireOpening,
    SetOpening,
    SetQuota,
    State,
    Sweep,
)

STATES = {
    "h": State.HELD,
    "c": State.CONFIRMED,
    "r": State.RELEASED,
    "x": State.EXPIRED,
    "k": State.CANCELLED,
    "t": State.RETIRED,
}
STATE_LETTERS = {state: letter for letter, state in STATES.items()}
OUTCOMES = {outcome.value: outcome for outcome in Outcome}
TERMS = QuotaTerms.__struct_fields__
FLAG_INDEX = TERMS.index("closed")
LIMITS = FLAG_INDEX + 1  # number of terms that the ledger uses in decisions; facts follow
KEEP = -1
SHARED_MAX = 100_000  # texts and moments that quotas have in common
SHARED_TYPES = (str, int)
DAMAGED_FIELDS = 3  # with one more if the ledger decided the batch in parts to find the item

COMMAND_NAMES: dict[type, str] = {
    Claim: "claim",
    Confirm: "confirm",
    Release: "release",
    Cancel: "cancel",
    SetQuota: "set_quota",
    Find: "find",
    Sweep: "sweep",
    Retire: "retire",
    RetireOpening: "retire_opening",
    SetOpening: "set_opening",
    MoveOpening: "move_opening",
    Join: "join",
    Admit: "admit",
}


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One function call of a round trip."""

    command: str
    items: bytes  # packed
    envelopes: bytes = b""  # of claims, packed


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply to one batch, with undecoded answers."""

    fenced: bool
    epoch: int
    seq: int
    now_ms: int
    answers: list[Any]  # lists, or the seq alone for a claim that got its places
    deadlines: list[int]  # of claims, in the same order, ms


class Indexes(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger's indexes at the moment of a whole snapshot."""

    due: dict[str, int]  # quota -> when its timers are checked, ms
    names: dict[str, str]  # number -> quota
    tombstones: dict[str, int]  # ended reservation, or "=<number>" of a quota -> when it ended, ms
    numbers: dict[str, int]  # quota -> number in its record
    noted_due: dict[str, int]  # quota -> time in its record, the same as in `due`; 0 if it is not there


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Every quota of a program at one position."""

    position: Position
    now_ms: int
    quotas: list[Quota]
    openings: list[Opening]
    indexes: Indexes | None = None  # only in a whole snapshot
    damaged_quotas: frozenset[str] = frozenset()  # quotas of which a part is unreadable or missing
    unreadable: tuple[str, ...] = ()  # "<key> <field>" of damaged values; the rest is here
    timers: dict[str, dict[str, int]]  # quota -> reservation id or "+<seq>:<places>" -> due time, ms


def pack(value: Any) -> bytes:
    """Msgpack that `cmsgpack` can read."""
    packed: bytes = msgpack.packb(value, use_bin_type=False)
    return packed


def encode_frame(commands: Sequence[Command], tombstone_ms: int) -> Frame:
    """Encode one batch of commands of one kind, at least one."""
    kind = type(commands[0])
    if kind is Claim:
        return encode_claims(cast("Sequence[Claim]", commands))
    items = [encode_item(command, tombstone_ms) for command in commands]
    return Frame(command=COMMAND_NAMES[kind], items=pack(items))


def encode_claims(claims: Sequence[Claim]) -> Frame:
    """Encode one batch of claims, with one array per field."""
    # Lua counts from 1
    named = {quota: at for at, quota in enumerate(dict.fromkeys([claim.quota for claim in claims]), 1)}
    envelopes = [claim.sealed for claim in claims]
    items = (
        [claim.reservation_id for claim in claims],
        list(named),
        [named[claim.quota] for claim in claims],
        [claim.fingerprint for claim in claims],
        [envelope_hash(envelope) for envelope in envelopes],
        [len(claim.persons) for claim in claims],
        [person for claim in claims for person in claim.persons],
    )
    return Frame(command="claim", items=pack(items), envelopes=pack(envelopes))


def envelope_hash(sealed: str) -> str:
    """The hash by which the journal names an envelope."""
    return hashlib.sha1(sealed.encode(), usedforsecurity=False).hexdigest()


def encode_item(command: Command, tombstone_ms: int) -> list[Any]:
    """Encode one command, other than a claim, as described in the header of its Lua file."""
    match command:
        case Confirm():
            return [command.reservation_id, command.payment_reference]
        case Find():
            return [command.reservation_id]
        case Release():
            return [command.reservation_id, command.actor, command.reason]
        case Cancel():
            return [command.reservation_id, int(command.by_staff), command.actor, command.reason]
        case SetQuota():
            return _encode_set_quota(command)
        case Sweep():
            return [command.items_max, tombstone_ms]
        case Retire():
            return [command.quota, command.ends_at_ms, list(command.reservations)]
        case SetOpening() | MoveOpening() | RetireOpening() | Join() | Admit():
            return openings.encode_item(command)
        case _:
            raise TypeError(f"{type(command).__name__} has no encoding of its own")


def _encode_set_quota(command: SetQuota) -> list[Any]:
    changes = (command.capacity, command.opens_at_ms, command.closes_at_ms, command.closed)
    terms = 0 if command.terms is None else encode_terms(command.terms)
    kept = (KEEP if change is None else int(change) for change in changes)
    return [command.quota, command.version, *kept, terms, command.actor, command.reason, command.taker]


def encode_terms(terms: QuotaTerms) -> list[Any]:
    """A quota's terms in field order; the flag as a number."""
    fields = [getattr(terms, name) for name in TERMS]
    fields[FLAG_INDEX] = int(terms.closed)
    return fields


def decode_terms(fields: Sequence[Any]) -> QuotaTerms:
    """The reverse of `encode_terms`; values set by imports may follow.

    Equal texts and equal numbers are one object, since a program's quotas name the same offices, dates and moments: a
    front that looks at one quota after the other then finds most of what it reads in the processor's caches.
    """
    if len(_shared_values) > SHARED_MAX - len(TERMS):
        _shared_values.clear()
    shared = _shared_values.setdefault
    values: list[Any] = [shared(each, each) if type(each) in SHARED_TYPES else each for each in fields[: len(TERMS)]]
    values[FLAG_INDEX] = values[FLAG_INDEX] == 1
    return QuotaTerms(**dict(zip(TERMS, values, strict=True)))


_shared_values: dict[Any, Any] = {}


def decode_imported(fields: Sequence[Any]) -> tuple[int, ...]:
    """The values set by imports, after a quota's terms (`Quota.imported`); empty if there are none."""
    return tuple(fields[len(TERMS)]) if len(fields) > len(TERMS) else ()


def decode_reply(raw: bytes) -> Reply:
    """Decode the frame of a batch's reply.

    Raises:
        LedgerFault: it is malformed.
    """
    try:
        outcome, epoch, seq, now_ms, answers, *of_claims = msgpack.unpackb(
            raw, strict_map_key=False, unicode_errors="surrogateescape"
        )
    except (ValueError, TypeError) as error:
        raise LedgerFault(f"unreadable reply of {len(raw)} bytes") from error
    return Reply(
        fenced=outcome == Outcome.FENCED,
        epoch=epoch,
        seq=seq,
        now_ms=now_ms,
        answers=list(answers),
        deadlines=list(of_claims[0]) if of_claims else [],
    )


def peek_fenced(raw: bytes) -> bool:
    """Whether a batch was refused as a whole; reads only the first bytes."""
    return raw[1 : 2 + len(Outcome.FENCED)] == _PACKED_FENCED


_PACKED_FENCED = pack(Outcome.FENCED.value)


def peek_epoch(raw: bytes) -> tuple[int, int]:
    """The epoch of a batch's reply and the offset of its end, without decoding the answers."""
    unpacker = msgpack.Unpacker(strict_map_key=False, raw=True)
    unpacker.feed(raw)
    unpacker.read_array_header()
    unpacker.skip()
    epoch: int = unpacker.unpack()
    return epoch, unpacker.tell()


def decode_answer(reply: Reply, at: int, command: Command, *, retried: bool = False) -> Answer:
    """Decode the answer to the command at this index of its batch, as described in the header of its Lua file.

    Raises:
        LedgerFault: it is an answer to another command.
        ItemDamaged: stored data of the command is damaged.
    """
    fields = reply.answers[at]
    if isinstance(fields, int) and isinstance(command, Join):
        fields = reply.answers[fields - 1]  # it refers to an equal answer; Lua counts from 1
    if isinstance(fields, int):
        if not isinstance(command, Claim):
            raise LedgerFault(f"a claim's answer to a {type(command).__name__}")
        return Answer(
            outcome=Outcome.HELD,
            epoch=reply.epoch,
            seq=fields,
            now_ms=reply.now_ms,
            state=State.HELD,
            quota=command.quota,
            places=len(command.persons),
            deadline_ms=reply.deadlines[at],
            retried=retried,
        )
    outcome = OUTCOMES[fields[0]]
    length = len(fields)
    if length == 6 or (length == 7 and outcome in _WITH_FREED):
        _, seq, state, quota, places, deadline_ms = fields[:6]
        if not quota.isprintable():
            raise ItemDamaged("the name of the quota is damaged")
        return Answer(
            outcome=outcome,
            epoch=reply.epoch,
            seq=seq,
            now_ms=reply.now_ms,
            state=STATES[state],
            quota=quota,
            places=places,
            deadline_ms=deadline_ms,
            freed_at_ms=0 if length == 6 else fields[6],
            retried=retried,
        )
    if outcome is Outcome.DAMAGED:
        raise ItemDamaged(f"its data in the ledger is damaged: {fields[2]}", alone=length > DAMAGED_FIELDS)
    named = dict(zip(_EXTRA_BY_OUTCOME.get(outcome, ()), fields[2:], strict=False))
    return Answer(outcome=outcome, epoch=reply.epoch, seq=fields[1], now_ms=reply.now_ms, retried=retried, **named)


_WITH_FREED = (Outcome.HELD, Outcome.EXISTS, Outcome.RELEASED, Outcome.CANCELLED)
_MARK = ("number", "joined", "arrived", "admitted_through", "rate_per_min")
_EXTRA_BY_OUTCOME: dict[Outcome, tuple[str, ...]] = {
    Outcome.NOT_OPEN: ("opens_at_ms",),
    Outcome.SOLD_OUT: ("remaining",),
    Outcome.DUPLICATE_APPLICANT: ("applicant",),
    Outcome.QUOTA_SET: ("version",),
    Outcome.EXISTS: ("version",),
    Outcome.EXISTS_WITH_DIFFERENT_CONTENT: ("version",),
    Outcome.VERSION_MISMATCH: ("version",),
    Outcome.WINDOW_REVERSED: ("version",),
    Outcome.BELOW_TAKEN: ("version", "taken"),
    Outcome.SWEPT: ("expired", "returned", "dropped"),
    Outcome.RETIRED: ("ended",),
    Outcome.RETIRING: ("ended", "taken"),
    Outcome.OPENING_SET: ("version",),
    Outcome.TOO_LATE: ("version",),
    Outcome.CLOSED: ("version",),
    Outcome.OPENING_CANCELLED: ("version",),
    Outcome.MOMENT_INVALID: ("version",),
    Outcome.MOMENT_TAKEN: ("version", "opening", "quota"),
    Outcome.QUOTA_CLOSES: ("version", "opening", "quota"),
    Outcome.TOO_MANY_QUOTAS: ("version",),
    Outcome.OF_OPENING: ("version", "opening"),
    Outcome.JOINED: _MARK,
    Outcome.ADVANCED: _MARK,
}


def decode_snapshot(raw: bytes) -> Snapshot | None:
    """Decode the reply of `snapshot`; None if it was fenced."""
    outcome, epoch, seq, now_ms, answers = msgpack.unpackb(raw, raw=True, strict_map_key=False)
    if outcome == Outcome.FENCED.encode():
        return None
    _, _, chain, quotas, facts, timers, stored_openings, damaged_keys, *indexes = answers[0]
    unreadable = [f"{key.decode()} *" for key in damaged_keys]
    facts_by_id = read_each(_pairs(facts), lambda _, packed: decode_facts(packed), key="facts", unreadable=unreadable)
    records = read_each(_pairs(quotas), lambda _, stored: decode_quota(stored), key="quotas", unreadable=unreadable)
    names = {record.number: quota_id for quota_id, record in records.items()}
    decode_opening = openings.decode_stored
    kept = [quota_id for quota_id in records if quota_id in facts_by_id]
    stored = {quota_id for quota_id, _ in (*_pairs(facts), *_pairs(quotas))}
    return Snapshot(
        position=Position(epoch=epoch, seq=seq, chain=chain.decode()),
        now_ms=now_ms,
        quotas=[quota_of(quota_id, records[quota_id], facts_by_id[quota_id]) for quota_id in kept],
        timers=decode_timers(timers, names, unreadable),
        openings=list(
            read_each(_pairs(stored_openings), decode_opening, key="openings", unreadable=unreadable).values()
        ),
        damaged_quotas=frozenset(map(readable, stored)).difference(kept) if len(stored) > len(kept) else frozenset(),
        unreadable=tuple(unreadable),
        indexes=_indexes(*indexes, records=records) if indexes else None,
    )


def _indexes(due: Any, names: Any, tombstones: Any, *, records: Mapping[str, StoredQuota]) -> Indexes:
    return Indexes(
        due={readable(quota): int(float(at_ms)) for quota, at_ms in _pairs(due)},
        names={readable(number): readable(quota) for number, quota in _pairs(names)},
        tombstones={readable(id_): int(float(at_ms)) for id_, at_ms in _pairs(tombstones)},
        numbers={quota_id: stored.number for quota_id, stored in records.items()},
        noted_due={quota_id: stored.due_ms for quota_id, stored in records.items()},
    )


def _pairs(flat: Sequence[Any]) -> list[tuple[bytes, Any]]:
    """A hash's fields and values. An empty Lua table may arrive as an empty map."""
    items = list(flat)
    return list(zip(items[::2], items[1::2], strict=True))


def quota_of(quota_id: str, stored: StoredQuota, facts: Sequence[Any]) -> Quota:
    """A quota from its record and its facts."""
    fields = [*stored.limits, *facts]
    return Quota(
        id=quota_id,
        terms=decode_terms(fields),
        imported=decode_imported(fields),
        counts=QuotaCounts(
            held=stored.held, confirmed=stored.confirmed, returning=stored.returning, version=stored.version
        ),
    )
