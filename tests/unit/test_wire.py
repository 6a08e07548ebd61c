"""Encodings between Python and the Lua functions, without a server."""

import hashlib
from typing import Any

import msgpack
import msgspec
import pytest

from reservasi.errors import LedgerFault
from reservasi.events import chain_hash
from reservasi.ledger.wire import messages, openings
from reservasi.model import (
    Admit,
    Answer,
    Cancel,
    Claim,
    Command,
    Confirm,
    Find,
    Join,
    MoveOpening,
    Opening,
    Outcome,
    QuotaTerms,
    Release,
    Retire,
    RetireOpening,
    SetOpening,
    SetQuota,
    State,
    Sweep,
)
from tests.ledgers import opening_set, opening_terms, terms

REPLY = messages.Reply(fenced=False, epoch=3, seq=9, now_ms=77, answers=[], deadlines=[])
ASKED = Find(reservation_id="r")


def test_every_command_is_encoded_by_position() -> None:
    given = terms(5, closed=True)
    cases: list[tuple[Command, list[object]]] = [
        (Confirm(reservation_id="r", payment_reference="P"), ["r", "P"]),
        (Release(reservation_id="r"), ["r", "", ""]),
        (Cancel(reservation_id="r", by_staff=True, actor="staff:ani", reason="w"), ["r", 1, "staff:ani", "w"]),
        (Find(reservation_id="r"), ["r"]),
        (Sweep(items_max=5), [5, 1000]),
        (Retire(quota="q", ends_at_ms=7, reservations=("r",)), ["q", 7, ["r"]]),
        (SetQuota(quota="q"), ["q", 0, -1, -1, -1, -1, 0, "", "", ""]),
        (SetQuota(quota="q", capacity=0, closed=False, version=3), ["q", 3, 0, -1, -1, 0, 0, "", "", ""]),
        (SetQuota(quota="q", terms=given), ["q", 0, -1, -1, -1, -1, messages.encode_terms(given), "", "", ""]),
        (SetQuota(quota="q", opens_at_ms=7, taker="o"), ["q", 0, -1, 7, -1, -1, 0, "", "", "o"]),
        (MoveOpening(opening="o", opens_at_ms=7, version=2), ["o", 2, 7, -1, -1, "", "", ""]),
        (
            MoveOpening(opening="o", ends_at_ms=9, cancelled=True, reason="w", reason_en="e", actor="a"),
            ["o", 0, -1, 9, 1, "w", "e", "a"],
        ),
        (RetireOpening(opening="o"), ["o"]),
        (SetOpening(opening="o"), ["o", 0, -1, -1, "", 0, "", "", []]),
        (
            SetOpening(opening="o", paused=False, rate_per_min=0, beacon="b", takes=((5, "k"), (7, "u")), version=3),
            ["o", 3, 0, 0, "b", 0, "", "", [5, "k", 7, "u"]],
        ),
        (opening_set("o"), ["o", 0, -1, -1, "", openings.encode_terms(opening_terms()), "", "", []]),
        (Join(opening="o", ticket_id="t"), ["o", "t"]),
        (Admit(opening="o", controller="c", lease_ms=5), ["o", "c", 5, 0]),
    ]
    for command, item in cases:
        assert messages.encode_item(command, 1000) == item
        frame = messages.encode_frame([command, command], 1000)
        assert frame == messages.Frame(command=messages.COMMAND_NAMES[type(command)], items=messages.pack([item, item]))
    assert {type(command) for command, _ in cases} | {Claim} == set(messages.COMMAND_NAMES)


def test_claims_are_encoded_field_by_field() -> None:
    claims = [
        Claim(reservation_id="r", quota="q", fingerprint="f", sealed="s", persons=("a", "b")),
        Claim(reservation_id="r2", quota="other", fingerprint="f2", sealed="s2", persons=("c",)),
        Claim(reservation_id="r3", quota="q", fingerprint="f3", sealed="s", persons=("d",)),
    ]
    frame = messages.encode_frame(claims, 1000)
    hashes = [hashlib.sha1(text).hexdigest() for text in (b"s", b"s2", b"s")]
    assert frame.command == "claim"
    assert msgpack.unpackb(frame.items) == [
        ["r", "r2", "r3"], ["q", "other"], [1, 2, 1], ["f", "f2", "f3"], hashes, [2, 1, 1], ["a", "b", "c", "d"]
    ]  # fmt: skip
    assert msgpack.unpackb(frame.envelopes) == ["s", "s2", "s"]
    with pytest.raises(TypeError, match="Claim"):
        messages.encode_item(claims[0], 1000)


def test_nothing_is_packed_as_binary() -> None:
    """The server's msgpack refuses the types that came later: str 8, bin and ext."""
    packed = messages.pack(["x" * 31, "y" * 200, "z" * 70_000, ("a",), 2**53 - 1])
    unpacked = msgpack.unpackb(packed, raw=True)
    assert unpacked[1] == b"y" * 200
    assert b"\xd9" not in packed[:40]
    assert packed[1 + 32 : 1 + 33] == b"\xda", "a text of 200 bytes has the old 16-bit length"


@pytest.mark.parametrize("closed", [True, False])
def test_terms_survive_the_way_there_and_back(closed: bool) -> None:
    given = terms(7, closed=closed, opens_at_ms=1, hold_ms=2)
    fields = messages.encode_terms(given)
    assert fields[7] == int(closed)
    assert messages.LIMITS == 8
    assert messages.decode_terms(fields) == given
    assert len(fields) == len(QuotaTerms.__struct_fields__)


def test_quotas_share_what_their_terms_have_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = msgpack.packb(messages.encode_terms(terms(7, office="kanim-pusat", opens_at_ms=1_800_000_000_000)))
    one, two = (messages.decode_terms(msgpack.unpackb(packed)) for _ in range(2))
    assert one == two
    assert one.office is two.office
    assert one.opens_at_ms is two.opens_at_ms
    assert one.closed is False, "no number, although the two are equal"
    monkeypatch.setattr(messages, "SHARED_MAX", 20)
    for number in range(30):
        assert messages.decode_terms(messages.encode_terms(terms(number))) == terms(number)
        assert len(messages._shared_values) <= 20


def test_an_opening_survives_the_way_there_and_back() -> None:
    given = Opening(
        id="o",
        terms=opening_terms(adaptive=True, waiting_room=False),
        version=4,
        paused=True,
        beacon="b",
        drawn=True,
        joined=5,
        arrived=9,
        admitted_through=7,
        rate_per_min=60,
        rate_fixed=True,
        advanced_at_ms=8,
    )
    assert openings.decode_opening(*openings.encode_opening(given)) == given
    first, moved = openings.FIRST_FIELDS + 1, msgspec.structs.replace(given, cancelled=True, reason="w", revision=3)
    for opening in (given, moved):
        record = openings.encode_opening(opening)[1:]
        stored = [*record[:first], "who leads", 5, *record[first:]]
        assert openings.decode_stored("o", msgpack.packb(stored)) == opening
    old = openings.encode_opening(given)[1:][:first]  # what an earlier version stored and journaled
    assert openings.decode_stored("o", msgpack.packb([*old, "who leads", 5])) == given
    assert openings.decode_opening("o", *old) == given


def test_answers_are_read_by_outcome_and_length() -> None:
    def read(*fields: object) -> Answer:
        reply = msgspec.structs.replace(REPLY, answers=[[], list(fields)])
        return messages.decode_answer(reply, 1, ASKED, retried=True)

    common: dict[str, Any] = {"epoch": 3, "now_ms": 77, "retried": True}
    about: dict[str, Any] = {"state": State.HELD, "quota": "q", "places": 2, "deadline_ms": 5}
    assert read("held", 4, "h", "q", 2, 5) == Answer(outcome=Outcome.HELD, seq=4, **about, **common)
    assert read("exists", 4, "h", "q", 2, 5) == Answer(outcome=Outcome.EXISTS, seq=4, **about, **common)
    assert read("exists", 4, 8) == Answer(outcome=Outcome.EXISTS, seq=4, version=8, **common)
    assert read("not_found", 4) == Answer(outcome=Outcome.NOT_FOUND, seq=4, **common)
    assert read("sold_out", 4, 1) == Answer(outcome=Outcome.SOLD_OUT, seq=4, remaining=1, **common)
    assert read("not_open", 4, 6) == Answer(outcome=Outcome.NOT_OPEN, seq=4, opens_at_ms=6, **common)
    assert read("below_taken", 4, 2, 9) == Answer(outcome=Outcome.BELOW_TAKEN, seq=4, version=2, taken=9, **common)
    swept = Answer(outcome=Outcome.SWEPT, seq=4, expired=1, returned=2, dropped=3, **common)
    assert read("swept", 4, 1, 2, 3) == swept
    mark: dict[str, Any] = {"number": 7, "joined": 3, "arrived": 8, "admitted_through": 2, "rate_per_min": 60}
    assert read("joined", 4, 7, 3, 8, 2, 60) == Answer(outcome=Outcome.JOINED, seq=4, **mark, **common)
    assert read("not_open", 4, 6) == Answer(outcome=Outcome.NOT_OPEN, seq=4, opens_at_ms=6, **common)


def test_a_claim_that_got_what_it_asked_for_is_answered_by_its_seq() -> None:
    raw = msgpack.packb(["done", 3, 9, 77, [["sold_out", 7, 0], 8], [0, 555]])
    reply = messages.decode_reply(raw)
    claim = Claim(reservation_id="r", quota="q", fingerprint="f", sealed="s", persons=("a", "b"))
    held: dict[str, Any] = {"state": State.HELD, "quota": "q", "places": 2, "deadline_ms": 555}
    assert messages.decode_answer(reply, 1, claim) == Answer(outcome=Outcome.HELD, epoch=3, seq=8, now_ms=77, **held)
    assert messages.decode_answer(reply, 0, claim).outcome is Outcome.SOLD_OUT
    with pytest.raises(LedgerFault, match="Find"):
        messages.decode_answer(reply, 1, ASKED)


def test_an_empty_lua_table_is_no_answers() -> None:
    empties: tuple[Any, ...] = ({}, [])
    for empty in empties:
        reply = messages.decode_reply(msgpack.packb(["fenced", 2, 5, 6, empty]))
        assert reply == messages.Reply(fenced=True, epoch=2, seq=5, now_ms=6, answers=[], deadlines=[])


@pytest.mark.parametrize("raw", [b"", b"\xc1", msgpack.packb([1, 2]), msgpack.packb(5), b"OK"])
def test_an_unreadable_reply_is_a_fault(raw: bytes) -> None:
    with pytest.raises(LedgerFault, match="unreadable reply"):
        messages.decode_reply(raw)


def test_the_epoch_is_found_without_reading_the_answers() -> None:
    raw = msgpack.packb(["done", 12, 5, 6, [b"\xff\xfe not text"]])
    epoch, ends_at = messages.peek_epoch(raw)
    assert (epoch, raw[ends_at : ends_at + 1]) == (12, b"\x05")


def test_a_fenced_snapshot_is_none_and_an_empty_one_is_not() -> None:
    assert messages.decode_snapshot(msgpack.packb(["fenced", 1, 2, 3, []])) is None
    empty = messages.decode_snapshot(msgpack.packb(["done", 1, 2, 3, [["snapshot", 2, "c", {}, {}, {}, {}, {}]]]))
    assert empty is not None
    assert (empty.quotas, empty.position.seq, empty.position.chain) == ([], 2, "c")


def test_every_field_of_an_answer_can_be_read() -> None:
    named = {name for extra in messages._EXTRA_BY_OUTCOME.values() for name in extra}
    named |= {"outcome", "epoch", "seq", "now_ms", "state", "quota", "places", "deadline_ms", "freed_at_ms", "retried"}
    assert named == set(Answer.__struct_fields__)


def test_the_chain_covers_every_part() -> None:
    base = ("", 1, 1, 1, b"p")
    others = [("x", 1, 1, 1, b"p"), ("", 2, 1, 1, b"p"), ("", 1, 2, 1, b"p"), ("", 1, 1, 2, b"p"), ("", 1, 1, 1, b"q")]
    hashes = {chain_hash(*parts) for parts in (base, *others)}
    assert len(hashes) == 6
    assert chain_hash(*base) == "0f6266665f9e11ae4a139cf4d44be01908103a6b"
