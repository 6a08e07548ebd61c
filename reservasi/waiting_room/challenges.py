"""Proof of work before joining, after ALTCHA version 2: cheap for one person, expensive for a hundred thousand joins.

A challenge names its opening and its end, and is signed with a key of the ring, so that any front verifies challenges
of the others. PBKDF2 is used because browsers compute it natively: a special program is hardly faster than a phone. One
challenge serves one join at each front process; the memory of used ones is bounded.
"""

import altcha
import msgspec

from reservasi.errors import ReservasiError
from reservasi.sealing import RotatingKeys

ALGORITHM = "PBKDF2/SHA-256"
ITERATIONS = 2000  # for each attempt
KEY_PREFIX = "00"  # one attempt in 256 succeeds
LIFETIME_S = 600
PROOF_CHARS_MAX = 4096
USED_MAX = 50_000  # of the last twenty minutes; about 12 MB


class ProofInvalid(ReservasiError):
    """A proof of work is malformed, for something else, expired, or already used."""


class _Use(msgspec.Struct, frozen=True, gc=False):
    holder: str  # who may present it again; "" nobody
    forget_at_ms: int


class Challenges:
    """Makes challenges and verifies proofs under one ring: `Challenges(sealing.rotating_keys("proof-of-work"))`."""

    def __init__(self, keys: RotatingKeys, *, iterations: int = ITERATIONS, used_max: int = USED_MAX) -> None:
        self._keys = keys
        self._iterations = iterations
        self._used_max = used_max
        self._used: dict[bytes, _Use] = {}  # by signature, in the order of use, which is also the order of removal

    def renew(self, keys: RotatingKeys) -> None:
        """Continue with the keys of a rotated ring; used challenges stay used."""
        self._keys = keys

    def create(self, opening: str, now_ms: int, left_ms: int) -> dict[str, object]:
        """A new challenge for joining this opening, as the JSON document that ALTCHA's widget takes.

        `now_ms` is this host's wall clock; the opening, and with it the challenge, ends in `left_ms`.
        """
        challenge = altcha.create_challenge(
            ALGORITHM,
            self._iterations,
            key_prefix=KEY_PREFIX,
            expires_at=min(now_ms // 1000 + LIFETIME_S, (now_ms + left_ms) // 1000),
            data={"kid": self._keys.active, "opening": opening},
            hmac_secret=self._keys.keys[self._keys.active],
        )
        return challenge.to_dict()

    def verify(self, payload: str, opening: str, now_ms: int, *, holder: str = "") -> None:
        """Accept a solved challenge, as written by the widget (base64), once, for joining this opening.

        The same `holder`, such as a ticket id, may present it again, since an answer may get lost. A challenge that is
        not signed, expired or used is refused before the expensive check of the solution. `now_ms` is this host's wall
        clock.

        Raises:
            ProofInvalid: it does not count; the message says why.
        """
        proof = _parse(payload)
        mark, key = self._signed_with(proof.challenge, opening, now_ms)
        use = self._used.get(mark)
        if use is not None and not (holder and holder == use.holder):
            raise ProofInvalid("the challenge was already used")
        result = altcha.verify_solution(proof, key)
        if result.expired:
            raise ProofInvalid("the challenge has expired")
        if result.invalid_signature:
            raise ProofInvalid("the challenge is not one of ours")
        if use is None:  # a wrong solution uses it up: another attempt needs another challenge
            self._spend(mark, holder if result.verified else "", now_ms)
        if not result.verified:
            raise ProofInvalid("the solution is wrong")

    def _signed_with(self, challenge: altcha.Challenge, opening: str, now_ms: int) -> tuple[bytes, bytes]:
        """The key under which a use is stored, and the key that verifies the signature."""
        data, ends_at_s = challenge.parameters.data, challenge.parameters.expires_at
        try:
            mark = bytes.fromhex(challenge.signature or "")
            key = self._keys.keys[data["kid"]] if data is not None else None
        except (KeyError, TypeError, ValueError) as error:
            raise ProofInvalid("the challenge is not one of ours") from error
        if data is None or key is None or not isinstance(ends_at_s, int):
            raise ProofInvalid("the challenge is not one of ours")
        if now_ms >= ends_at_s * 1000:
            raise ProofInvalid("the challenge has expired")
        if data.get("opening") != opening:
            raise ProofInvalid("the challenge is for another opening")
        return mark, key

    def _spend(self, mark: bytes, holder: str, now_ms: int) -> None:
        while self._used:
            oldest = next(iter(self._used))
            if self._used[oldest].forget_at_ms > now_ms and len(self._used) < self._used_max:
                break
            del self._used[oldest]
        self._used[mark] = _Use(holder, now_ms + 2 * LIFETIME_S * 1000)  # twice, since the clocks of fronts differ


def _parse(payload: str) -> altcha.Payload:
    """The parts of a proof; their values are checked by the signature."""
    if len(payload) > PROOF_CHARS_MAX:
        raise ProofInvalid("the proof is too long")
    try:
        return altcha.Payload.from_base64(payload)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProofInvalid("the proof cannot be read") from error
