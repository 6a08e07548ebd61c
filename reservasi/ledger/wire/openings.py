"""Encoding of openings in calls and storage: positional, as described in `lua/set_opening.lua`; flags are numbers."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from typing import get_type_hints as _get_type_hints

from reservasi.ledger.wire.stored_forms import Unreadable, are_counts, are_texts, unpack_list
from reservasi.model import (
    SEQ_MAX,
    Admit,
    Join,
    MoveOpening,
    Opening,
    OpeningTerms,
    RetireOpening,
    SetOpening,
    join_offices,
    split_offices,
)

TERMS = OpeningTerms.__struct_fields__
# O of the Lua files, after terms
FIELDS = tuple(name for name in Opening.__struct_fields__ if name not in ("id", "terms"))
FIRST_FIELDS = FIELDS.index("cancelled")  # fields that an earlier version also has
LEASE_FIELDS = 2  # fields after these in the ledger: the current leader, which Python does not need
OLD_TERMS = (None,) * (len(TERMS) - 2) + ("", "")  # fields that terms stored by an earlier version lack at their end
KEEP = -1
get_type_hints = lru_cache(maxsize=4)(_get_type_hints)
KEEP_TEXT = ""  # a beacon is never removed


def encode_item(command: SetOpening | MoveOpening | RetireOpening | Join | Admit) -> list[Any]:
    """Encode one command, as described in the header of its Lua file."""
    match command:
        case Join():
            return [command.opening, command.ticket_id]
        case RetireOpening():
            return [command.opening]
        case Admit():
            return [command.opening, command.controller, command.lease_ms, command.rate_per_min]
        case MoveOpening():
            wanted = (command.opens_at_ms, command.ends_at_ms, command.cancelled)
            kept = (KEEP if change is None else int(change) for change in wanted)
            return [command.opening, command.version, *kept, command.reason, command.reason_en, command.actor]
        case SetOpening():
            changes = (command.paused, command.rate_per_min)
            terms = 0 if command.terms is None else encode_terms(command.terms)
            beacon = KEEP_TEXT if command.beacon is None else command.beacon
            kept = (KEEP if change is None else int(change) for change in changes)
            takes = [part for pair in command.takes for part in pair]
            return [command.opening, command.version, *kept, beacon, terms, command.actor, command.reason, takes]


def encode_terms(terms: OpeningTerms) -> list[Any]:
    """An opening's terms in field order."""
    return [_plain(getattr(terms, name)) for name in TERMS]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return join_offices(value)
    return int(value) if isinstance(value, bool) else value


def encode_opening(opening: Opening) -> list[Any]:
    """An opening as in an event: id, terms, and the fields after them."""
    return [opening.id, encode_terms(opening.terms), *(_plain(getattr(opening, name)) for name in FIELDS)]


def decode_opening(opening_id: str, terms: Sequence[Any], *fields: Any) -> Opening:
    """The reverse of `encode_opening`."""
    named = dict(zip(TERMS, (*terms, *OLD_TERMS[len(terms) :]), strict=True))
    named["offices"] = split_offices(named["offices"])
    for flag in ("waiting_room", "proof_of_work", "adaptive"):
        named[flag] = named[flag] == 1
    rest = dict(zip(FIELDS[: len(fields)], fields, strict=True))
    for flag in ("paused", "drawn", "rate_fixed", "cancelled"):
        rest[flag] = rest.get(flag) == 1
    return Opening(id=opening_id, terms=OpeningTerms(**named), **rest)


def decode_stored(opening_id: str, stored: bytes) -> Opening:
    """Decode an opening's record.

    Raises:
        Unreadable: it is damaged.
    """
    terms, *fields = unpack_list(stored) or [None]
    values = [*fields[:FIRST_FIELDS], *fields[FIRST_FIELDS + LEASE_FIELDS :]]
    if not isinstance(terms, list) or len(values) not in (FIRST_FIELDS, len(FIELDS)):
        raise Unreadable("not an opening")
    if not _are_of(OpeningTerms, TERMS, terms) or not _are_of(Opening, FIELDS, values):
        raise Unreadable("not an opening")
    if not are_texts(fields[FIRST_FIELDS : FIRST_FIELDS + 1]):
        raise Unreadable("not a lease")
    return decode_opening(opening_id, terms, *values)


def _are_of(kind: type, names: Sequence[str], values: Sequence[Any]) -> bool:
    """Whether the values have the types of the first fields of a struct; offices are one text."""
    of = get_type_hints(kind)
    for name, value in zip(names, values, strict=False):
        if of[name] in (int, bool):
            if type(value) is not int or (name != "joins_from_ms" and not are_counts([value], SEQ_MAX)):
                return False
        elif not are_texts([value]):
            return False
    return len(values) <= len(names)
