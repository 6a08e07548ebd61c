"""Both transports give the same answers, and keep the order on a connection."""

import asyncio
import dataclasses
import gc
import json
import socket
import struct
from typing import Any

import pytest

from reservasi.front.dispatch import Dispatcher
from reservasi.front.handlers import reservations as booking
from reservasi.metrics import LAG_S, REQUESTS_IN_FLIGHT
from reservasi.reservations import ClaimRequest
from tests.acceptance.lines import LONG_WAY, Line, both, comparable, join_request, request
from tests.acceptance.waiting import Room, create_room

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request that was read from bytes, whether it was answered there."""
    results: list[bool] = []
    take = Dispatcher.take

    def noted(self: Dispatcher, caller: Any, request: Any) -> bool:
        results.append(take(self, caller, request))
        return results[-1]

    monkeypatch.setattr(Dispatcher, "take", noted)
    return results


async def test_an_answered_claim_leaves_nothing_for_the_collector(stack: Any, line: Line, taken: list[bool]) -> None:
    quota = await stack.quota()
    gc.collect()
    gc.disable()
    try:
        for number in range(5):
            line.writer.write(request(stack, stack.body(quota), f"collector-{number}"))
            assert (await line.answer())[0] == "HTTP/1.1 201 Created"
        assert taken == [True] * 5

        async def all_gone() -> bool:
            kept_keys = [each.idempotency_key for each in gc.get_objects() if isinstance(each, ClaimRequest)]
            return not any(key.startswith("collector-") for key in kept_keys)

        await stack.eventually(all_gone)  # the last one as well, though nobody comes after it
    finally:
        gc.enable()


@pytest.mark.parametrize("language", ["id", "en", ""])
async def test_refusals_are_the_same_on_both_ways(
    stack: Any, line: Line, long_line: Line, taken: list[bool], language: str
) -> None:
    headers = [f"Accept-Language: {language}"] if language else []
    later = await stack.quota(opens_at_ms=4_000_000_000_000)
    closed, none_left = await stack.quota(closed=True), await stack.quota(capacity=0)
    live = await stack.quota()
    person = stack.applicant()
    await stack.held(live)
    line.writer.write(request(stack, {"quota": live, "applicants": [person]}, "live"))
    assert (await line.answer())[0] == "HTTP/1.1 201 Created"
    taken.clear()  # what the shared client asked may have gone either way
    bodies = [
        stack.body(later),
        stack.body(closed),
        stack.body(none_left),
        stack.body(f"{stack.program}.kanim.baru.20270101.0800.nothing"),
        {"quota": live, "applicants": [person]},
        {"quota": live, "applicants": [{**person, "nik": "1"}]},
        {"quota": live, "applicants": [person, person]},
        {"quota": live, "applicants": [person], "contact": {"email": "siti..r@x.id"}},
        {"quota": live, "applicants": [person], "contact": []},
        {"quota": live, "applicants": [{**person, "name": "Siti\x07"}]},
        json.dumps({"quota": live, "applicants": [person]}).encode()[:-1] + b',"qu\\u006fta":"x"}',
        b"{",
        b"",
    ]
    for number, body in enumerate(bodies):
        key = f"refused-{number}"
        await both(line, request(stack, body, key, *headers), long_line, request(stack, body, key, LONG_WAY, *headers))
    assert taken == [True] * len(bodies)


def untidy(applicant: dict[str, Any], number: int) -> dict[str, Any]:
    """The same person as another phone sends them."""
    nik, name = applicant["nik"], applicant["name"]
    return [
        applicant,
        {**applicant, "name": f" {name}\t"},
        {**applicant, "nik": f"{nik[:6]} {nik[6:12]}\u00a0{nik[12:]}"},
        {**applicant, "name": "\ufeff" + name.replace(" ", "\u200b\u202f\u00a0"), "nik": f"\u202a{nik}\u202c"},
        {**applicant, "nik": f"{nik[:8]}\r\n{nik[8:]}\n"},
        {**applicant, "nik": nik.translate({0x30 + digit: 0xFF10 + digit for digit in range(10)})},
    ][number]


CONTACTS = [
    {"email": "o'brien@x.id", "phone": "0215551234"},
    {"email": " o\u2019brien@X.ID", "phone": "(021) 555-1234"},
    {"email": "o'brien@x.id\u200b", "phone": "\u202a021.555/1234\u202c "},
    {"email": "o'brien@x.id", "phone": "０２１ 555\u20111234"},
    {"email": "o'brien@x.id", "phone": "0215551234"},
    {"email": "o'brien@x.id", "phone": "0215551234"},
]


async def test_other_white_space_is_the_same_request(
    stack: Any, line: Line, long_line: Line, taken: list[bool]
) -> None:
    quota, person = await stack.quota(), stack.applicant()
    bodies = [
        {"quota": quota, "applicants": [untidy(person, number)], "contact": CONTACTS[number]}
        for number in range(len(CONTACTS))
    ]
    key = "untidy"
    line.writer.write(request(stack, bodies[1], key))
    status, _, first = await line.answer()
    assert status == "HTTP/1.1 201 Created"
    for body in bodies:
        for on, headers in ((line, ()), (long_line, (LONG_WAY,))):
            on.writer.write(request(stack, body, key, *headers))
            status, reply_headers, again = await on.answer()
            assert (status, reply_headers.get("Idempotent-Replayed"), again) == ("HTTP/1.1 201 Created", "true", first)
    assert taken == [True] * 7


async def test_what_is_empty_is_as_if_left_out_on_both_ways(stack: Any, line: Line, long_line: Line) -> None:
    plain = stack.body(await stack.quota())
    line.writer.write(request(stack, plain, "empty"))
    status, _, first = await line.answer()
    assert status == "HTTP/1.1 201 Created"
    empty: list[dict[str, Any]] = [
        {"contact": None},
        {"contact": {}},
        {"contact": {"email": "", "phone": None}},
        {"contact": {"email": None, "phone": "\u00a0"}, "ticket": None},
        {"ticket": ""},
    ]
    for more in empty:
        for on, headers in ((line, ()), (long_line, (LONG_WAY,))):
            on.writer.write(request(stack, {**plain, **more}, "empty", *headers))
            status, _, again = await on.answer()
            assert (status, again) == ("HTTP/1.1 201 Created", first), more


@pytest.mark.parametrize("written", [" {}\t", "\ufeff{}\u200b\u00a0", "{}\n", "\u202a{}\u202c"])
async def test_a_birth_date_is_tidied_on_both_ways(stack: Any, line: Line, long_line: Line, written: str) -> None:
    room, body = await create_room(stack), stack.body(await stack.quota())
    (person,) = body["applicants"]
    key = f"born-{person['nik']}"
    line.writer.write(request(stack, body, key))
    status, _, claimed = await line.answer()
    assert status == "HTTP/1.1 201 Created"
    untidy = {**person, "birth_date": written.format(person["birth_date"])}
    for on, headers in ((line, ()), (long_line, (LONG_WAY,))):
        on.writer.write(request(stack, {**body, "applicants": [untidy]}, key, *headers))
        assert (await on.answer())[2] == claimed
    joins = []
    for on, headers, who in ((line, (), person), (line, (), untidy), (long_line, (LONG_WAY,), untidy)):
        on.writer.write(join_request(room, {"nik": who["nik"], "birth_date": who["birth_date"]}, *headers))
        joins.append(await on.answer())
    assert [status for status, _, _ in joins] == ["HTTP/1.1 201 Created"] * 3
    assert len({body for _, _, body in joins}) == 1


@pytest.mark.parametrize("code", ["65", "92", "93", "95", "96", "54"])
async def test_a_nik_of_every_province_claims_and_joins(
    stack: Any, line: Line, long_line: Line, taken: list[bool], code: str
) -> None:
    quota, room = await stack.quota(), await create_room(stack)
    taken.clear()
    niks = [f"{code}7101{stack.nik()[6:]}" for _ in range(2)]
    for nik, on, headers in zip(niks, (line, long_line), ((), (LONG_WAY,)), strict=True):
        # The birth date is another one than the number's: it was corrected once, and the number stayed.
        on.writer.write(join_request(room, {"nik": nik, "birth_date": "1991-02-28"}, *headers))
        assert (await on.answer())[0] == "HTTP/1.1 201 Created"
        person = {"nik": nik, "name": "Siti", "birth_date": "1991-02-28"}
        on.writer.write(request(stack, {"quota": quota, "applicants": [person]}, f"of-{nik}", *headers))
        assert (await on.answer())[0] == "HTTP/1.1 201 Created"
    assert taken == [True, True]


async def test_a_replay_finds_its_answer_whichever_way_it_takes(
    stack: Any, line: Line, long_line: Line, taken: list[bool]
) -> None:
    quota = await stack.quota()
    contact = {"email": "siti@example.id", "phone": "+62 812 3456 7890"}
    for number, (first, second) in enumerate(((line, long_line), (long_line, line), (line, line))):
        body = stack.body(quota, 2, contact=contact)

        async def sent(on: Line, body: Any = body, key: str = f"key-{number}") -> tuple[str, dict[str, str], bytes]:
            on.writer.write(request(stack, body, key, *([LONG_WAY] if on is long_line else [])))
            return await on.answer()

        status, headers, content = await sent(first)
        assert status == "HTTP/1.1 201 Created"
        assert "Idempotent-Replayed" not in headers
        again_status, again_headers, again = await sent(second)
        assert (again_status, again) == (status, content)
        assert again_headers.pop("Idempotent-Replayed") == "true"
        assert again_headers.keys() == headers.keys()
        assert comparable((status, again_headers, again)) == comparable((status, headers, content))
    assert taken == [True] * 4


@pytest.mark.parametrize("language", ["id", "en"])
async def test_joins_are_the_same_on_both_ways(
    stack: Any, line: Line, long_line: Line, taken: list[bool], language: str
) -> None:
    header = f"Accept-Language: {language}"
    room, soon = await create_room(stack), await create_room(stack, joins_before_ms=60_000)
    over, proof = await create_room(stack, opens_in_ms=50, lasts_ms=1000), await create_room(stack, proof_of_work=True)
    none = await create_room(stack, waiting_room=False)
    none_left = await create_room(stack, opens_in_ms=50, capacity=0)
    await none_left.until(lambda queue: queue["state"] == "sold_out")
    await over.until(lambda queue: queue["state"] == "ended")
    person: dict[str, Any] = {"nik": stack.nik(), "birth_date": "1990-07-01"}
    tried: list[tuple[Room, Any]] = [
        *((each, person) for each in (room, room, soon, over, none, none_left)),
        (proof, person),
        (dataclasses.replace(room, id="nowhere"), person),
        (room, {**person, "nik": "1"}),
        (room, {**person, "altcha": "x"}),
        (room, {**person, "altcha": None}),
        (room, {**person, "altcha": ""}),
        (proof, {**person, "altcha": ""}),
        (room, {**person, "birth_date": "\u00a01990-07-01\n"}),
        (room, {**person, "nik": f" {person['nik'][:6]}.{person['nik'][6:]}\u200b"}),
        (room, json.dumps(person).encode()[:-1] + b',"nik":"1"}'),
        (room, {"nik": person["nik"]}),
        (room, b"{"),
    ]
    taken.clear()
    for where, body in tried:
        await both(line, join_request(where, body, header), long_line, join_request(where, body, LONG_WAY, header))
    assert taken == [True] * len(tried)


async def test_claims_with_a_ticket_are_the_same_on_both_ways(
    stack: Any, line: Line, long_line: Line, taken: list[bool]
) -> None:
    room, other = await create_room(stack, opens_in_ms=2000), await create_room(stack)
    people = [stack.applicant() for _ in range(6)]
    tickets = [await room.joined(person) for person in people]
    elsewhere = await other.joined(people[0])
    queue = await room.opened()
    last = max(range(6), key=lambda at: room.number(queue, tickets[at]))
    assert room.number(queue, tickets[last]) > queue["admitted_through"]
    tried = [
        (people[0], None),
        (people[0], ""),
        (people[0], "forged"),
        (people[0], "é"),
        (people[0], tickets[1]["ticket"]),
        (people[0], elsewhere["ticket"]),
        (people[last], tickets[last]["ticket"]),
    ]
    taken.clear()
    for number, (person, ticket) in enumerate(tried):
        body = {"quota": room.quota, "applicants": [person], **({} if ticket is None else {"ticket": ticket})}
        key = f"ticket-{number}"
        await both(line, request(stack, body, key), long_line, request(stack, body, key, LONG_WAY))
    assert taken == [True] * len(tried)
    await room.admit_all()
    body = {"quota": room.quota, "applicants": [people[0]], "ticket": tickets[0]["ticket"]}
    line.writer.write(request(stack, body, "admitted"))
    assert (await line.answer())[0] == "HTTP/1.1 201 Created"
    await both(line, request(stack, body, "admitted"), long_line, request(stack, body, "admitted", LONG_WAY))
    del body["ticket"]  # a replay finds its answer whatever happened to the ticket
    await stack.seen(room.quota, lambda quota: quota.counts.held == 1)
    await both(line, request(stack, body, "admitted"), long_line, request(stack, body, "admitted", LONG_WAY))


async def test_availability_is_the_same_on_both_ways(
    stack: Any, line: Line, long_line: Line, taken: list[bool]
) -> None:
    quota = await stack.quota()
    pasted = f"?program=%20{stack.program}%E2%80%8B&from=2027-03-01%C2%A0"
    queries = (
        "",
        f"?program={stack.program}",
        "?program=UPPER",
        "?from=2027-01-02&to=2027-01-01",
        "?what=x",
        "?",
        pasted,
    )
    for query in queries:
        head = f"GET /v1/availability{query} HTTP/1.1\r\nHost: x\r\n".encode()
        await both(line, head + b"\r\n", long_line, head + LONG_WAY.encode() + b"\r\n\r\n")
    assert taken == [True] * len(queries)
    line.writer.write(f"GET /v1/availability{pasted} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    status, _, body = await line.answer()
    assert status == "HTTP/1.1 200 OK"
    assert quota in {each["id"] for each in json.loads(body)["quotas"]}


@pytest.mark.parametrize("at", ["before", "after"])
async def test_a_bug_of_ours_is_answered_and_the_connection_goes_on(
    stack: Any, line: Line, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    quota = await stack.quota()
    with monkeypatch.context() as patched:
        name = "plain_claim" if at == "before" else "claimed_body"
        patched.setattr(booking, name, lambda *_: 1 / 0)
        line.writer.write(request(stack, stack.body(quota), "bug"))
        status, _, body = await line.answer()
        assert status == "HTTP/1.1 500 Internal Server Error"
        assert json.loads(body)["type"] == "/problems/internal-error"
        assert json.loads(body)["request_id"]
    line.writer.write(request(stack, stack.body(quota), "bug-gone"))
    assert (await line.answer())[0] == "HTTP/1.1 201 Created"


async def test_whoever_leaves_before_the_answer_is_in_flight_no_more(
    stack: Any, line: Line, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = await stack.quota()
    await asyncio.sleep(2 * LAG_S)  # as a scrape does
    before = REQUESTS_IN_FLIGHT._value.get()
    connection = stack.front.reservations._groups[stack.program]._connection
    called, answered, call = asyncio.Event(), asyncio.Event(), connection.call

    async def held_up(*args: Any, **options: Any) -> Any:
        called.set()
        await answered.wait()
        return await call(*args, **options)

    monkeypatch.setattr(connection, "call", held_up)
    line.writer.write(request(stack, stack.body(quota), "left"))
    await asyncio.wait_for(called.wait(), 60)
    assert taken == [True]

    async def under_way() -> bool:
        return bool(REQUESTS_IN_FLIGHT._value.get() == before + 1)

    await stack.eventually(under_way)
    # Reset: one who only closes looks as if they waited for the answer.
    line.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.writer.transport.abort()

    async def counted() -> bool:
        return bool(REQUESTS_IN_FLIGHT._value.get() == before)

    try:
        await stack.eventually(counted)
    finally:
        answered.set()
    await stack.seen(quota, lambda view: view.counts.held == 1)  # it was sent already
    assert await counted()
