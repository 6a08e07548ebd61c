"""No personal data in logs, metrics and error pages, after a run that sends it everywhere."""

import asyncio
import base64
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import structlog

from reservasi import logs
from reservasi.errors import LedgerFault
from reservasi.metrics import REQUESTS, exposition
from tests.acceptance.waiting import create_room
from tests.personal import below, separated_niks, stored, traces

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAME, EMAIL, BORN = "Siti Nurhaliza Putri", "siti.nurhaliza@example.id", "1987-06-05"
JOINING_MS = 3000
LAST_EVENT = "the_run_is_over"


@pytest.fixture
def logged_as_in_production() -> None:
    """What is logged, down to the least level, by the service's own configuration."""
    logs.configure("debug", "json")


class Run:
    """A run over HTTP: whose data came in, and all that came back."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self.secrets = [NAME, EMAIL, BORN]
        self.answers: dict[str, bytes] = {}

    def body(self, quota: str, applicants: int = 1) -> dict[str, Any]:
        people = [self.stack.applicant(name=NAME, birth_date=BORN) for _ in range(applicants)]
        self.secrets += [person["nik"] for person in people]
        return {"quota": quota, "applicants": people, "contact": {"email": EMAIL, "phone": people[0]["nik"]}}

    def keep(self, what: str, reply: Any) -> Any:
        headers = "\n".join(f"{name}: {value}" for name, value in reply.headers.items())
        self.answers[f"answer {len(self.answers)}, {reply.status} to {what}"] = headers.encode() + b"\n\n" + reply.body
        return reply

    async def claim(self, what: str, body: Any, key: str | None = None) -> Any:
        return self.keep(what, await self.stack.claim(body, key))

    async def request(self, what: str, method: str, path: str, **options: Any) -> Any:
        return self.keep(what, await self.stack.request(method, path, **options))

    async def places(self, output: Any) -> dict[str, bytes]:
        """Everything in which personal data must not be readable."""
        return {
            **self.answers,
            **await stored(self.stack.worker.client, self.stack.program),
            **await recorded_rows(self.stack.front.settings.postgres_dsn),
            **below(self.stack.front.settings.data_dir),
            **below(Path(urlsplit(self.stack.worker.settings.redis_url).path).parents[1]),  # append-only file, logs
            **below(_server_dir(self.stack.worker.settings.postgres_dsn) / "log"),
            "log": (output.out + output.err).encode(),
            "metrics": exposition(),
        }


def _server_dir(dsn: str) -> Path:
    """The data directory of the embedded PostgreSQL behind a DSN."""
    return Path(parse_qs(urlsplit(dsn).query)["host"][0]).parent


# Partitions are read through the table that they belong to.
TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""


async def recorded_rows(dsn: str) -> dict[str, bytes]:
    """Every table of the database as text; binary columns are in hexadecimal."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch(TABLES)
        rows = {name: await connection.fetch(f'SELECT t::text FROM "{name}" AS t') for (name,) in tables}
    finally:
        await connection.close()
    return {f"table {name}": "\n".join(row[0] for row in records).encode() for name, records in rows.items()}


async def lives(run: Run) -> str:
    """Reservations through their whole lives, and the refusals that people meet; a confirmed reservation's id."""
    stack = run.stack
    quota, small = await stack.quota(), await stack.quota(capacity=1)
    body, key = run.body(quota, 2), secrets.token_hex(8)
    held = (await run.claim("a claim", body, key)).json
    await run.claim("a replay", body, key)
    await run.claim("another claim with the key", run.body(quota), key)
    await run.claim("a second reservation", body)
    await run.claim("a claim for the last place", run.body(small))
    await stack.seen(small, lambda q: q.remaining == 0)
    await run.claim("a claim too late", run.body(small))
    for method, suffix in (("GET", ""), ("POST", "/confirm"), ("GET", ""), ("GET", "/qr.svg"), ("GET", "/ticket.ics")):
        run.keep(f"{method} {suffix}", await stack.managed(method, held, suffix))
    other = (await run.claim("a claim", run.body(quota))).json
    run.keep("a cancellation", await stack.managed("POST", other, "/cancel"))
    await run.request("availability", "GET", f"/v1/availability?program={stack.program}")
    await run.request("openings", "GET", f"/v1/openings?program={stack.program}")
    run.keep("staff's quotas", await stack.staff("GET", f"/v1/staff/quotas?program={stack.program}"))
    return str(held["id"])


async def waits(run: Run) -> None:
    """An opening with a waiting room: joins, also wrong ones, the draw, the tickets, and claims with them."""
    stack = run.stack
    room = await create_room(stack, opens_in_ms=JOINING_MS)
    people = [stack.applicant(name=NAME, birth_date=BORN) for _ in range(3)]
    run.secrets += [person["nik"] for person in people]
    nik = people[0]["nik"]
    tickets = [run.keep("a join", await room.join(person)).json["ticket"] for person in people]
    run.keep("a join again", await room.join(people[0]))
    for body in ({"nik": nik}, {"nik": separated_niks(nik)[0], "birth_date": BORN}, {nik: nik}, [nik], nik):
        await run.request("a wrong join", "POST", f"/v1/openings/{room.id}/tickets", json=body)
    await run.request("a join of nothing", "POST", f"/v1/openings/{nik}/tickets", json={"nik": nik, "birth_date": BORN})
    run.keep("an early claim", await room.claim(people[0], tickets[0]))
    await room.opened()
    await room.admit_all()
    for path in (f"/v1/openings/{room.id}/queue", f"/v1/openings/{nik}/queue", f"/openings/{room.id}", "/openings"):
        await run.request("the queue", "GET", path)
    run.keep("a claim with a ticket", await room.claim(people[0], tickets[0]))
    run.keep("a claim with another's", await room.claim(people[1], tickets[2]))
    run.keep("a claim with a NIK for a ticket", await room.claim(people[1], people[1]["nik"]))
    run.keep("a claim with a wrong ticket", await room.claim(people[1], f"{tickets[1]}{people[1]['nik']}"))
    run.answers |= {f"ticket {number}": _unpacked(ticket) for number, ticket in enumerate(tickets)}


def _unpacked(ticket: str) -> bytes:
    """A ticket's parts, as anybody can read them."""
    return b"\n".join(base64.urlsafe_b64decode(part + "==") for part in ticket.split("."))


async def mistakes(run: Run) -> None:
    """A NIK where none belongs: in fields, keys, headers, queries and addresses."""
    quota = await run.stack.quota()
    body = run.body(quota)
    nik = body["applicants"][0]["nik"]
    for changes in (
        {"quota": nik},
        {"ticket": int(nik)},
        *({"applicants": [{**body["applicants"][0], "nik": written}]} for written in separated_niks(nik)),
        {nik: nik},
        {"contact": {"phone": nik, nik: nik}},
        {"applicants": [{"nik": int(nik), "name": f"{nik}\n", "birth_date": nik, nik: nik}]},
        {"applicants": body["applicants"] * 2},
        {"applicants": body["applicants"] * 6},
    ):
        await run.claim(f"a claim with {sorted(changes.keys() - {nik})}", {**body, **changes})
    await run.claim("a claim for no quota", {**body, "quota": f"{run.stack.program}.aa.bb.20270101.0800.online"})
    await run.claim("a claim with the NIK as its key", body, nik)
    await run.request("a claim without a key", "POST", "/v1/reservations", json=body)
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    for data in (nik.encode(), f'{{"nik": "{nik}"'.encode(), f'"{nik}\udcff"'.encode(errors="surrogateescape")):
        await run.request("a body that is none", "POST", "/v1/reservations", data=data, headers=headers)
    for name in ("Accept-Language", "Authorization", "X-API-Key", "X-Forwarded-For", "If-None-Match", "Accept"):
        await run.request(name, "GET", "/v1/availability", headers={name: nik})
        await run.request(name, "PUT", f"/v1/staff/quotas/{quota}", json={"capacity": 1}, headers={name: nik})
    for path in (
        f"/{nik}",
        f"/v1/reservations/{nik}",
        f"/problems/{nik}",
        f"/v1/availability?office={nik}.",
        f"/v1/reservations/{base64.b64encode(nik.encode()).decode()}",
        f"/v1/openings/{separated_niks(nik)[0]}/queue".replace(" ", "%20"),
        f"/?{nik}",
    ):
        await run.request("an address", "GET", path)
        await run.request("an address", "DELETE", path)
    await run.request("staff", "PUT", f"/v1/staff/quotas/{nik}", json={nik: nik}, headers={"X-API-Key": nik})
    await run.request("Expect", "POST", "/v1/reservations", json=body, headers={**headers, "Expect": nik})
    run.answers["answer to bytes that are not HTTP"] = await not_http(run.stack.url, nik)


async def not_http(url: str, nik: str) -> bytes:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /{nik} HTTP/1.1\r\n{nik}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def faults(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the midst of a claim, and of a confirm: what is logged of it."""
    quota = await run.stack.quota()
    held = (await run.claim("a claim", run.body(quota))).json
    group = run.stack.front.reservations._groups[run.stack.program]

    def fails(command: object, tell: object) -> None:
        raise LedgerFault("a bug, with a command at hand")

    with monkeypatch.context() as patched:
        patched.setattr(group, "enqueue", fails)
        await run.claim("a claim that meets a bug", run.body(quota))
        run.keep("a confirm that meets a bug", await run.stack.managed("POST", held, "/confirm"))


async def test_no_personal_data_in_what_the_service_says_or_keeps(
    stack: Any,
    logged_as_in_production: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    run = Run(stack)
    reservation_id = await lives(run)
    await waits(run)
    await mistakes(run)
    await faults(run, monkeypatch)
    structlog.get_logger().info(LAST_EVENT)
    output = capsys.readouterr()
    places = {**await run.places(output), "library logs": caplog.text.encode()}
    assert traces(places, run.secrets) == []
    # The run was one: each kind of answer came, the logs are the service's, and the search looked where data is.
    answered = {
        place.split()[2] for place in run.answers if "not HTTP" not in place and "ticket" not in place.split()[0]
    }
    assert {"200", "201", "400", "401", "404", "405", "409", "417", "422", "500"} <= answered
    assert all(event in output.err for event in ("request_failed", "Traceback", LAST_EVENT))
    assert '"/v1/reservations/{id}/confirm"' in places["metrics"].decode()
    kept = {place.split(":")[0] for place in traces(places, [reservation_id])}
    assert {"table bookings", "table applicants"} <= kept


async def test_personal_data_would_be_found(
    stack: Any, logged_as_in_production: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run, nik = Run(stack), stack.nik()
    structlog.get_logger().info("planted", nik=nik)
    labels = (f"/v1/people/{nik}", "GET", "2xx")
    REQUESTS.labels(*labels).inc()
    key = f"{{{stack.program}}}:planted"
    await stack.worker.client.hset(key, mapping={"sealed": nik})
    try:
        reply = await run.request("an echo", "GET", f"/v1/availability?program={stack.program}")
        reply.headers["Location"] = f"/v1/reservations/{nik}"
        run.keep("a planted address", reply)
        reply.body += nik.encode()
        run.keep("a planted body", reply)
        places = traces(await run.places(capsys.readouterr()), [nik])
    finally:
        REQUESTS.remove(*labels)
        await stack.worker.client.delete(key)
    planted = {"log", "metrics", f"key {key}", "answer 1, 200 to a planted address", "answer 2, 200 to a planted body"}
    # The append-only file has it as well, which shows that it is looked into.
    kept = {place.rpartition(":")[0] for place in places}
    assert planted <= kept
    assert all("appendonlydir" in place for place in kept - planted)
    assert kept - planted
