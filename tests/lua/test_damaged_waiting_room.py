"""A damaged list of joined people costs nobody a place in the queue: it starts again, and never counts down."""

from typing import Any

import pytest

from reservasi.ledger import keys
from reservasi.model import Admit, Join, Outcome
from tests.ledgers import Ledger, opening_set

PEOPLE = 40


def joins(first: int = 0, count: int = PEOPLE) -> list[Join]:
    return [Join(opening="p-1", ticket_id=f"ticket-{at}") for at in range(first, first + count)]


async def _count(client: Any, key: str) -> None:
    await client.lset(key, 0, b"\xff")


async def _larger_count(client: Any, key: str) -> None:
    await client.lset(key, 0, "900")


async def _page(client: Any, key: str) -> None:
    await client.lset(key, 1, b"\xff\x00")


async def _cut(client: Any, key: str) -> None:
    await client.ltrim(key, 0, 1)


async def _emptied(client: Any, key: str) -> None:
    await client.delete(key)


async def _of_another_type(client: Any, key: str) -> None:
    await client.delete(key)
    await client.set(key, "something else")


@pytest.mark.parametrize("damage", [_count, _larger_count, _page, _cut, _emptied, _of_another_type])
async def test_people_go_on_joining(ledger: Ledger, damage: Any) -> None:
    await ledger.run(opening_set(), opening_set("p-2", opens_at_ms=4_000_000_000_500), *joins())
    await damage(ledger.client, f"{keys.joined(ledger.program)}:p-1:before")
    elsewhere = Join(opening="p-2", ticket_id="t")
    answers = await ledger.run(*joins(), elsewhere, *joins(PEOPLE, 3 * PEOPLE))
    assert {answer.outcome for answer in answers} == {Outcome.JOINED}
    count = Admit(opening="p-1", controller="c", lease_ms=1500, rate_per_min=0)
    counted = (await ledger.one(count)).arrived
    assert counted >= 3 * PEOPLE
    await ledger.run(*joins(0, 4 * PEOPLE))
    assert (await ledger.one(count)).arrived == counted, "who is counted is known again"
