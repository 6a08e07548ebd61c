"""The draw: the order of the people who joined, from a seed that nobody can change, or know before the opening.

The seed's hash, the commitment, is public from the creation of the opening; the seed itself from the opening on. An
outside value, the beacon, may be mixed in: then not even a person who knows the seed knows the draw beforehand. Anyone
can repeat the computation from public data: an HMAC and integer arithmetic.
"""

import hashlib
import hmac
import re
import secrets

from reservasi.tidying import tidy_line

SEED_BYTES = 32
DRAW_BITS = 64  # of the HMAC; with 10^6 people each number's chance is even to one part in 10^13
BEACON_CHARS_MAX = 256
BEACON_PATTERN = rf"[!-~]{{1,{BEACON_CHARS_MAX}}}"  # one word of ASCII, so that everybody computes with the same bytes
_BEACON = re.compile(BEACON_PATTERN)


def new_seed() -> bytes:
    return secrets.token_bytes(SEED_BYTES)


def commitment(seed: bytes) -> str:
    """The public commitment to a seed: its SHA-256, 64 hex digits."""
    return hashlib.sha256(seed).hexdigest()


def tidy_beacon(text: str) -> str:
    """A beacon as it is pasted, without white space around it and without invisible characters."""
    return tidy_line(text).strip(" \r\n")


def is_beacon(text: str) -> bool:
    return _BEACON.fullmatch(text) is not None


def number(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """The number of a ticket whose holder joined before the opening: 0 <= number < joined; 0 if nobody joined.

    HMAC-SHA-256 under the seed gives u, its first 8 bytes big-endian; the number is floor(u / 2^64 x joined). Two
    people may get the same number: their claims are decided in the order of arrival.
    """
    digest = hmac.digest(seed, f"{ticket_id}\n{beacon}".encode(), "sha256")
    return (int.from_bytes(digest[: DRAW_BITS // 8], "big") * joined) >> DRAW_BITS
