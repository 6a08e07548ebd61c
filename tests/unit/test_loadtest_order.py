"""Real-time order: whoever asks later may not be told of an earlier moment; repeats and overlaps may."""

import pytest

from loadtest.checker.evidence import DatabaseEvidence, LedgerEvidence
from loadtest.checker.history import Exchange
from loadtest.checker.history_rules import order_violations
from reservasi.events import Held, JournalEntry
from reservasi.model import Position

LEDGER = LedgerEvidence(
    position=Position(epoch=1, seq=3), quotas={}, reservations={}, persons={}, timers={}, openings={}
)


def held(seq: int) -> Held:
    return Held(
        seq=seq, reservation_id=f"r{seq}", quota="q", deadline_ms=1, fingerprint="f", sealed="s", persons=(f"p{seq}",)
    )


def database(*epochs: int) -> DatabaseEvidence:
    """Holds r1, r2, ... in entries of their own, each of the given epoch."""
    entries = [
        JournalEntry(epoch=epoch, first_seq=seq, at_ms=1, chain="", payload=b"", events=(held(seq),))
        for seq, epoch in enumerate(epochs, 1)
    ]
    return DatabaseEvidence(
        position=None, quotas={}, holds=[], bookings=[], applicants=[], openings={}, journal=entries, dead_letters=[]
    )


def claimed(number: int, sent_ms: float, answered_ms: float, outcome: int = 201) -> Exchange:
    body = {"id": f"r{number}"} if outcome == 201 else {}
    return Exchange(
        person=number,
        call="claim",
        key=f"key-{number}",
        sent_ms=sent_ms,
        answered_ms=answered_ms,
        outcome=outcome,
        body=body,
    )


def refused(sent_ms: float, epoch: int, seq: int) -> Exchange:
    body = {"type": "/problems/sold-out"}
    return Exchange(
        person=9,
        call="claim",
        key="key-9",
        sent_ms=sent_ms,
        answered_ms=sent_ms + 1,
        outcome=409,
        epoch=epoch,
        seq=seq,
        body=body,
    )


@pytest.mark.parametrize(
    ("history", "wrong"),
    [
        ([claimed(1, 0, 1), claimed(2, 2, 3)], 0),
        ([claimed(2, 0, 1), claimed(1, 2, 3)], 1),
        ([claimed(2, 0, 2), claimed(1, 1, 3)], 0),  # both were under way
        ([claimed(2, 0, 1), claimed(1, 1, 3)], 0),  # sent at the moment of the answer: nobody knows
        ([claimed(1, 0, 0, outcome=0), claimed(2, 1, 2), claimed(1, 3, 4)], 0),  # its first try was carried out
        ([claimed(1, 0, 1), claimed(2, 2, 3), claimed(1, 4, 5)], 0),  # a replay: the first answer again
        ([claimed(3, 0, 1), claimed(2, 2, 3), claimed(1, 4, 5)], 2),
        ([claimed(2, 0, 1), refused(2, 1, 2)], 0),
        ([claimed(2, 0, 1), refused(2, 1, 1)], 1),  # from before
        ([refused(0, 2, 1), refused(2, 1, 3)], 1),  # an old primary, however far it went
        ([claimed(2, 0, 1), refused(2, 0, 0)], 0),  # from memory, which has no place in the history
        ([claimed(7, 0, 1), claimed(1, 2, 3)], 0),  # not in the journal: other rules name it
    ],
)
def test_who_asks_later_is_told_of_no_earlier_moment(history: list[Exchange], wrong: int) -> None:
    assert len(list(order_violations(history, LEDGER, database(1, 1, 1)))) == wrong


def test_a_later_epoch_comes_after_every_seq_of_an_earlier_one() -> None:
    history = [claimed(2, 0, 1), claimed(1, 2, 3)]
    assert len(list(order_violations(history, LEDGER, database(1, 2)))) == 1
    assert not list(order_violations(history, LEDGER, database(2, 1)))
