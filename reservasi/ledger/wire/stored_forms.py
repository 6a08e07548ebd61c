"""What the Lua functions store, read past them: quotas and timers, as `lua/shared.lua` writes them.

Any value may be damaged: what cannot have been written by the functions (`lua/shapes.lua`) raises `Unreadable`, so that
it is named and the others are read.

A timer is one text, so that those of a quota stand together, the earliest first: the quota's number in six hexadecimal
digits, a time in eleven (until the year 2527), then what it is for: the id of a hold, or "+<seq>:<places>" for places
on their way back.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgpack
import msgspec

from reservasi.model import SEQ_MAX

FORM = "4"  # of all that is stored; its mark stands before the run id in `meta`
FORMER_FORM = "3"  # of the release before, which this one reads, and rewrites as its own when it owns the ledger
QUOTA_HEAD = struct.Struct(">iiiiiq")
NUMBER_DIGITS = 6
TIME_DIGITS = 11
HEAD = NUMBER_DIGITS + TIME_DIGITS
LIMITS = 8  # of a quota: what the ledger judges by
FACTS = 6  # texts; what imports set may stand behind them
T = TypeVar("T")


class Unreadable(ValueError):
    """A stored value that the functions cannot have written."""


def unpack_list(packed: bytes) -> list[Any]:
    """Unpack a stored text that must hold one msgpack array and nothing behind it.

    Raises:
        Unreadable: it is no array, or more than one value.
    """
    try:
        found = msgpack.unpackb(packed, strict_map_key=False)
    except (ValueError, TypeError) as error:
        raise Unreadable(str(error)) from error
    if not isinstance(found, list):
        raise Unreadable("no array")
    return found


def read_each(
    pairs: Iterable[tuple[bytes, Any]], decode: Callable[[str, Any], T], *, key: str, unreadable: list[str]
) -> dict[str, T]:
    """A hash's values by their fields; `unreadable` gets those that cannot be read, behind the name of the key."""
    found: dict[str, T] = {}
    for field, value in pairs:
        name = readable(field)
        try:
            found[name] = decode(field.decode(), value)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            unreadable.append(f"{key} {name}")
    return found


def readable(value: bytes | str) -> str:
    """A text for people and for comparing, whatever its bytes."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def are_counts(values: Sequence[Any], most: int = SEQ_MAX) -> bool:
    """Whether all of them are whole numbers that the ledger may have counted."""
    return all(type(value) is int and 0 <= value <= most for value in values)


def are_texts(values: Sequence[Any]) -> bool:
    """Whether all of them are texts."""
    return all(type(value) is str for value in values)


def decode_facts(packed: bytes) -> list[Any]:
    """What is known of a quota beside its limits: office, service, channel, date, start, end; and what imports set.

    Raises:
        Unreadable: it is damaged.
    """
    facts = unpack_list(packed)
    imported = facts[FACTS:]
    if not are_texts(facts[:FACTS]) or len(facts) < FACTS or len(imported) > 1:
        raise Unreadable("no facts")
    if imported and not (isinstance(imported[0], list) and all(type(value) is int for value in imported[0])):
        raise Unreadable("no facts")
    return facts


class StoredQuota(msgspec.Struct, kw_only=True):
    """A quota's record."""

    held: int
    confirmed: int
    returning: int
    version: int
    number: int  # stands for the quota in reservations and timers
    due_ms: int  # when its earliest timer may be due; 0 when it has none
    limits: list[int]  # the terms that the ledger judges by, in their order


def decode_quota(stored: bytes) -> StoredQuota:
    """A quota's record.

    Raises:
        Unreadable: it is damaged.
    """
    if len(stored) <= QUOTA_HEAD.size:
        raise Unreadable("too short")
    held, confirmed, returning, version, number, due_ms = QUOTA_HEAD.unpack_from(stored)
    limits = unpack_list(stored[QUOTA_HEAD.size :])
    if len(limits) != LIMITS or not are_counts([*limits, held, confirmed, returning, version, number, due_ms], SEQ_MAX):
        raise Unreadable("no quota")
    if held + confirmed + returning > limits[0] or not number:
        raise Unreadable("more is taken than there is")
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
    """What is due when, in milliseconds, by quota: from texts in their order.

    `names` has the quotas by their numbers; a number that it lacks stands for itself, as it is written. A text that is
    none of a timer is named in `unreadable`.
    """
    found: dict[str, dict[str, int]] = {}
    number = ""
    timers: dict[str, int] = {}
    for text in stored:
        try:
            timer = text.decode()
            at_ms = int(timer[NUMBER_DIGITS:HEAD], 16)
            if timer[:NUMBER_DIGITS] != number:
                of = names.get(int(timer[:NUMBER_DIGITS], 16), timer[:NUMBER_DIGITS])
                timers, number = found.setdefault(of, {}), timer[:NUMBER_DIGITS]
        except ValueError:
            if unreadable is not None:
                unreadable.append(f"timers {readable(text)}")
            continue
        timers[timer[HEAD:]] = at_ms
    return found
