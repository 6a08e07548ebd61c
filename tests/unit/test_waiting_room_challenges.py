"""Proofs of work: for one opening, for a while, for one join."""

import base64
import json
import random
import time
from collections.abc import Callable
from typing import Any

import altcha
import msgspec
import pytest

from reservasi.sealing import KeyRing, Sealing
from reservasi.waiting_room.challenges import LIFETIME_S, PROOF_CHARS_MAX, Challenges, ProofInvalid

RING = KeyRing(identity=b"i" * 32, active="k1", sealing={"k1": b"1" * 32, "k2": b"2" * 32})
OPENING = "surabaya-20261201-0800"
HOUR_MS = 3_600_000
Json = dict[str, Any]


def challenges(ring: KeyRing = RING, *, used_max: int = 1000) -> Challenges:
    return Challenges(Sealing(ring).rotating_keys("proof-of-work"), iterations=5, used_max=used_max)


def now() -> int:
    return int(time.time() * 1000)


def solve(document: Json) -> str:
    challenge = altcha.Challenge.from_dict(json.loads(msgspec.json.encode(document)))
    solution = altcha.solve_challenge(challenge)
    assert solution is not None
    return altcha.Payload(challenge, solution).to_base64()


def altered(payload: str, change: Callable[[Json], Any]) -> str:
    parts = json.loads(base64.b64decode(payload))
    change(parts)
    return base64.b64encode(json.dumps(parts).encode()).decode()


def test_a_solved_challenge_counts_at_any_front_of_the_deployment() -> None:
    payload = solve(challenges().create(OPENING, now(), HOUR_MS))
    assert len(payload) < PROOF_CHARS_MAX / 4
    for front in (challenges(), challenges()):
        front.verify(payload, OPENING, now())
    rotated = challenges(msgspec.structs.replace(RING, active="k2"))
    rotated.verify(payload, OPENING, now())
    with pytest.raises(ProofInvalid, match="not one of ours"):
        challenges(KeyRing(identity=b"i" * 32, active="k1", sealing={"k1": b"x" * 32})).verify(payload, OPENING, now())


def test_it_counts_once_but_again_for_whoever_presented_it() -> None:
    front = challenges()
    payload = solve(front.create(OPENING, now(), HOUR_MS))
    front.verify(payload, OPENING, now(), holder="siti")
    front.verify(payload, OPENING, now(), holder="siti")
    for other in ("budi", ""):
        with pytest.raises(ProofInvalid, match="already used"):
            front.verify(payload, OPENING, now(), holder=other)
    unheld = solve(front.create(OPENING, now(), HOUR_MS))
    front.verify(unheld, OPENING, now())
    with pytest.raises(ProofInvalid, match="already used"):
        front.verify(unheld, OPENING, now())


def test_it_counts_for_its_opening_and_its_time_only() -> None:
    front = challenges()
    payload = solve(front.create(OPENING, now(), HOUR_MS))
    with pytest.raises(ProofInvalid, match="another opening"):
        front.verify(payload, "surabaya-20261202-0800", now())
    with pytest.raises(ProofInvalid, match="expired"):
        front.verify(payload, OPENING, now() + LIFETIME_S * 1000)
    with pytest.raises(ProofInvalid, match="expired"):
        front.verify(solve(front.create(OPENING, now() - (LIFETIME_S + 2) * 1000, HOUR_MS)), OPENING, now())
    front.verify(payload, OPENING, now())  # neither attempt has spent it


def test_it_ends_with_its_opening() -> None:
    front = challenges()
    payload = solve(front.create(OPENING, now(), 60_000))
    front.verify(payload, OPENING, now())
    with pytest.raises(ProofInvalid, match="expired"):
        front.verify(payload, OPENING, now() + 61_000)


def test_a_wrong_solution_spends_the_challenge() -> None:
    front = challenges()
    payload = solve(front.create(OPENING, now(), HOUR_MS))
    wrong = altered(payload, lambda parts: parts["solution"].update(counter=parts["solution"]["counter"] + 1))
    with pytest.raises(ProofInvalid, match="wrong"):
        front.verify(wrong, OPENING, now(), holder="siti")
    with pytest.raises(ProofInvalid, match="already used"):
        front.verify(payload, OPENING, now(), holder="siti")


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts["challenge"]["parameters"].update(expiresAt=2**40),
        lambda parts: parts["challenge"]["parameters"].update(keyPrefix=""),
        lambda parts: parts["challenge"]["parameters"].update(cost=1),
        lambda parts: parts["challenge"]["parameters"]["data"].update(kid="k2"),
        lambda parts: parts["challenge"]["parameters"]["data"].update(kid="k3"),
        lambda parts: parts["challenge"]["parameters"]["data"].update(kid=["k1"]),
        lambda parts: parts["challenge"]["parameters"].update(data=None),
        lambda parts: parts["challenge"]["parameters"].update(data="kid"),
        lambda parts: parts["challenge"]["parameters"].update(expiresAt=None),
        lambda parts: parts["challenge"].update(signature=""),
        lambda parts: parts["challenge"].update(signature=None),
        lambda parts: parts["challenge"].update(signature=parts["challenge"]["signature"].upper()),
        lambda parts: parts["challenge"].update(signature=parts["challenge"]["signature"] + " "),
    ],
)
def test_an_altered_challenge_is_not_ours(change: Callable[[Json], Any]) -> None:
    front = challenges()
    payload = solve(front.create(OPENING, now(), HOUR_MS))
    with pytest.raises(ProofInvalid, match="not one of ours"):
        front.verify(altered(payload, change), OPENING, now())
    front.verify(payload, OPENING, now())


def test_anything_else_is_refused_and_breaks_nothing() -> None:
    front = challenges()
    payload = solve(front.create(OPENING, now(), HOUR_MS))
    nested = base64.b64encode(b"[" * 3000).decode()
    for text in ("", "{}", "é", "AAAA", base64.b64encode(b"[]").decode(), nested, "A" * (PROOF_CHARS_MAX + 1)):
        with pytest.raises(ProofInvalid):
            front.verify(text, OPENING, now())
    values: list[Any] = [None, 0, -1, 2**70, 1.5, "", "x", [], {}, True]
    choice = random.Random(7)

    def scramble(parts: Json) -> None:
        place: Json = parts
        while True:
            name = choice.choice(sorted(place))
            if isinstance(place[name], dict) and choice.random() < 0.8:
                place = place[name]
                continue
            place[name] = choice.choice(values)
            return

    for _ in range(500):
        broken = altered(payload, scramble)
        try:
            challenges().verify(broken, OPENING, now())
        except ProofInvalid:
            continue
        assert altered(broken, lambda parts: parts["solution"].pop("time")) == altered(
            payload, lambda parts: parts["solution"].pop("time")
        ), "only the time it took may be written otherwise"


def test_the_memory_of_used_ones_is_bounded_and_forgets_the_oldest() -> None:
    front = challenges(used_max=3)
    payloads = [solve(front.create(OPENING, now(), HOUR_MS)) for _ in range(5)]
    for payload in payloads:
        front.verify(payload, OPENING, now())
        assert len(front._used) <= 3
    for payload in payloads[2:]:
        with pytest.raises(ProofInvalid, match="already used"):
            front.verify(payload, OPENING, now())
    front._spend(b"later", "", now() + 3 * LIFETIME_S * 1000)
    assert list(front._used) == [b"later"], "what has expired is forgotten"
