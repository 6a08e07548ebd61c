"""Decoding of events: one that cannot be read is kept, and does not affect the others."""

import ast
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reservasi
from reservasi.errors import UnreadableEntry
from reservasi.events import Confirmed, Ended, Held, JournalEntry, Returned, Unreadable
from reservasi.ledger.journal.entries import _EVENT_DECODERS, decode_entry, decode_one, pack_events, read_events
from reservasi.ledger.wire.messages import envelope_hash
from reservasi.model import State

ENVELOPE = "k1.an envelope"
HELD = ["h", "r1", "q", 5, "f", envelope_hash(ENVELOPE), ["person"]]
RESERVATION = "abcdefghijklmnopqrstuvwxyz"
CONFIRMED = ["c", "r1", "q", 1, "paid"]
RETURNED = ["r", "q", 2]


def pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=False)
    return packed


def entry(events: list[Any], *, sealed: Any = None, payload: bytes = b"") -> JournalEntry:
    fields = {b"first": b"7", b"at": b"1", b"chain": b"c", b"events": payload or pack(events)}
    if sealed is not None:
        fields[b"sealed"] = pack(sealed)
    return decode_entry(f"1-{6 + len(events)}".encode(), fields)


@pytest.mark.parametrize(
    "event",
    [
        ["z", "future-kind", 1],
        ["zz"],
        [],
        [1, 2],
        [None],
        [["h"]],
        {"h": 1},
        {1: 2},
        "habcdef",
        7,
        None,
        HELD[:-1],
        [*HELD, "more"],
        ["h", 1, *HELD[2:]],
        [*HELD[:3], "five", *HELD[4:]],
        [*HELD[:6], "person"],
        [*HELD[:6], [1]],
        ["c", "r1", "q", "1", "paid"],
        ["c", "r1", "q", True, "paid"],
        ["e", "?", "r1", "q", 1, 0],
        ["e", "x", "r1", "q", 1],
        ["r", "q", 1.5],
        ["q", "q", 1, [1, 2]],
        ["q", "q", 1, "terms"],
        ["t"],
        ["t", 5],
        ["o", "p-1", []],
        ["o", "p-1", {}],
        ["u", None],
        ["c", b"\xff\xfe", "q", 1, ""],
    ],
    ids=repr,
)
def test_one_event_that_cannot_be_read_is_kept_among_its_neighbours(event: Any) -> None:
    events = entry([CONFIRMED, event, HELD, RETURNED], sealed=[ENVELOPE]).events
    assert [each.seq for each in events] == [7, 8, 9, 10]
    confirmed, unreadable, held, returned = events
    assert (type(confirmed), type(returned)) == (Confirmed, Returned)
    assert isinstance(held, Held)
    assert held.sealed == ENVELOPE
    assert isinstance(unreadable, Unreadable)
    assert unreadable.packed == pack(event)
    assert unreadable.why
    unsealed = read_events(7, pack([CONFIRMED, event, HELD, RETURNED]))
    assert [each.seq for each in unsealed if not isinstance(each, Unreadable)] == [7, 9, 10]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (["z", 1], "its kind is not known to this version"),
        (["q", "q", 1, [1]], "its fields are not known to this version"),
        (5, "it is not an event: it is not an array"),
    ],
    ids=repr,
)
def test_people_are_told_why(event: Any, why: str) -> None:
    (kept,) = entry([event]).events
    assert isinstance(kept, Unreadable)
    assert kept.why == why


def test_who_reads_no_envelopes_finds_the_same_events_unreadable() -> None:
    payload = pack([HELD, ["z"], CONFIRMED])
    fields = {b"first": b"1", b"at": b"1", b"chain": b"c", b"events": payload, b"sealed": pack([ENVELOPE])}
    events = decode_entry(b"1-3", fields, envelopes=False).events
    assert [type(each) for each in events] == [Held, Unreadable, Confirmed]


def test_an_entry_of_a_thousand_unknown_events_is_read() -> None:
    events = entry([["z", at] for at in range(1000)]).events
    assert len(events) == 1000
    assert all(isinstance(each, Unreadable) and each.letter == "z" for each in events)


@pytest.mark.parametrize(
    ("event", "reservation"),
    [
        (["c", "r1", "q", 1, "paid", "more"], "r1"),
        (["h", "r1"], "r1"),
        (["e", "x", "r1", "q", 1, 0, 0], "r1"),
        (["z", "q", RESERVATION, 1], RESERVATION),
        (["z", "q", 1], None),
        (["c", 5], None),
        ("z", None),
    ],
    ids=repr,
)
def test_its_reservation_is_made_out_where_it_can_be(event: Any, reservation: str | None) -> None:
    (result,) = entry([event]).events
    assert isinstance(result, Unreadable)
    assert result.reservation_id == reservation


@pytest.mark.parametrize("sealed", [[], ["another"], "none", [5], [ENVELOPE, "another"]], ids=repr)
def test_a_hold_without_its_envelope_keeps_nobody_else_from_theirs(sealed: Any) -> None:
    mine = ["h", "r2", "q", 5, "f", envelope_hash("k1.mine"), ["me"]]
    sealed = [*sealed, "k1.mine"] if isinstance(sealed, list) else ["k1.mine"]
    hold, other = entry([HELD, mine], sealed=sealed).events
    assert isinstance(other, Held)
    assert other.sealed == "k1.mine"
    assert isinstance(hold, Held if ENVELOPE in sealed else Unreadable)


@pytest.mark.parametrize("damage", [lambda sealed: sealed[:-4], lambda sealed: sealed[:-4] + b"\xff" + sealed[-3:]])
def test_damage_to_one_envelope_costs_that_one(damage: Callable[[bytes], bytes]) -> None:
    mine = ["h", "r2", "q", 5, "f", envelope_hash("k1.mine"), ["me"]]
    fields = {b"first": b"7", b"at": b"1", b"chain": b"c", b"events": pack([HELD, mine])}
    fields[b"sealed"] = damage(pack([ENVELOPE, "k1.mine"]))
    hold, other = decode_entry(b"1-8", fields).events
    assert isinstance(hold, Held)
    assert hold.sealed == ENVELOPE
    assert isinstance(other, Unreadable)


def test_a_hold_of_an_entry_that_lost_its_envelopes_is_not_taken_with_a_hash_in_their_place() -> None:
    (hold,) = entry([HELD]).events
    assert isinstance(hold, Unreadable)
    assert "envelope" in hold.why


def test_envelopes_of_events_of_a_later_version_are_kept_with_them() -> None:
    events = entry([HELD, ["z", envelope_hash("k1.its own")], ["y"]], sealed=[ENVELOPE, "k1.its own"]).events
    kept = [each.envelopes for each in events if isinstance(each, Unreadable)]
    assert kept[0] == ("k1.its own",)


def test_what_a_later_version_reads_is_read_from_what_was_kept() -> None:
    (kept,) = entry([HELD], sealed=None).events
    assert isinstance(kept, Unreadable)
    again = decode_one(kept.seq, kept.packed, [ENVELOPE])
    assert isinstance(again, Held)
    assert (again.seq, again.sealed) == (7, ENVELOPE)


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x92\xa1z", b"\x90", b"\x80", b"\x91\x91\xa1z\x00", b"\xdd\xff\xff\xff\xff"]
)
def test_an_entry_of_which_nothing_can_be_followed_is_refused_whole(payload: bytes) -> None:
    fields = {b"first": b"7", b"at": b"1", b"chain": b"c", b"events": payload}
    with pytest.raises(UnreadableEntry, match="1-7"):
        decode_entry(b"1-7", fields)


KINDS = st.sampled_from(["h", "c", "e", "r", "q", "t", "o", "u", "z", "", 1, None])
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=12,
)
EVENTS = st.tuples(KINDS, st.lists(ANYTHING, max_size=8)).map(lambda event: [event[0], *event[1]]) | ANYTHING


@given(events=st.lists(EVENTS, min_size=1, max_size=4), sealed=st.none() | ANYTHING)
def test_whatever_events_an_entry_has_each_is_read_or_kept(events: list[Any], sealed: Any) -> None:
    results = entry(events, payload=msgpack.packb(events), sealed=sealed).events
    assert [each.seq for each in results] == list(range(7, 7 + len(events)))
    kept = [each.packed for each in results if isinstance(each, Unreadable)]
    assert all(packed in msgpack.packb(events) for packed in kept)
    seqs = {each.seq for each in read_events(7, msgpack.packb(events)) if not isinstance(each, Unreadable)}
    assert seqs >= {each.seq for each in results if not isinstance(each, Unreadable)}
    for each in results:
        if isinstance(each, Unreadable):
            decode_one(each.seq, each.packed, each.envelopes)


def test_what_is_nested_deeply_is_kept_as_well() -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    for event in (["o", "p-1", deep], ["q", "q", 1, deep], ["z", deep], deep):
        unreadable, confirmed = entry([event, CONFIRMED]).events
        assert isinstance(unreadable, Unreadable)
        assert isinstance(confirmed, Confirmed)


@given(payload=st.binary(max_size=64), sealed=st.none() | st.binary(max_size=64), seq=st.integers(1, 9))
def test_whatever_bytes_an_entry_has_it_is_read_or_refused_by_name(
    payload: bytes, sealed: bytes | None, seq: int
) -> None:
    fields = {b"first": b"1", b"at": b"1", b"chain": b"c", b"events": payload}
    if sealed is not None:
        fields[b"sealed"] = sealed
    for envelopes in (True, False):
        with suppress(UnreadableEntry):
            assert decode_entry(f"1-{seq}".encode(), fields, envelopes=envelopes).position.seq == seq


def test_packed_events_are_read_as_they_were() -> None:
    held = Held(seq=3, reservation_id="r1", quota="q", deadline_ms=5, fingerprint="f", sealed="", persons=("a", "b"))
    ended = Ended(seq=4, state=State.EXPIRED, reservation_id="r1", quota="q", places=2, returns_at_ms=9)
    events = (held, ended, Returned(seq=5, quota="q", places=2))
    assert read_events(3, pack_events(events)) == events


def test_no_other_module_knows_the_positions_of_packed_events() -> None:
    root = Path(reservasi.__file__).parent
    places = {
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        if path.name != "entries.py" and "front" not in path.parts  # which never sees a packed event
        for node in ast.walk(ast.parse(path.read_text()))
        if _starts_like_an_event(node)
    }
    assert not places


def _starts_like_an_event(node: ast.AST) -> TypeGuard[ast.List | ast.MatchSequence | ast.Compare]:
    """Whether it is a list that begins with an event's letter, a pattern of one, or a comparison with the letter."""
    match node:
        case ast.List(elts=[first, _, *_]) | ast.Compare(comparators=[first]):
            return _is_letter(first)
        case ast.MatchSequence(patterns=[ast.MatchValue(value=first), *_]):
            return _is_letter(first)
        case ast.MatchSequence(patterns=[ast.MatchOr(patterns=[ast.MatchValue(value=first), *_]), *_]):
            return _is_letter(first)
    return False


def _is_letter(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in _EVENT_DECODERS


@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_one_wrong_byte_costs_the_events_that_it_touches_or_the_entry(at: int, byte: int) -> None:
    payload = bytearray(pack([CONFIRMED, HELD, RETURNED, CONFIRMED]))
    payload[at % len(payload)] = byte
    fields = {b"first": b"1", b"at": b"1", b"chain": b"c", b"events": bytes(payload), b"sealed": pack([ENVELOPE])}
    with suppress(UnreadableEntry):
        assert len(decode_entry(b"1-4", fields).events) == 4
