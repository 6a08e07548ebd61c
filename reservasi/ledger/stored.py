"""What the Lua functions store, read past them: quotas and timers, as `lua/shared.lua` writes them.

A timer is one text, so that those of a quota stand together, the earliest first: the quota's number in six hexadecimal
digits, a time in eleven (until the year 2527), then what it is for: the id of a hold, or "+<seq>:<places>" for places
on their way back.
"""

import struct
from collections.abc import Iterable, Mapping

import msgpack
import msgspec

FORM = "4"  # of all that is stored; its mark stands before the run id in `meta`
FORMER_FORM = "3"  # of the release before, which this one reads, and rewrites as its own when it owns the ledger
QUOTA_HEAD = struct.Struct(">iiiiiq")
NUMBER_DIGITS = 6
TIME_DIGITS = 11
HEAD = NUMBER_DIGITS + TIME_DIGITS


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
    """A quota's record."""
    held, confirmed, returning, version, number, due_ms = QUOTA_HEAD.unpack_from(stored)
    return StoredQuota(
        held=held,
        confirmed=confirmed,
        returning=returning,
        version=version,
        number=number,
        due_ms=due_ms,
        limits=msgpack.unpackb(stored[QUOTA_HEAD.size :]),
    )


def encode_quota(quota: StoredQuota) -> bytes:
    """The reverse of `decode_quota`."""
    counts = (quota.held, quota.confirmed, quota.returning, quota.version, quota.number, quota.due_ms)
    limits: bytes = msgpack.packb(quota.limits)
    return QUOTA_HEAD.pack(*counts) + limits


def encode_timer(number: int, at_ms: int, what: str) -> str:
    """A timer's text."""
    return f"{number:0{NUMBER_DIGITS}x}{at_ms:0{TIME_DIGITS}x}{what}"


def decode_timers(stored: Iterable[bytes], names: Mapping[int, str]) -> dict[str, dict[str, int]]:
    """What is due when, in milliseconds, by quota: from texts in their order.

    `names` has the quotas by their numbers; a number that it lacks stands for itself, as it is written.
    """
    found: dict[str, dict[str, int]] = {}
    number = ""
    timers: dict[str, int] = {}
    for text in stored:
        timer = text.decode()
        if timer[:NUMBER_DIGITS] != number:
            number = timer[:NUMBER_DIGITS]
            timers = found.setdefault(names.get(int(number, 16), number), {})
        timers[timer[HEAD:]] = int(timer[NUMBER_DIGITS:HEAD], 16)
    return found
