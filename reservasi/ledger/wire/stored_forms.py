"""Decodes what the Lua functions store: quotas and timers, as `lua/shared.lua` writes them.

Any value may be damaged: a value that the functions (`lua/shapes.lua`) cannot have written raises `Unreadable`, so that
it is reported and the others are read.

A timer is one text, so that those of a quota are adjacent, the earliest first: the quota's number in six hexadecimal
digits, a time in eleven (until the year 2527), then its purpose: the id of a hold, or "+<seq>:<places>" for returning
places.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgpack
import msgspec

from reservasi.model import SEQ_MAX

FORM = "4"  # of everything stored; its mark precedes the run id in `meta`
FORMER_FORM = "3"  # of the previous release, which this one reads, and replaces by its own when it owns the ledger
QUOTA_HEAD = struct.Struct(">iiiiiq")
NUMBER_DIGITS = 6
TIME_DIGITS = 11
HEAD = NUMBER_DIGITS + TIME_DIGITS
LIMITS = 8  # number of a quota's terms that the ledger uses in decisions
FACTS = 6  # texts; values set by imports may follow
T = TypeVar("T")


class Unreadable(ValueError):
    """A stored value that the functions cannot have written."""


def unpack_list(packed: bytes) -> list[Any]:
    """Unpack a stored text that must be exactly one msgpack array.

    Raises:
        Unreadable: it is not an array, or more than one value.
    """
    try:
        value = msgpack.unpackb(packed, strict_map_key=False)
    except (ValueError, TypeError) as error:
        raise Unreadable(str(error)) from error
    if not isinstance(value, list):
        raise Unreadable("not an array")
    return value


def read_each(
    pairs: Iterable[tuple[bytes, Any]], decode: Callable[[str, Any], T], *, key: str, unreadable: list[str]
) -> dict[str, T]:
    """A hash's decoded values by field; "<key> <field>" of values that cannot be read is added to `unreadable`."""
    decoded: dict[str, T] = {}
    for field, value in pairs:
        name = readable(field)
        try:
            decoded[name] = decode(field.decode(), value)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            unreadable.append(f"{key} {name}")
    return decoded


def readable(value: bytes | str) -> str:
    """A text of any bytes, for messages and comparisons."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def are_counts(values: Sequence[Any], most: int = SEQ_MAX) -> bool:
    """Whether all values are whole numbers in the range of the ledger's counts."""
    return set(map(type, values)) <= {int} and min(values, default=0) >= 0 and max(values, default=0) <= most


def are_texts(values: Sequence[Any]) -> bool:
    """Whether all of them are texts."""
    return set(map(type, values)) <= {str}


def decode_facts(packed: bytes) -> list[Any]:
    """The facts of a quota: office, service, channel, date, start, end; then values set by imports.

    Raises:
        Unreadable: it is damaged.
    """
    facts = unpack_list(packed)
    imported = facts[FACTS:]
    if not are_texts(facts[:FACTS]) or len(facts) < FACTS or len(imported) > 1:
        raise Unreadable("not facts")
    if imported and not (isinstance(imported[0], list) and all(type(value) is int for value in imported[0])):
        raise Unreadable("not facts")
    return facts


class StoredQuota(msgspec.Struct, kw_only=True):
    """A quota's record."""

    held: int
    confirmed: int
    returning: int
    version: int
    number: int  # stands for the quota in reservations and timers
    due_ms: int  # when its earliest timer may be due; 0 if it has none
    limits: list[int]  # the terms that the ledger uses in decisions, in order


def decode_quota(stored: bytes) -> StoredQuota:
    """Decode a quota's record.

    Raises:
        Unreadable: it is damaged.
    """
    if len(stored) <= QUOTA_HEAD.size:
        raise Unreadable("too short")
    held, confirmed, returning, version, number, due_ms = QUOTA_HEAD.unpack_from(stored)
    limits = unpack_list(stored[QUOTA_HEAD.size :])
    if len(limits) != LIMITS or not are_counts([*limits, held, confirmed, returning, version, number, due_ms], SEQ_MAX):
        raise Unreadable("not a quota")
    if held + confirmed + returning > limits[0] or not number:
        raise Unreadable("more places are taken than exist")
    return StoredQuota(
        held=held,
        confirmed=confirmed,
        returning=returning,
        version=version,
        number=number,
        due_ms=due_ms,
        limits=limits,
    )


def encode_quota(quota: StoredQuota) -> bytes:
    """The reverse of `decode_quota`."""
    counts = (quota.held, quota.confirmed, quota.returning, quota.version, quota.number, quota.due_ms)
    limits: bytes = msgpack.packb(quota.limits)
    return QUOTA_HEAD.pack(*counts) + limits


def encode_timer(number: int, at_ms: int, what: str) -> str:
    """A timer's text."""
    return f"{number:0{NUMBER_DIGITS}x}{at_ms:0{TIME_DIGITS}x}{what}"


def decode_timers(
    stored: Iterable[bytes], names: Mapping[int, str], unreadable: list[str] | None = None
) -> dict[str, dict[str, int]]:
    """Due times in milliseconds by quota and purpose, from sorted texts.

    `names` maps numbers to quotas; an unknown number stands for itself. Texts that are not timers are added to
    `unreadable`.
    """
    by_quota: dict[str, dict[str, int]] = {}
    number = ""
    timers: dict[str, int] = {}
    for text in stored:
        try:
            timer = text.decode()
            at_ms = int(timer[NUMBER_DIGITS:HEAD], 16)
            if timer[:NUMBER_DIGITS] != number:
                of = names.get(int(timer[:NUMBER_DIGITS], 16), timer[:NUMBER_DIGITS])
                timers, number = by_quota.setdefault(of, {}), timer[:NUMBER_DIGITS]
        except ValueError:
            if unreadable is not None:
                unreadable.append(f"timers {readable(text)}")
            continue
        timers[timer[HEAD:]] = at_ms
    return by_quota
