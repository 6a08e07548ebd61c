"""The draw: who comes when, decided by a seed that nobody can change or know before the opening.

The seed's hash, the commitment, is public from the moment an opening is created; the seed itself from the opening on.
An outside value, the beacon, may be mixed in: then not even whoever knows the seed knows the draw beforehand. Anyone
can do this arithmetic again from public data: an HMAC, and integers.
"""

import hashlib
import hmac
import secrets

SEED_BYTES = 32
DRAW_BITS = 64  # of the HMAC; with 10^6 people each number's chance is even to one part in 10^13


def new_seed() -> bytes:
    """A fresh seed from the system's random source, 32 bytes."""
    return secrets.token_bytes(SEED_BYTES)


def commitment(seed: bytes) -> str:
    """What is published of a seed when its opening is created: its SHA-256, 64 hex digits."""
    return hashlib.sha256(seed).hexdigest()


def number(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """The place of a ticket whose holder joined before the opening: 0 <= number < joined; 0 when nobody joined.

    HMAC-SHA-256 under the seed gives u, its first 8 bytes big-endian; the number is floor(u / 2^64 x joined). Two
    people may have the same number: their claims go in the order they arrive.
    """
    digest = hmac.digest(seed, f"{ticket_id}\n{beacon}".encode(), "sha256")
    return (int.from_bytes(digest[: DRAW_BITS // 8], "big") * joined) >> DRAW_BITS
