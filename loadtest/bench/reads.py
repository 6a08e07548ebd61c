"""What most people meet at an opening: the list of what is left, and `sold-out`; both without asking a store."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

from loadtest.bench.client import Load, run_load
from loadtest.bench.ground import PROGRAM, SMALL_OFFICE
from loadtest.bench.measuring import START_TIMEOUT_S, Round, Say, Subject, WrongResult, check_size
from loadtest.bench.rounds import Bench
from loadtest.bench.variants import Bare, Variant
from loadtest.stage.ports import wait_listening

AVAILABILITY = "availability"
SOLD_OUT = "sold_out"
JOINS = "joins"  # measured in the same way, by `joins.py`
TITLES = {
    AVAILABILITY: "GET /v1/availability of one office, 8 quotas, against a constant 200 of the same size",
    JOINS: "POST /v1/openings/{id}/tickets before the opening, against a constant 201 of the same size",
    SOLD_OUT: "claims for a quota without places, against a constant 409 of the same size",
}
PROBES = 8
SELLS_OUT_TRIES = 50
AVAILABILITY_REQUEST = (
    f"GET /v1/availability?program={PROGRAM}&office={SMALL_OFFICE}&service=baru&channel=online HTTP/1.1\r\n"
    "Host: 127.0.0.1\r\nAccept: application/json\r\nAccept-Language: id\r\n\r\n"
).encode()


async def measure_reads(bench: Bench, say: Say) -> dict[str, list[Round]]:
    """Both kinds of answer, each interleaved with a bare handler of its own.

    Raises:
        WrongResult: an answer had another status or size.
    """
    quota = bench.ground.small_quotas[:1]
    await _sell_out(bench, quota)
    return {
        SOLD_OUT: await answered_alike(bench, SOLD_OUT, 409, lambda count: bench.people.requests(count, quota), say),
        AVAILABILITY: await answered_alike(bench, AVAILABILITY, 200, lambda count: [AVAILABILITY_REQUEST] * count, say),
    }


async def _sell_out(bench: Bench, quota: tuple[str, ...]) -> None:
    """Claim until there is nothing left, and until the front's memory has heard of it."""
    for _ in range(SELLS_OUT_TRIES):
        load = await run_load(
            bench.ours.port, bench.people.requests(1, quota), connections=1, timeout_s=START_TIMEOUT_S, wanted=409
        )
        if load.claimed:
            break
    else:
        raise WrongResult(f"{quota[0]} does not sell out")
    await bench.ours.settle()


async def _nothing(_load: Load) -> None:
    """Nothing is left behind that could be looked at."""


async def answered_alike(
    bench: Bench,
    name: str,
    status: int,
    requests: Callable[[int], list[bytes]],
    say: Say,
    *,
    look: Callable[[Load], Awaitable[None]] = _nothing,
) -> list[Round]:
    """Our service, interleaved with a bare handler that answers all of it with this status and as many bytes.

    `look` is called after each load of ours, the warm-up included.
    """
    ours, stores = bench.ours, bench.ground.store_pids
    probe = await run_load(ours.port, requests(PROBES), connections=PROBES, timeout_s=START_TIMEOUT_S, wanted=status)
    if probe.refused:
        raise WrongResult(f"{name} answered {dict(probe.answers)}, not always {status}")
    await look(probe)
    answer_bytes = max(probe.answer_bytes)

    async def check(load: Load) -> None:
        check_size(name, load, answer_bytes)

    async def check_ours(load: Load) -> None:
        await check(load)
        await look(load)

    async with AsyncExitStack() as stack:
        bare = Bare(replace(bench.ground, answer_bytes=answer_bytes), status)
        stack.push_async_callback(bare.stop)
        await bare.start()
        await wait_listening(bare.port, START_TIMEOUT_S)

        def subject(title: str, variant: Variant, check: Callable[[Load], Awaitable[None]]) -> Subject:
            return Subject(
                name=title,
                port=variant.port,
                roots={**stores, **variant.pids},
                requests=requests,
                settle=variant.settle,
                check=check,
                wanted=status,
            )

        asked = [subject(name, ours, check_ours)]
        return await bench.meter.rounds(subject(f"bare {name}", bare, check), asked, say)
