"""The queue of commands: order, refusals, and how a batch is shared."""

import pytest

from reservasi.errors import Overloaded, ReservasiError
from reservasi.ledger.command_queue import BATCH_HALVED_FROM, CommandQueue
from reservasi.model import Answer, Claim, Command, Confirm, Find, Join, SetOpening

TIMEOUT_S = 10.0


def queue(*, items_max: int = 100, batch_items_max: int = 40) -> CommandQueue:
    return CommandQueue(
        "unit", items_max=items_max, batch_items_max=batch_items_max, timeout_s=TIMEOUT_S, delay_target_s=1e9
    )


def claim(number: int = 0) -> Claim:
    return Claim(reservation_id=f"r{number}", quota="q", fingerprint="f", sealed="s", persons=(f"p{number}",))


def confirm() -> Confirm:
    return Confirm(reservation_id="r", payment_reference="")


def put(of: CommandQueue, *commands: Command, now_s: float = 0.0) -> list[object]:
    """Queue them; what they will be told."""
    answers: list[object] = []
    for command in commands:
        of.put(command, answers.append, now_s)
    return answers


def taken(of: CommandQueue, unanswered: int = 0) -> list[tuple[type, int]]:
    return [(type(group[0].command), len(group)) for group in of.take(unanswered)]


def test_who_has_a_place_goes_before_who_wants_one() -> None:
    waiting = queue()
    put(
        waiting, Join(opening="o", ticket_id="t"), claim(), Find(reservation_id="r"), SetOpening(opening="o"), confirm()
    )
    assert taken(waiting) == [(Confirm, 1), (SetOpening, 1), (Find, 1), (Claim, 1), (Join, 1)]
    assert not waiting
    assert taken(waiting) == []


@pytest.mark.parametrize(
    ("waiting", "unanswered", "wanted"),
    [(1, 0, 1), (BATCH_HALVED_FROM, 0, BATCH_HALVED_FROM), (20, 0, 10), (21, 0, 11), (20, 20, 20), (90, 0, 40)],
)
def test_half_of_the_crowd_goes_and_who_was_not_answered_yet_belongs_to_it(
    waiting: int, unanswered: int, wanted: int
) -> None:
    crowd = queue()
    put(crowd, *map(claim, range(waiting)))
    assert taken(crowd, unanswered) == [(Claim, wanted)]
    assert len(crowd) == waiting - wanted


def test_joins_and_claims_share_a_batch_and_neither_gets_nothing() -> None:
    crowd = queue()
    put(crowd, *map(claim, range(79)), Join(opening="o", ticket_id="t"))
    assert taken(crowd, unanswered=1000) == [(Claim, 39), (Join, 1)]
    assert taken(crowd, unanswered=1000) == [(Claim, 40)]


def test_claims_are_refused_at_their_limit_and_leave_the_others_their_room() -> None:
    crowd = queue(items_max=3)
    put(crowd, claim(1), claim(2), Join(opening="o", ticket_id="t"))
    assert not crowd.admits_crowd()
    for command in (claim(3), Join(opening="o", ticket_id="u")):
        with pytest.raises(Overloaded):
            put(crowd, command)
    put(crowd, confirm(), confirm(), confirm())
    with pytest.raises(Overloaded):
        put(crowd, confirm())
    assert len(crowd) == 6


def test_claims_in_flight_count_until_they_are_replied_to() -> None:
    crowd = queue(items_max=3, batch_items_max=2)
    crowd._limit.value = 2
    put(crowd, claim(1), claim(2))
    crowd.note_sent(crowd.take(0))
    assert not crowd.admits_crowd()
    crowd.note_replied()
    assert crowd.admits_crowd()


def test_late_commands_are_refused_and_never_sent() -> None:
    waiting = queue()
    late, in_time = put(waiting, claim(1), now_s=0.0), put(waiting, claim(2), now_s=1.0)
    waiting.fail_late(TIMEOUT_S)
    assert [type(each) for each in late] == [Overloaded]
    assert not in_time
    assert taken(waiting) == [(Claim, 1)]


def test_who_has_gone_is_not_sent_and_all_that_wait_at_the_end_are_refused() -> None:
    waiting = queue()
    answers: list[Answer | ReservasiError] = []
    waiting.put(claim(1), answers.append, 0.0).abandon()
    assert taken(waiting) == []
    waiting.put(claim(2), answers.append, 0.0)
    waiting.fail_all(Overloaded("the front is closing"))
    assert [str(each) for each in answers] == ["the front is closing"]
