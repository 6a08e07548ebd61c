"""Joining a waiting room: what a crowd does in the minutes before an opening."""

import json

from loadtest.bench import claims
from loadtest.bench.ground import PROGRAM, Ground
from loadtest.bench.measuring import Round, Say
from loadtest.bench.reads import JOINS, answered_alike
from loadtest.bench.rounds import Bench
from reservasi.bootstrap import open_operations, open_program
from reservasi.model import Outcome, SetOpening
from reservasi.programs import WaitingRoom
from reservasi.waiting_room.creation import new_terms

OPENING = f"{PROGRAM}-joins"
OPENS_AT_MS = 4_000_000_000_000  # nobody waits that long: every join is one before the opening
FIRST_PERSON = 10_000_000  # people who have not claimed


async def measure_joins(bench: Bench, say: Say) -> dict[str, list[Round]]:
    """Everybody joins once, interleaved with a bare handler that answers as many bytes.

    Raises:
        WrongResult: an answer had another status or size.
    """
    await _create_opening(bench.ground)
    first = FIRST_PERSON

    def requests(count: int) -> list[bytes]:
        nonlocal first
        first += count
        return [_request(number) for number in range(first - count, first)]

    return {JOINS: await answered_alike(bench, JOINS, 201, requests, say)}


async def _create_opening(ground: Ground) -> None:
    async with open_operations(ground.settings) as operations, open_program(operations, PROGRAM) as group:
        terms = new_terms(operations.sealing, OPENING, OPENS_AT_MS, WaitingRoom(), joins_from_ms=1)
        answer = await group.submit(SetOpening(opening=OPENING, terms=terms))
    if answer.outcome not in (Outcome.OPENING_SET, Outcome.EXISTS):
        raise RuntimeError(f"the opening was not created: {answer.outcome}")


def _request(number: int) -> bytes:
    nik, birth_date = claims.person(number)
    body = json.dumps({"nik": nik, "birth_date": birth_date}, separators=(",", ":"))
    return (
        f"POST /v1/openings/{OPENING}/tickets HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        "Content-Type: application/json\r\n"
        "Accept: application/json\r\n"
        "Accept-Language: id\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
