"""The checker finds each violation that is planted in the clients' answers."""

import msgspec
import pytest

from loadtest.checker.rules import Rule
from tests.integration.checked_run import Plant, Run


async def told_of_an_unknown_claim(run: Run) -> None:
    body = {"id": run.id(9), "quota": run.quota, "places": 1}
    run.history.append(run.exchange(9, "claim", 201, body=body))


async def told_another_quota(run: Run) -> None:
    run.history.append(run.exchange(3, "claim", 201, key="other", body={"id": run.id(3), "quota": "q", "places": 1}))


async def told_sold_out_after_all(run: Run) -> None:
    later = run.history[-1].answered_ms + 10
    run.history.append(run.exchange(1, "claim", 409, sent_ms=later, answered_ms=later))


async def told_another_token(run: Run) -> None:
    good = next(exchange for exchange in run.history if exchange.outcome == 201)
    run.history.append(msgspec.structs.replace(good, body={**good.body, "manage_token": "another"}))


async def told_confirmed_while_held(run: Run) -> None:
    run.history.append(run.exchange(3, "confirm", 202, body={"id": run.id(3)}))


async def told_another_code(run: Run) -> None:
    run.history.append(run.exchange(2, "confirm", 200, body={"id": run.id(2), "booking_code": "CODE-X"}))


async def told_cancelled(run: Run) -> None:
    run.history.append(run.exchange(2, "cancel", 200))


async def told_cancelling(run: Run) -> None:
    run.history.append(run.exchange(2, "cancel", 202))


async def told_two_places(run: Run) -> None:
    body = {"id": run.id(2), "quota": run.quota, "places": 1}
    run.history.append(run.exchange(1, "claim", 201, key="second", body=body))


async def told_the_past(run: Run) -> None:
    """At seq 6 all places but one were held; somebody had been told of seq 10 before."""
    body = {"type": "/problems/sold-out"}
    run.history.append(run.exchange(6, "claim", 409, places=2, epoch=1, seq=6, body=body))


async def told_sold_out_while_a_place_remained(run: Run) -> None:
    run.history.append(run.exchange(6, "claim", 409, epoch=1, seq=12, body={"type": "/problems/sold-out"}))


async def told_of_a_change_that_is_another(run: Run) -> None:
    run.history.append(run.exchange(2, "confirm", 202, epoch=1, seq=9, body={"id": run.id(2)}))


async def told_held_elsewhere_than_asked(run: Run) -> None:
    good = next(exchange for exchange in run.history if exchange.outcome == 201)
    run.history.append(msgspec.structs.replace(good, quota=run.quota.replace(".0800.", ".0900.")))


PLANTED: list[tuple[Plant, set[Rule]]] = [
    (told_of_an_unknown_claim, {Rule.CLAIM_FORGOTTEN}),
    (told_another_quota, {Rule.CLAIM_FORGOTTEN, Rule.ORDER_DIFFERS}),
    (told_sold_out_after_all, {Rule.ANSWER_CHANGED}),
    (told_another_token, {Rule.ANSWER_CHANGED}),
    (told_confirmed_while_held, {Rule.CONFIRMATION_FORGOTTEN}),
    (told_another_code, {Rule.CONFIRMATION_FORGOTTEN}),
    (told_cancelled, {Rule.CANCELLATION_FORGOTTEN}),
    (told_cancelling, {Rule.CANCELLATION_FORGOTTEN}),
    (told_two_places, {Rule.TWO_LIVE, Rule.ORDER_DIFFERS}),
    (told_the_past, {Rule.ORDER_DIFFERS}),
    (told_sold_out_while_a_place_remained, {Rule.ANSWER_DIFFERS}),
    (told_of_a_change_that_is_another, {Rule.ANSWER_DIFFERS}),
    (told_held_elsewhere_than_asked, {Rule.ANSWER_DIFFERS}),
]


@pytest.mark.parametrize(("plant", "expected"), PLANTED)
async def test_a_planted_violation_is_named(run: Run, plant: Plant, expected: set[Rule]) -> None:
    await plant(run)
    assert await run.rules() == expected
