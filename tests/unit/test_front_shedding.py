"""Refusing claims unread: only while requests are queued, never the first of a turn, and only plain requests."""

import asyncio
import re
from collections.abc import Callable

import pytest

from reservasi.front.http.shedding import INTAKE_S, INTERVAL_S, STANDING_S, Shedding, Turns

BODY_BYTES_MAX = 1000
BODY = b'{"quota":"x"}'
HEAD = b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n"
CLAIM = HEAD + b"\r\n" + BODY
JOIN = CLAIM.replace(b"reservations", b"openings/o-1/tickets")


class Loop:
    """An event loop whose clock and turns the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.soon: list[Callable[[], None]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.checked = 0  # claims that were passed to `refuses`
        self.turns = Turns(self.soon.append, self.call_later, lambda: self.now_s)

    def call_later(self, after_s: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now_s + after_s, call))

    def turn(self, *, claims: int, each_s: float, refusal_s: float = 0.0) -> int:
        """A turn that reads so many claims; how many were refused."""
        for timer in [each for each in self.timers if each[0] <= self.now_s]:
            self.timers.remove(timer)
            timer[1]()
        refused = 0
        for _ in range(claims):
            self.checked += self.turns.checks
            is_refused = self.turns.checks and self.turns.refuses()
            refused += is_refused
            self.now_s += refusal_s if is_refused else each_s
        soon, self.soon[:] = list(self.soon), []
        for call in soon:
            call()
        return refused

    def stand(self) -> None:
        """Turns longer than they may be, until that is noticed."""
        for _ in range(200):
            if self.turns.standing:
                return
            self.turn(claims=100, each_s=STANDING_S / 50)
        raise AssertionError("nobody noticed")


def test_a_burst_is_taken_in_whole() -> None:
    loop = Loop()
    assert loop.turn(claims=4000, each_s=50e-6) == 0  # 200 ms, once
    for _ in range(1000):
        assert loop.turn(claims=10, each_s=50e-6) == 0


def test_one_short_turn_in_each_interval_means_that_nothing_stands() -> None:
    loop = Loop()
    for _ in range(200):
        for _ in range(4):
            assert loop.turn(claims=100, each_s=STANDING_S / 50) == 0
        loop.turn(claims=1, each_s=50e-6)


def test_one_short_turn_spares_the_others_of_its_interval() -> None:
    loop = Loop()
    begun_s = loop.now_s
    while loop.now_s < begun_s + 10 * INTERVAL_S:
        loop.turn(claims=1, each_s=INTERVAL_S / 100)
        assert len(loop.timers) <= 1
    assert 10 <= loop.checked <= 30  # of a thousand


def test_requests_that_queue_after_a_quiet_interval_are_noticed_in_the_next() -> None:
    loop = Loop()
    for _ in range(250):
        loop.turn(claims=1, each_s=INTERVAL_S / 100)
    began_s = loop.now_s
    loop.stand()
    assert loop.now_s - began_s <= 2 * INTERVAL_S + 3 * 2 * STANDING_S


def test_what_stands_is_cut_to_the_intake_of_each_turn() -> None:
    loop = Loop()
    loop.stand()
    refused = loop.turn(claims=1000, each_s=INTAKE_S / 100, refusal_s=1e-6)
    assert 1000 - 102 <= refused <= 1000 - 100


def test_a_claim_that_takes_longer_than_the_intake_is_still_taken_in() -> None:
    loop = Loop()
    loop.stand()
    assert loop.turn(claims=3, each_s=INTAKE_S * 2) == 2


def test_cutting_goes_on_though_turns_are_short_and_ends_when_nobody_had_to_be_refused() -> None:
    loop = Loop()
    loop.stand()
    for _ in range(200):
        assert loop.turn(claims=300, each_s=INTAKE_S / 100, refusal_s=1e-6) > 0
    ends_at_s = loop.now_s + 3 * INTERVAL_S
    while loop.now_s < ends_at_s:
        loop.turn(claims=50, each_s=INTAKE_S / 100)
    assert not loop.turns.standing
    assert loop.turn(claims=1000, each_s=INTAKE_S / 100) == 0


def test_what_was_known_before_a_quiet_time_is_forgotten() -> None:
    loop = Loop()
    loop.stand()
    loop.now_s += 60
    loop.turn(claims=1, each_s=50e-6)
    assert loop.turn(claims=1000, each_s=INTAKE_S / 100) == 0


@pytest.fixture
async def refusing() -> Shedding:
    """Refuses whatever it may."""
    shedding = Shedding(BODY_BYTES_MAX)
    shedding.turns.refuses = lambda: True  # type: ignore[method-assign]
    return shedding


@pytest.mark.parametrize(
    ("line", "language"),
    [(b"", "id"), (b"Accept-Language: en-GB, id;q=0.5\r\n", "en"), (b"accept-LANGUAGE:id\r\n", "id")],
)
async def test_the_refused_are_told_in_their_language(refusing: Shedding, line: bytes, language: str) -> None:
    answer = refusing.refusal(HEAD + line + b"\r\n" + BODY)
    assert answer is not None
    assert f"\r\nContent-Language: {language}\r\n".encode() in answer
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "data",
    [
        HEAD,  # the head is not whole
        CLAIM[:-1],
        CLAIM + b"P",
        CLAIM.replace(b"Content-Length: 13\r\n", b""),
        CLAIM.replace(b"Content-Length: 13\r\n", b"Content-Length: 13\r\nContent-Length: 13\r\n"),
        CLAIM.replace(b"13", b"+13"),
        CLAIM.replace(b"13", b"1_3"),
        CLAIM.replace(b"Host: x\r\n", b"Host: x\r\n folded\r\n"),
        CLAIM.replace(b"Host: x\r\n", b"Host: x\n"),
        CLAIM.replace(b"Host: x\r\n", b"Host: x\r"),
        CLAIM.replace(b"Host: x", b"Transfer-Encoding: chunked"),
        CLAIM.replace(b"Host: x", b"Connection: close"),
        CLAIM.replace(b"Host: x", b"Expect: 100-continue"),
    ],
)
async def test_whatever_may_end_elsewhere_is_left_to_the_parsers(refusing: Shedding, data: bytes) -> None:
    assert refusing.refusal(data) is None


@pytest.mark.parametrize(
    ("data", "is_refused"),
    [
        (CLAIM, True),
        (JOIN, True),
        (CLAIM.replace(b"reservations", b"reservations/r-1/confirm"), False),
        (CLAIM.replace(b"POST", b"GET"), False),
        (CLAIM.replace(b"reservations", b"staff/quotas"), False),
    ],
)
async def test_only_new_claims_and_joins_are_refused(
    data: bytes, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shedding = Shedding(BODY_BYTES_MAX)
    monkeypatch.setattr(shedding.turns, "refuses", lambda: True)
    answer = shedding.refusal(data)
    await asyncio.sleep(0)  # the metrics are told
    assert (answer is not None) == is_refused
    if answer is not None:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head
        assert b'"/problems/overloaded"' in body


@pytest.mark.parametrize("standing", [False, True])
async def test_while_requests_stand_all_but_the_first_of_a_turn_are_looked_at(
    standing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    shedding = Shedding(BODY_BYTES_MAX)
    monkeypatch.setattr(shedding.turns, "_clock", lambda: now_s)
    shedding.turns.standing = standing
    assert shedding.refusal(CLAIM) is None
    now_s += 2 * INTAKE_S
    assert (shedding.refusal(CLAIM) is not None) == standing
    await asyncio.sleep(0)


async def test_the_refused_are_told_different_times() -> None:
    shedding = Shedding(BODY_BYTES_MAX)
    shedding.turns.refuses = lambda: True  # type: ignore[method-assign]
    answers = {(shedding.refusal(CLAIM) or b"").partition(b"Retry-After: ")[2][:1] for _ in range(200)}
    await asyncio.sleep(0)
    assert answers == {b"1", b"2", b"3", b"4", b"5"}


async def test_who_is_refused_unread_finds_the_name_of_the_request_in_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shedding = Shedding(BODY_BYTES_MAX)
    monkeypatch.setattr(shedding.turns, "refuses", lambda: True)
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    names = b"X-REQUEST-id:  Booking/7 \r\nTraceparent: " + parent + b"\r\n"
    named = shedding.refusal(HEAD + names + b"\r\n" + BODY)
    assert named is not None
    assert b"\r\nX-Request-Id: Booking/7\r\ntraceparent: " + parent + b"\r\n" in named
    hostile = shedding.refusal(HEAD + b"X-Request-Id: a b\r\n\r\n" + BODY)
    assert b"X-Request-Id" not in (shedding.refusal(CLAIM) or b"X-Request-Id")  # no line of the log would have it
    assert re.search(rb"\r\nX-Request-Id: [0-9a-f]{16}-[0-9a-f]+\r\n", hostile or b"")
    await asyncio.sleep(0)
