"""Tickets: one encoding each, signed, and without a part that the bearer could choose."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc import jws
from joserfc.jwk import OctKey

from reservasi.sealing import KeyRing, Sealing, load_key_ring
from reservasi.waiting_room.tickets import (
    TICKET_CHARS_MAX,
    Ticket,
    TicketInvalid,
    Tickets,
    read_unverified,
)

RING = KeyRing(identity=b"i" * 32, active="k1", sealing={"k1": b"1" * 32, "k2": b"2" * 32})
OPENING = "surabaya-20261201-0800"
ENDS_AT_MS = 1_796_000_000_000
TICKET_ID = Sealing(RING).ticket_id("surabaya", OPENING, "p" * 22)
CLAIMS = {"aud": f"surabaya/{OPENING}", "jti": TICKET_ID, "exp": ENDS_AT_MS // 1000}
HEADER = {"alg": "HS256", "kid": "k1", "typ": "reservasi-ticket"}


def tickets_of(ring: KeyRing) -> Tickets:
    return Tickets(Sealing(ring).rotating_keys("ticket"))


@pytest.fixture
def tickets() -> Tickets:
    return tickets_of(RING)


@pytest.fixture
def token(tickets: Tickets) -> str:
    return tickets.issue("surabaya", OPENING, TICKET_ID, ENDS_AT_MS, None)


def encoded(value: Any) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(header: Any, claims: Any, *, key_id: str = "k1") -> str:
    """A text under one of our own keys: what even whoever could make us sign something would not get in."""
    content = f"{encoded(header)}.{encoded(claims)}"
    algorithm = jws.JWSRegistry.algorithms["HS256"]
    key = OctKey.import_key(Sealing(RING).rotating_keys("ticket").keys[key_id])
    return f"{content}.{encoded(algorithm.sign(content.encode(), key))}"


def refused(tickets: Tickets, text: str) -> None:
    with pytest.raises(TicketInvalid):
        tickets.read(text)


@pytest.mark.parametrize("number", [None, 0, 1_000_000])
def test_what_is_issued_is_read(number: int | None, tickets: Tickets) -> None:
    text = tickets.issue("surabaya", OPENING, TICKET_ID, ENDS_AT_MS, number)
    expected = Ticket(program="surabaya", opening=OPENING, id=TICKET_ID, ends_at_ms=ENDS_AT_MS, number=number)
    assert tickets.read(text) == expected
    assert read_unverified(text) == expected
    assert text == tickets.issue("surabaya", OPENING, TICKET_ID, ENDS_AT_MS, number), "asked again, it is the same text"


def test_any_jose_library_reads_it(token: str) -> None:
    key = OctKey.import_key(Sealing(RING).rotating_keys("ticket").keys["k1"])
    ticket = jws.deserialize_compact(token, key, algorithms=["HS256"])
    assert ticket.headers() == HEADER
    assert json.loads(ticket.payload) == CLAIMS
    assert signed(HEADER, CLAIMS) == token
    assert token.endswith(".DAMKvW8dKsmjt7bKQ14qUut7C480FkM4Na28vtGllTc"), (
        "a change here spoils the tickets that people hold"
    )


def test_its_end_is_told_and_not_judged_since_staff_may_move_it(tickets: Tickets, token: str) -> None:
    assert tickets.read(token).ends_at_ms == ENDS_AT_MS
    partly = tickets.issue("surabaya", OPENING, TICKET_ID, ENDS_AT_MS + 999, None)
    assert tickets.read(partly).ends_at_ms == ENDS_AT_MS
    refused(tickets, token[:-2] + "AA")


def test_the_id_is_of_the_person_and_the_opening() -> None:
    sealing = Sealing(RING)
    ids = {
        sealing.ticket_id(program, opening, person)
        for program in ("surabaya", "malang")
        for opening in (OPENING, "surabaya-20261202-0800")
        for person in ("p" * 22, "q" * 22)
    }
    assert len(ids) == 8
    assert {len(each) for each in ids} == {22}
    assert sealing.ticket_id("surabaya", OPENING, "p" * 22) in ids
    assert TICKET_ID == "VP9ENgYCazLqDj2OXwod52", "people hold tickets with these ids: a change here is a break"
    other = Sealing(msgspec.structs.replace(RING, identity=b"j" * 32))
    assert other.ticket_id("surabaya", OPENING, "p" * 22) not in ids


def test_every_altered_letter_is_noticed(tickets: Tickets, token: str) -> None:
    for at, letter in enumerate(token):
        for other in "A_.=+":
            if other != letter:
                refused(tickets, token[:at] + other + token[at + 1 :])
        refused(tickets, token[:at] + token[at + 1 :])
    # The last letter has two bits that a lenient reader would ignore: there is one text only.
    for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if other != token[-1]:
            refused(tickets, token[:-1] + other)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": "k1", "typ": "reservasi-ticket"},
        {"alg": "None", "kid": "k1", "typ": "reservasi-ticket"},
        {"alg": "HS512", "kid": "k1", "typ": "reservasi-ticket"},
        {"alg": "RS256", "kid": "k1", "typ": "reservasi-ticket"},
        {"alg": "HS256", "kid": "k3", "typ": "reservasi-ticket"},
        {"alg": "HS256", "kid": "k2", "typ": "reservasi-ticket"},  # signed with k1
        {"alg": "HS256", "kid": "", "typ": "reservasi-ticket"},
        {"alg": "HS256", "kid": "k1", "typ": "JWT"},
        {"alg": "HS256", "kid": "k1"},
        {"alg": "HS256", "typ": "reservasi-ticket"},
        {"alg": "HS256"},
        {"kid": "k1", "alg": "HS256", "typ": "reservasi-ticket"},
        {**HEADER, "jwk": {"kty": "oct", "k": "AAAA"}},
        {**HEADER, "jku": "https://example.org/keys"},
        {**HEADER, "crit": ["b64"], "b64": False},
        b'{"alg":"HS256","alg":"none","kid":"k1","typ":"reservasi-ticket"}',
        b"",
        b"null",
    ],
)
def test_only_our_own_header_is_read(header: Any, tickets: Tickets) -> None:
    refused(tickets, signed(header, CLAIMS))
    refused(tickets, f"{encoded(header)}.{encoded(CLAIMS)}.")


@pytest.mark.parametrize(
    "claims",
    [
        {},
        [],
        b"",
        b"{",
        b"\xff",
        {**CLAIMS, "iss": "somebody"},
        {**CLAIMS, "n": None},
        {**CLAIMS, "n": -1},
        {**CLAIMS, "n": 1.5},
        {**CLAIMS, "n": "1"},
        {**CLAIMS, "exp": str(CLAIMS["exp"])},
        {**CLAIMS, "exp": -1},
        {**CLAIMS, "aud": OPENING},
        {**CLAIMS, "aud": f"surabaya/x/{OPENING}"},
        {**CLAIMS, "aud": [f"surabaya/{OPENING}"]},
        {**CLAIMS, "jti": TICKET_ID[:-1]},
        {"aud": CLAIMS["aud"], "jti": TICKET_ID},
        {"jti": TICKET_ID, "aud": CLAIMS["aud"], "exp": CLAIMS["exp"]},
        json.dumps(CLAIMS).encode(),  # with spaces
        json.dumps(CLAIMS, separators=(",", ":")).replace("}", ',"exp":4102444800}').encode(),
        json.dumps(CLAIMS, separators=(",", ":")).replace("}", ',"n":1,"n":0}').encode(),
    ],
)
def test_only_our_own_claims_are_read_even_under_our_signature(claims: Any, tickets: Tickets) -> None:
    text = signed(HEADER, claims)
    refused(tickets, text)
    with pytest.raises(TicketInvalid):
        read_unverified(text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "...", "a.b.c", "ü.ü.ü", "\ud800", "A" * 5000, " ", "eyJhbGciOiJub25lIn0.e30."]
)
def test_anything_else_is_no_ticket(text: str, tickets: Tickets) -> None:
    refused(tickets, text)
    with pytest.raises(TicketInvalid):
        read_unverified(text)


def test_long_texts_are_refused_unread(tickets: Tickets, token: str) -> None:
    assert len(token) < TICKET_CHARS_MAX / 4
    refused(tickets, token + "A" * TICKET_CHARS_MAX)
    long = signed(HEADER, {**CLAIMS, "aud": f"surabaya/{'x' * TICKET_CHARS_MAX}"})
    refused(tickets, long)
    with pytest.raises(TicketInvalid):
        read_unverified(long)


def test_whoever_has_no_key_still_reads_the_form_only(token: str) -> None:
    head, claims, signature = token.split(".")
    assert read_unverified(f"{head}.{claims}.{'A' * 43}").id == TICKET_ID
    foreign = encoded({**HEADER, "kid": "another"})
    assert read_unverified(f"{foreign}.{claims}.{signature}").id == TICKET_ID
    for other in ("", "A", "A" * 42, "A" * 44, signature + "=", "+" * 43):
        with pytest.raises(TicketInvalid):
            read_unverified(f"{head}.{claims}.{other}")
    headers: list[Any] = [{**HEADER, "alg": "none"}, {**HEADER, "typ": "JWT"}, {**HEADER, "x": 1}, {"kid": "k1"}, []]
    headers.append(dict(reversed(HEADER.items())))
    for header in headers:
        with pytest.raises(TicketInvalid):
            read_unverified(f"{encoded(header)}.{claims}.{signature}")


def test_tickets_outlive_a_rotation_of_the_keys_and_not_a_removal(tmp_path: Path) -> None:
    """As an operator does it in mid-opening: a key more in the ring's file, and `active` names it."""
    path = tmp_path / "secrets.json"
    before = tickets_of(load_key_ring(path, create=True))
    old = before.issue("surabaya", OPENING, TICKET_ID, ENDS_AT_MS, 7)
    written = json.loads(path.read_bytes())
    written["sealing"]["2026-12"] = base64.b64encode(b"n" * 32).decode()
    path.write_text(json.dumps(written))
    prepared = tickets_of(load_key_ring(path, create=False))  # fronts learn the key before one of them signs with it
    written["active"] = "2026-12"
    path.write_text(json.dumps(written))
    after = tickets_of(load_key_ring(path, create=False))
    new = after.issue("surabaya", OPENING, TICKET_ID, ENDS_AT_MS, 7)
    assert new != old
    for front in (prepared, after):
        assert front.read(old) == front.read(new)
    refused(before, new)
    del written["sealing"]["k1"]
    path.write_text(json.dumps(written))
    removed = tickets_of(load_key_ring(path, create=False))
    removed.read(new)
    refused(removed, old)


def test_no_purpose_and_no_ring_shares_a_key(tickets: Tickets, token: str) -> None:
    sealing = Sealing(RING)
    refused(Tickets(sealing.rotating_keys("proof-of-work")), token)
    refused(tickets_of(msgspec.structs.replace(RING, sealing={"k1": b"9" * 32})), token)
    # Tickets follow the sealing keys alone: the identity may not sign.
    tickets_of(msgspec.structs.replace(RING, identity=b"j" * 32)).read(token)
    keys = {*sealing.rotating_keys("ticket").keys.values(), *sealing.rotating_keys("proof-of-work").keys.values()}
    assert len(keys | set(RING.sealing.values()) | {RING.identity}) == 7
