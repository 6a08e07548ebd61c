"""Joining a waiting room: what a crowd does in the minutes before an opening."""

import json

import redis.asyncio as redis_asyncio

from loadtest.bench import claims
from loadtest.bench.client import Load
from loadtest.bench.ground import PROGRAM, Ground
from loadtest.bench.measuring import Round, Say, WrongResult
from loadtest.bench.reads import JOINS, answered_alike
from loadtest.bench.rounds import Bench
from reservasi.bootstrap.commands import open_operations, open_program
from reservasi.ledger import keys
from reservasi.model import Outcome, SetOpening
from reservasi.programs import WaitingRoom
from reservasi.waiting_room.creation import new_terms

OPENING = f"{PROGRAM}-joins"
OPENS_AT_MS = 4_000_000_000_000  # nobody waits that long: every join is one before the opening
MISTAKEN_MAX = 10_000  # one in so many may be taken for somebody who joined before
FIRST_PERSON = 10_000_000  # people who have not claimed


class Joiners:
    """Everybody joins once in a whole run."""

    def __init__(self) -> None:
        self._next = FIRST_PERSON
        self.joined = 0

    def requests(self, count: int) -> list[bytes]:
        """So many further people join."""
        self._next += count
        return [join_request(number) for number in range(self._next - count, self._next)]


async def measure_joins(bench: Bench, joiners: Joiners, say: Say) -> dict[str, list[Round]]:
    """Joins, interleaved with a bare handler that answers as many bytes.

    Raises:
        WrongResult: an answer had another status or size, or the ledger counted other than so many people.
    """
    await create_opening(bench.ground)

    async def look(load: Load) -> None:
        joiners.joined += load.claimed
        check_count(await _counted(bench.ground), joiners.joined)

    return {JOINS: await answered_alike(bench, JOINS, 201, joiners.requests, say, look=look)}


def check_count(counted: int, joined: int) -> None:
    """Whether the ledger's count is that of the people who joined, but for those who may be mistaken for others.

    Raises:
        WrongResult: it is not.
    """
    if not 0 <= joined - counted <= joined // MISTAKEN_MAX:
        raise WrongResult(f"{joined} people joined, and the ledger counts {counted}")


async def _counted(ground: Ground) -> int:
    async with redis_asyncio.Redis.from_url(ground.redis_url) as client:
        return await read_count(client, PROGRAM, OPENING)


async def read_count(client: redis_asyncio.Redis, program: str, opening: str) -> int:
    """How many people joined an opening before it opened, as the ledger has counted them."""
    return int(await client.lindex(f"{keys.joined(program)}:{opening}:before", 0) or 0)


async def create_opening(ground: Ground) -> None:
    """An opening that lies so far ahead that nobody waits so long; people may join already."""
    async with open_operations(ground.settings) as operations, open_program(operations, PROGRAM) as group:
        terms = new_terms(operations.sealing, OPENING, OPENS_AT_MS, WaitingRoom(), joins_from_ms=1)
        answer = await group.submit(SetOpening(opening=OPENING, terms=terms))
    if answer.outcome not in (Outcome.OPENING_SET, Outcome.EXISTS):
        raise RuntimeError(f"the opening was not created: {answer.outcome}")


def join_request(number: int) -> bytes:
    """The so-and-so-many-th person joins."""
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
