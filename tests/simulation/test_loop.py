"""The virtual loop: jumps of time, random order, killed hosts."""

import asyncio

import pytest

from tests.simulation.loop import Host, Stuck, VirtualLoop, run


def test_time_jumps_to_the_next_timer() -> None:
    loop = VirtualLoop(1)

    async def sleep() -> float:
        await asyncio.sleep(3600)
        return loop.time()

    assert run(loop, sleep) == 3600


def test_order_follows_from_the_seed() -> None:
    async def order() -> list[int]:
        numbers: list[int] = []

        async def tell(number: int) -> None:
            numbers.append(number)

        await asyncio.gather(*(tell(number) for number in range(20)))
        return numbers

    assert run(VirtualLoop(1), order) == run(VirtualLoop(1), order)
    assert run(VirtualLoop(1), order) != run(VirtualLoop(2), order)


def test_waiting_for_nothing_is_noticed() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="for nothing"):
        run(VirtualLoop(1), wait)


def test_turning_in_place_is_noticed() -> None:
    async def turn() -> None:
        while True:  # noqa: ASYNC110 - it is what is tried
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="no end"):
        run(VirtualLoop(1), turn)


def test_a_killed_host_takes_all_that_it_began_with_it() -> None:
    ended: list[str] = []

    async def child(name: str) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(name)

    async def parent() -> None:
        inner = asyncio.create_task(child("inner"))
        try:
            await child("outer")
        finally:
            await inner

    async def play() -> int:
        host, other = Host("host"), Host("other")
        host.spawn(parent())
        other.spawn(child("other"))
        await asyncio.sleep(1)
        await host.kill()
        assert not host.alive
        assert sorted(ended) == ["inner", "outer"]
        return len(other.tasks)

    assert run(VirtualLoop(1), play) == 1
