"""What ledger and database hold after a run, read past the service: the checker's evidence.

The ledger is read in one MULTI/EXEC at one seq, the database in one repeatable-read transaction after the recorder has
come to that seq. A ledger that keeps changing is read again, a bounded number of times.
"""

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

import asyncpg
import msgpack
import msgspec
import redis.asyncio as redis_asyncio

from reservasi.events import JournalEntry
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.entries import decode_entry
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.clients import open_client, text
from reservasi.ledger.wire import messages, stored_forms
from reservasi.ledger.wire.stored_forms import decode_timers
from reservasi.model import Opening, Position, Quota, State, join_offices

READS_MAX = 10  # of a ledger that changes while it is read
READ_PAUSE_S = 0.2
RECORDED_TIMEOUT_S = 60.0  # how long the recorder may take to come to the ledger's seq
RECORDED_PAUSE_S = 0.1
CALL_TIMEOUT_S = 10.0


class Moving(Exception):
    """The ledger never stood still: it can only be checked when nobody claims."""


class LedgerRecord(msgspec.Struct, frozen=True, kw_only=True):
    state: State
    quota: str
    deadline_ms: int
    held_seq: int
    seq: int
    persons: tuple[str, ...]

    @property
    def places(self) -> int:
        return len(self.persons)


class LedgerEvidence(msgspec.Struct, frozen=True, kw_only=True):
    position: Position
    quotas: dict[str, Quota]
    reservations: dict[str, LedgerRecord]
    persons: dict[str, str]  # person -> id of their live reservation
    timers: dict[str, dict[str, int]]  # quota -> member -> when
    openings: dict[str, "OpeningMark"]
    journal: list[JournalEntry] = []  # what the stream still has; the oldest of what is recorded is trimmed
    impossible: dict[str, str] = {}  # quotas whose record the ledger itself does not believe: what it says


class OpeningMark(msgspec.Struct, frozen=True, kw_only=True):
    """What is public of an opening and may differ nowhere."""

    version: int
    opens_at_ms: int
    offices: str  # joined
    commitment: str
    beacon_source: str
    beacon: str
    drawn: bool
    joined: int
    arrived: int
    admitted_through: int
    cancelled: bool

    @classmethod
    def of(cls, opening: Opening) -> "OpeningMark":
        terms = opening.terms
        values: dict[str, Any] = {
            "opens_at_ms": terms.opens_at_ms,
            "offices": join_offices(terms.offices),
            "commitment": terms.commitment,
            "beacon_source": terms.beacon_source,
        }
        rest = [name for name in cls.__struct_fields__ if name not in values]
        return cls(**values, **{name: getattr(opening, name) for name in rest})


class Row(msgspec.Struct, frozen=True, kw_only=True):
    reservation_id: str
    quota: str
    places: int
    state: str = "held"
    booking_code: str = ""


class Applicant(msgspec.Struct, frozen=True, kw_only=True):
    reservation_id: str
    person: str
    live: bool


class DatabaseEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the database holds of a program, in one transaction."""

    position: Position | None
    quotas: dict[str, tuple[int, int]]  # those in the ledger: id -> capacity, booked
    holds: list[Row]
    bookings: list[Row]
    applicants: list[Applicant]
    openings: dict[str, OpeningMark]
    journal: list[JournalEntry]
    dead_letters: list[str]  # what each is about and why
    retired: set[str] = set()  # quotas that have left the ledger


def whole_journal(ledger: LedgerEvidence, database: DatabaseEvidence) -> list[JournalEntry]:
    """All that is recorded, and behind it what the stream has beyond."""
    last = database.journal[-1].position if database.journal else Position(epoch=0, seq=0)
    beyond = [entry for entry in ledger.journal if (entry.epoch, entry.first_seq) > (last.epoch, last.seq)]
    return [*database.journal, *beyond]


async def programs_of(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT program FROM positions UNION SELECT id FROM programs ORDER BY 1")
    finally:
        await connection.close()
    return [row["program"] for row in rows]


async def read_ledger(redis_url: str, program: str) -> LedgerEvidence | None:
    """The program's ledger at one seq; None while it is fenced.

    Raises:
        Moving: it changed during each of `READS_MAX` reads.
    """
    client = open_client(redis_url)
    connection = LedgerConnection(redis_url, program, read_library())
    try:
        for _ in range(READS_MAX):
            snapshot = await connection.snapshot(CALL_TIMEOUT_S)
            if snapshot is None:
                return None
            evidence = await _read_hashes(client, program, snapshot)
            if evidence is not None:
                return evidence
            await asyncio.sleep(READ_PAUSE_S)
    finally:
        await connection.drop()
        await client.aclose()
    raise Moving(f"the ledger of {program} changed during each of {READS_MAX} reads")


def _contradiction(packed: bytes) -> str:
    """What a quota's record says that cannot be: more is taken than there is, or less than nothing; else ""."""
    try:
        held, confirmed, returning, *_ = stored_forms.QUOTA_HEAD.unpack_from(packed)
        capacity = stored_forms.unpack_list(packed[stored_forms.QUOTA_HEAD.size :])[0]
        if min(held, confirmed, returning) < 0 or held + confirmed + returning > capacity:
            return f"{held} held, {confirmed} confirmed and {returning} returning of capacity {capacity}"
    except (struct.error, ValueError, TypeError, IndexError):  # damaged beyond that
        return ""
    return ""


async def _read_hashes(client: redis_asyncio.Redis, program: str, snapshot: messages.Snapshot) -> LedgerEvidence | None:
    quotas = {quota.id: quota for quota in snapshot.quotas}
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.hget(keys.meta(program), "seq")
        pipeline.hgetall(keys.reservations(program))
        pipeline.hgetall(keys.persons(program))
        pipeline.hgetall(keys.names(program))
        pipeline.zrange(keys.timers(program), 0, -1)
        pipeline.xrange(keys.journal(program))
        pipeline.hgetall(keys.quotas(program))
        seq, reservations, persons, packed_names, timers, journal, stored_quotas = await pipeline.execute()
    if int(seq or 0) != snapshot.position.seq:
        return None
    names = {int(number): text(quota) for number, quota in packed_names.items()}
    return LedgerEvidence(
        position=snapshot.position,
        quotas=quotas,
        impossible={text(id_): words for id_, packed in stored_quotas.items() if (words := _contradiction(packed))},
        reservations={text(id_): _record(packed, names) for id_, packed in reservations.items()},
        persons={text(person): text(id_) for person, id_ in persons.items()},
        timers=decode_timers(timers, names),
        openings={opening.id: OpeningMark.of(opening) for opening in snapshot.openings},
        journal=[decode_entry(entry_id, fields) for entry_id, fields in journal],
    )


def _record(packed: bytes, names: Mapping[int, str]) -> LedgerRecord:
    """A packed reservation, in the order of R in `lua/shared.lua`."""
    state, number, _fingerprint, deadline_ms, held_seq, later, _reference, *persons = msgpack.unpackb(packed)
    return LedgerRecord(
        state=messages.STATES[state],
        quota=names.get(number, str(number)),
        deadline_ms=int(deadline_ms),
        held_seq=int(held_seq),
        seq=int(held_seq + later),
        persons=tuple(persons),
    )


async def read_database(dsn: str, program: str, until: Position, *, timeout_s: float | None = None) -> DatabaseEvidence:
    """The program's rows, once the recorder has come to `until` or its time for that has passed."""
    connection = await asyncpg.connect(dsn)
    try:
        await _await_recorded(connection, program, until, RECORDED_TIMEOUT_S if timeout_s is None else timeout_s)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _read_tables(connection, program)
    finally:
        await connection.close()


async def _await_recorded(
    connection: "asyncpg.Connection[Any]", program: str, until: Position, timeout_s: float
) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < deadline:
        position = await _position(connection, program)
        if (position.epoch, position.seq) >= (until.epoch, until.seq) if position else until.seq == 0:
            return
        await asyncio.sleep(RECORDED_PAUSE_S)


async def _position(connection: "asyncpg.Connection[Any]", program: str) -> Position | None:
    row = await connection.fetchrow("SELECT epoch, seq, chain FROM positions WHERE program = $1", program)
    return Position(**row) if row else None


async def _read_tables(connection: "asyncpg.Connection[Any]", program: str) -> DatabaseEvidence:
    async def rows(columns: str, table: str, order: str = "1") -> list[Any]:
        query = f"SELECT {columns} FROM {table} WHERE program = $1 ORDER BY {order}"  # noqa: S608  # words from below
        return await connection.fetch(query, program)

    quotas = await rows("id, capacity, booked, retired_at_ms", "quotas")
    letters = await rows("epoch, seq, reservation_id, error, outcome", "dead_letters", "epoch, seq")
    dead = [row for row in letters if row["outcome"] == "open"]  # a person, or a later release, has seen to the others
    journal = await rows("epoch, first_seq, last_seq, at_ms, chain, payload", "journal", "epoch, first_seq")
    state = "CASE WHEN retired_at_ms > 0 THEN 'retired' ELSE state END AS state"
    bookings = await rows(f"reservation_id, quota, places, {state}, booking_code", "bookings")
    marks = await rows(", ".join(("id", "retired_at_ms", *OpeningMark.__struct_fields__)), "openings")
    return DatabaseEvidence(
        position=await _position(connection, program),
        quotas={row["id"]: (row["capacity"], row["booked"]) for row in quotas if row["retired_at_ms"] == 0},
        retired={row["id"] for row in quotas if row["retired_at_ms"] > 0},
        holds=[Row(**row) for row in await rows("reservation_id, quota, places", "holds")],
        bookings=[Row(**row) for row in bookings],
        applicants=[Applicant(**row) for row in await rows("reservation_id, person, live", "applicants")],
        openings={
            row["id"]: OpeningMark(**{name: row[name] for name in OpeningMark.__struct_fields__})
            for row in marks
            if row["retired_at_ms"] == 0
        },
        journal=[_entry(row) for row in journal],
        dead_letters=[f"{row['epoch']}-{row['seq']} of {row['reservation_id']}: {row['error']}" for row in dead],
    )


def _entry(row: Any) -> JournalEntry:
    fields = {
        b"first": str(row["first_seq"]).encode(),
        b"at": str(row["at_ms"]).encode(),
        b"chain": row["chain"].encode(),
        b"events": row["payload"],
    }
    return decode_entry(f"{row['epoch']}-{row['last_seq']}".encode(), fields, envelopes=False)
