"""Returning places at the end of the journal."""

from typing import Any

import msgpack

from reservasi.ledger.journal.journal_tail import JournalTail

QUOTA = "p.kanim.baru.20261201.0800.online"


def follow(tail: JournalTail, first_seq: int, at_ms: int, *events: list[Any]) -> None:
    payload: bytes = msgpack.packb(list(events))
    tail.follow(first_seq, at_ms, payload)


def given_back(id_: str, places: int, returns_at_ms: int) -> list[Any]:
    return ["e", "k", id_, QUOTA, places, returns_at_ms]


def returning(tail: JournalTail) -> list[tuple[int, int]]:
    return [(each.seq, each.places) for each in tail.returning()]


def test_places_come_back_in_the_order_of_their_time() -> None:
    tail = JournalTail()
    follow(tail, 1, 10, given_back("a", 1, 300), given_back("b", 1, 200))
    follow(tail, 3, 250, ["r", QUOTA, 1])
    assert returning(tail) == [(1, 1)]


def test_a_return_that_is_late_since_its_timer_was_damaged_is_not_taken_for_another_one() -> None:
    """A rebuild would give two places back that are still on their way."""
    tail = JournalTail()
    follow(tail, 1, 10, given_back("damaged", 3, 200), given_back("sound", 1, 300))
    follow(tail, 3, 350, ["r", QUOTA, 1])
    assert returning(tail) == [(1, 3)]
