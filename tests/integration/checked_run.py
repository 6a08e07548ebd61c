"""A small correct run for the checker: its ledger, its records, and the answers of its clients."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgpack
import redis.asyncio as redis_asyncio

from loadtest.checker.check import check
from loadtest.checker.history import Exchange
from loadtest.checker.rules import Rule, Violation
from loadtest.stage.program import open_terms
from reservasi.bootstrap.ledgers import Ledgers
from reservasi.ledger import keys
from reservasi.ledger.topology.servers import Servers
from reservasi.ledger.wire.stored_forms import StoredQuota, decode_quota, encode_quota
from reservasi.model import (
    Admit,
    Answer,
    Cancel,
    Claim,
    Command,
    Confirm,
    Join,
    Outcome,
    Position,
    QuotaTerms,
    SetQuota,
)
from reservasi.records import Records
from reservasi.settings import Settings
from tests.ledgers import opening_set

EVENTS_MAX = 1000
HOLD_MS = 7_200_000


@dataclass
class Run:
    """A small run that went well: two quotas, two confirmed, one held, one cancelled reservation."""

    program: str
    redis_url: str
    dsn: str
    client: redis_asyncio.Redis
    database: "asyncpg.Connection[asyncpg.Record]"  # a subscript that only its stubs know
    history: list[Exchange]

    @property
    def quota(self) -> str:
        return f"{self.program}.kanim.baru.20301201.0800.online"

    def id(self, number: int) -> str:
        return f"{self.program[-4:]}{number:022d}"

    async def rules(self) -> set[Rule]:
        return {violation.rule for violation in await self.violations()}

    async def violations(self) -> tuple[Violation, ...]:
        (finding,) = await check(self.redis_url, self.dsn, self.history, [self.program])
        return finding.violations

    async def change(self, key: str, field: str, change: Callable[[list[Any]], None]) -> None:
        """Change a packed field of the ledger behind its back."""
        packed = await self.client.hget(key, field)
        assert packed is not None
        fields = msgpack.unpackb(packed)
        change(fields)
        await self.client.hset(key, field, msgpack.packb(fields, use_bin_type=False))

    async def change_quota(self, change: Callable[[StoredQuota], None]) -> None:
        """Change the record of its first quota behind the ledger's back."""
        stored: Any = await self.client.hget(keys.quotas(self.program), self.quota)
        quota = decode_quota(stored)
        change(quota)
        await self.client.hset(keys.quotas(self.program), self.quota, encode_quota(quota))

    async def sql(self, statement: str, *arguments: object) -> None:
        """Change rows of this program; exactly one, where it is no other kind of statement."""
        done = await self.database.execute(statement, *arguments)
        assert not done.startswith(("UPDATE", "INSERT", "DELETE")) or done.endswith(" 1"), done

    def exchange(self, number: int, call: str, outcome: int, **changes: Any) -> Exchange:
        at = time.time() * 1000
        members = {"reservation_id": self.id(number)} if call != "claim" else {"quota": self.quota, "places": 1}
        return Exchange(
            person=number,
            call=call,
            outcome=outcome,
            **{
                "sent_ms": at,
                "answered_ms": at,
                "key": f"key-{number}" if call == "claim" else "",
                **members,
                **changes,
            },
        )


Plant = Callable[[Run], Awaitable[None]]  # breaks one promise in a run


def terms(capacity: int) -> QuotaTerms:
    return open_terms(capacity=capacity, hold_ms=HOLD_MS, return_min_ms=60_000, return_max_ms=60_000, date="2030-12-01")


@asynccontextmanager
async def open_run(program: str, url: str, dsn: str) -> AsyncIterator[Run]:
    """A run that has just ended well, and everything that it left."""
    records = await Records.open(dsn, 2)
    await records.make_room(program)
    servers = Servers(url)
    connection = await asyncpg.connect(dsn)
    ledgers = Ledgers(Settings(redis_url=url, postgres_dsn=dsn), servers)
    run = Run(program, url, dsn, servers.client, connection, [])
    try:
        await carry_out(ledgers, run)
        entries = await ledgers.journal(program).read(None, EVENTS_MAX, 0)
        await records.record(program, None, entries, booking_code=lambda id_: f"CODE-{id_}")
        run.history = good_history(run)
        yield run
    finally:
        await servers.close()
        await connection.close()
        await records.close()


async def carry_out(ledgers: Ledgers, run: Run) -> None:
    owning = ledgers.connection(run.program)
    assert await owning.own(Position(epoch=0, seq=0), 1, 5.0) == "owned"
    await owning.drop()
    group = ledgers.group(run.program)
    group.start()

    async def accepted(command: Command, outcome: Outcome) -> Answer:
        answer = await group.submit(command)
        assert answer.outcome is outcome
        return answer

    await accepted(SetQuota(quota=run.quota, terms=terms(5)), Outcome.QUOTA_SET)
    await accepted(SetQuota(quota=run.quota.replace(".0800.", ".0900."), terms=terms(3)), Outcome.QUOTA_SET)
    for number in range(1, 5):
        claim = Claim(
            reservation_id=run.id(number), quota=run.quota, fingerprint="f", sealed="s", persons=(f"person-{number}",)
        )
        await accepted(claim, Outcome.HELD)
    for number in (1, 2, 4):
        await accepted(Confirm(reservation_id=run.id(number)), Outcome.CONFIRMED)
    await accepted(Cancel(reservation_id=run.id(4)), Outcome.CANCELLED)
    await accepted(opening_set(), Outcome.OPENING_SET)
    await accepted(Join(opening="p-1", ticket_id="t"), Outcome.JOINED)
    await accepted(Admit(opening="p-1", controller="c", lease_ms=1000), Outcome.ADVANCED)
    await group.close()


def good_history(run: Run) -> list[Exchange]:
    def held(number: int) -> dict[str, Any]:
        return {"id": run.id(number), "quota": run.quota, "places": 1, "manage_token": f"token-{number}"}

    def code(number: int) -> dict[str, Any]:
        return {"id": run.id(number), "booking_code": f"CODE-{run.id(number)}"}

    return [
        run.exchange(1, "claim", 503),
        *(run.exchange(number, "claim", 201, body=held(number)) for number in (1, 2, 3, 4)),
        run.exchange(1, "claim", 201, body=held(1), replayed=True),
        run.exchange(5, "claim", 409),
        run.exchange(1, "confirm", 200, body=code(1)),
        run.exchange(2, "confirm", 202, body={"id": run.id(2)}),
        run.exchange(4, "confirm", 200, body=code(4)),
        run.exchange(4, "cancel", 200),
    ]
