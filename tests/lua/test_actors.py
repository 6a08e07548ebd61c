"""Actor and reason of a change are journaled, change no outcome, and add nothing to the public's events."""

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from loadtest.checker.replay import Model
from reservasi.events import AnyEvent, Ended, NamedEvent
from reservasi.ledger.journal.entries import decode_entry
from reservasi.ledger.journal.journal_changes import Changes
from reservasi.ledger.journal.journal_tail import JournalTail
from reservasi.model import (
    ACTOR_CHARS_MAX,
    REASON_CHARS_MAX,
    Admit,
    Cancel,
    Command,
    Confirm,
    Outcome,
    Release,
    SetOpening,
    SetQuota,
)
from tests.ledgers import QUOTA, Ledger, claim, opening_set, quota_set

WHO: dict[str, Any] = {"actor": "staff:Ani Wijaya", "reason": "libur nasional diumumkan terlambat – 18 Agustus ✅"}


async def _events(ledger: Ledger) -> list[AnyEvent]:
    return [event for entry in await ledger.entries() for event in entry.events]


async def test_events_of_staff_say_who_and_why(ledger: Ledger) -> None:
    held, confirmed = claim(quota=QUOTA), claim(quota=QUOTA)
    await ledger.run(
        quota_set(QUOTA),
        held,
        confirmed,
        Confirm(reservation_id=confirmed.reservation_id),
        SetQuota(quota=QUOTA, capacity=20, **WHO),
        Release(reservation_id=held.reservation_id, **WHO),
        Cancel(reservation_id=confirmed.reservation_id, by_staff=True, **WHO),
        opening_set("p-1"),
        SetOpening(opening="p-1", paused=True, **WHO),
        SetOpening(opening="p-1", paused=False, actor="cli:root"),
    )
    named = [event for event in await _events(ledger) if isinstance(event, NamedEvent)]
    fields = [(type(event).__name__, event.actor, event.reason) for event in named]
    ani = (WHO["actor"], WHO["reason"])
    assert fields == [
        ("QuotaSet", "", ""),
        ("QuotaSet", *ani),
        ("Ended", *ani),
        ("Ended", *ani),
        ("OpeningSet", "", ""),
        ("OpeningSet", *ani),
        ("OpeningSet", "cli:root", ""),
    ]


async def test_the_public_s_events_are_as_they_were(ledger: Ledger) -> None:
    """Entries of before actors were named look the same, and are read the same."""
    released, cancelled = claim(), claim()
    await ledger.run(
        quota_set(),
        released,
        cancelled,
        Confirm(reservation_id=cancelled.reservation_id),
        Release(reservation_id=released.reservation_id),
        Cancel(reservation_id=cancelled.reservation_id),
        opening_set("p-1", opens_at_ms=1, joins_from_ms=1),
        Admit(opening="p-1", controller="c", lease_ms=1000),
    )
    lengths: dict[str, set[int]] = {}
    for entry in await ledger.entries():
        for event in msgpack.unpackb(entry.payload):
            lengths.setdefault(event[0], set()).add(len(event))
    assert lengths == {"q": {4}, "h": {7}, "c": {5}, "e": {6}, "o": {13}}
    assert {(e.actor, e.reason) for e in await _events(ledger) if isinstance(e, NamedEvent)} == {("", "")}


@pytest.mark.parametrize(
    "command",
    [
        quota_set(),
        SetQuota(quota=QUOTA, capacity=10),
        opening_set("p-1"),
        SetOpening(opening="p-1", paused=False),
        Cancel(reservation_id="cancelled", by_staff=True),
        Release(reservation_id="released"),
    ],
    ids=lambda command: type(command).__name__,
)
async def test_a_repeat_exists_whoever_gives_it(command: SetQuota | SetOpening | Cancel, ledger: Ledger) -> None:
    await ledger.run(
        quota_set(),
        opening_set("p-1"),
        claim(reservation_id="cancelled"),
        claim(reservation_id="released"),
        Confirm(reservation_id="cancelled"),
        Cancel(reservation_id="cancelled", by_staff=True, actor="staff:ani", reason="first"),
        Release(reservation_id="released"),
    )
    before = await ledger.dump()
    for who in ({}, {"actor": "staff:budi"}, WHO):
        repeated: Command = type(command)(**{name: getattr(command, name) for name in command.__struct_fields__} | who)
        assert (await ledger.one(repeated)).outcome is Outcome.EXISTS
        assert await ledger.dump() == before


def _entry(*events: Sequence[object]) -> dict[bytes, bytes]:
    payload = msgpack.packb(list(events), use_bin_type=False)
    return {b"first": b"1", b"at": b"5", b"chain": b"c", b"events": payload}


@pytest.mark.parametrize("named", [[], [["staff:ani", "why"]]], ids=["unnamed", "named"])
def test_all_who_read_the_journal_by_position_read_both_forms(named: list[object]) -> None:
    held = ["h", "r", "q", 9000, "f", "s", ["ani"]]
    ended = ["e", "r", "r", "q", 1, 77, *named]
    fields = _entry(held, ended)
    event = decode_entry(b"1-2", fields, envelopes=False).events[1]
    assert isinstance(event, Ended)
    assert (event.places, event.returns_at_ms) == (1, 77)
    assert (event.actor, event.reason) == (("staff:ani", "why") if named else ("", ""))
    changes = Changes()
    changes.follow(1, fields[b"events"], until=0)
    assert changes.reservations == {"r"}
    assert changes.timers == {"+2:1"}
    assert changes.reckon_back("q", (0, 0, 1)) == (0, 0, 0)
    tail = JournalTail()
    tail.follow(1, 5, fields[b"events"])
    assert [one.reservation_id for one in tail.ended(0)] == ["r"]
    assert [(one.quota, one.places) for one in tail.returning()] == [("q", 1)]


async def test_the_checker_follows_a_named_journal(ledger: Ledger) -> None:
    await ledger.run(
        SetQuota(quota=QUOTA, terms=quota_set().terms, **WHO),
        SetOpening(opening="p-1", terms=opening_set().terms, **WHO),
        SetOpening(opening="p-1", paused=True, **WHO),
        claim(reservation_id="r"),
        Release(reservation_id="r", **WHO),
    )
    model = Model()
    assert [model.apply(event) for event in await _events(ledger)] == [None] * 5
    assert model.live == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"actor": "a" * (ACTOR_CHARS_MAX + 1)},
        {"reason": "r" * (REASON_CHARS_MAX + 1)},
        {"actor": "staff:ani\nstaff:budi"},
        {"reason": "tab\there"},
        {"reason": "nul\x00"},
        {"reason": "turned \u202e round"},
    ],
)
def test_words_that_cannot_be_shown_never_become_a_command(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="printable"):
        SetQuota(quota=QUOTA, capacity=1, **wrong)  # type: ignore[arg-type]


async def test_the_longest_words_are_journaled_whole(ledger: Ledger) -> None:
    longest = {"actor": "é" * ACTOR_CHARS_MAX, "reason": "✅" * REASON_CHARS_MAX}
    await ledger.run(quota_set(), SetQuota(quota=QUOTA, capacity=1, **longest))  # type: ignore[arg-type]
    event = (await _events(ledger))[-1]
    assert isinstance(event, NamedEvent)
    assert {"actor": event.actor, "reason": event.reason} == longest
