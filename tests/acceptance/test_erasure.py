"""`reservasi person erase`: a person's data is gone, and the log still verifies."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import redis.asyncio as redis

from reservasi.events import JournalEntry
from reservasi.ledger.journal.stream import START, check_follows
from reservasi.ledger.topology.clients import text
from reservasi.model import Position
from tests.personal import stored

pytestmark = pytest.mark.asyncio(loop_scope="session")


def erase(stack: Any, nik: str, *arguments: str, code: int = 0) -> Any:
    settings = stack.worker.settings
    stores = (f"--redis-url={settings.redis_url}", f"--postgres-dsn={settings.postgres_dsn}")
    where = (f"--data-dir={settings.data_dir}", *stores, "--json")
    command = [sys.executable, "-m", "reservasi.cli", "person", "erase", "--nik-file=-", *where, *arguments]
    done = subprocess.run(command, input=f"{nik}\n", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    assert nik not in done.stdout + done.stderr
    return msgspec.json.decode(done.stdout)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\xef\xbb\xbf6571 0101 0190 0001\r\n", ""),
        (b"9601010101900001", ""),
        ("\ufeff5471010101900001".encode("utf-16-le"), "is saved as UTF-16"),
        (b"9971010101900001", "is not a NIK"),
        (b"\xe96571010101900001", "is not UTF-8"),
        (b"", "is not a NIK"),
    ],
)
async def test_a_file_with_a_nik_as_people_save_it(stack: Any, tmp_path: Path, content: bytes, error: str) -> None:
    settings, path = stack.worker.settings, tmp_path / "nik.txt"
    path.write_bytes(content)
    stores = (f"--redis-url={settings.redis_url}", f"--postgres-dsn={settings.postgres_dsn}")
    where = (f"--data-dir={settings.data_dir}", *stores, f"--program={stack.program}")
    command = [sys.executable, "-m", "reservasi.cli", "person", "erase", f"--nik-file={path}", *where]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == (error == ""), done.stderr + done.stdout
    assert error in done.stderr


async def confirmed(stack: Any, quota: str, applicants: int = 1) -> tuple[dict[str, Any], list[str]]:
    body = stack.body(quota, applicants)
    held: dict[str, Any] = (await stack.claim(body)).json
    assert (await stack.managed("POST", held, "/confirm")).status == 200
    return held, [applicant["nik"] for applicant in body["applicants"]]


async def cancelled(stack: Any, held: dict[str, Any]) -> None:
    assert (await stack.managed("POST", held, "/cancel")).status == 200

    async def recorded() -> bool:
        return bool((await stack.worker.records.booking(held["id"])).state == "cancelled")

    await stack.eventually(recorded)


async def envelope(stack: Any, held: dict[str, Any]) -> str:
    return str((await stack.worker.records.booking(held["id"])).sealed)


async def journal_rows(stack: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack.worker.settings.postgres_dsn)
    try:
        query = "SELECT * FROM journal WHERE program = $1 ORDER BY epoch, first_seq"
        return await connection.fetch(query, stack.program)
    finally:
        await connection.close()


def files_below(directory: Path) -> dict[str, bytes]:
    """What the server's files hold; one that it replaces meanwhile is not there."""
    files = {}
    for file in directory.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):
            files[str(file)] = file.read_bytes()
    return files


async def everywhere(stack: Any) -> dict[str, bytes]:
    """All that the stores have of the program now, the append-only files as they lie on the disk, and the journal."""
    async with redis.Redis.from_url(stack.worker.settings.redis_url) as admin:
        contents = await stored(admin, stack.program)
        (directory,) = (Path(text(each or "")) for each in (await admin.config_get("dir")).values())
    contents |= files_below(directory)
    connection = await asyncpg.connect(stack.worker.settings.postgres_dsn)
    try:
        for table in ("bookings", "holds", "dead_letters", "applicants"):
            rows = await connection.fetch(f"SELECT t::text FROM {table} AS t")
            contents[f"table {table}"] = "\n".join(row[0] for row in rows).encode()
    finally:
        await connection.close()
    contents["table journal"] = b"\n".join(row["payload"] for row in await journal_rows(stack))
    return contents


async def assert_chained(stack: Any) -> int:
    position = START
    rows = await journal_rows(stack)
    for row in rows:
        entry = JournalEntry(
            epoch=row["epoch"],
            first_seq=row["first_seq"],
            at_ms=row["at_ms"],
            chain=row["chain"],
            payload=row["payload"],
            events=(),
        )
        check_follows(position, entry)
        position = Position(epoch=row["epoch"], seq=row["last_seq"], chain=row["chain"])
    return len(rows)


async def test_what_has_ended_is_erased_and_the_chain_still_verifies(stack: Any) -> None:
    quota = await stack.quota()
    held, (nik, companion) = await confirmed(stack, quota, 2)
    other, _ = await confirmed(stack, quota)
    await cancelled(stack, held)
    sealed, of_other = await envelope(stack, held), await envelope(stack, other)
    before = {place for place, content in (await everywhere(stack)).items() if sealed.encode() in content}
    assert "table bookings" in before
    assert "table journal" not in before, "the journal has the hash alone"
    assert any(place.startswith("key ") for place in before)

    done = erase(stack, nik)
    assert (done["erased"], done["live"], done["replicas_to_rewrite"]) == (1, [], [])

    async def gone() -> bool:
        return all(sealed.encode() not in content for content in (await everywhere(stack)).values())

    await stack.eventually(gone)
    assert await envelope(stack, held) == ""
    assert await envelope(stack, other) == of_other
    assert b"Siti Aminah" in stack.worker.sealing.open(other["id"], of_other)
    assert await assert_chained(stack) > 3
    assert erase(stack, nik)["erased"] == erase(stack, companion)["erased"] == 0
    # Everything goes on: fronts follow the trimmed journal, the person may claim again.
    again, _ = await confirmed(stack, await stack.quota())
    assert (await stack.managed("GET", again)).status == 200
    body = stack.body(quota)
    body["applicants"][0]["nik"] = nik
    assert (await stack.claim(body)).status == 201


async def test_a_live_reservation_keeps_its_data_and_is_named(stack: Any) -> None:
    held, (nik,) = await confirmed(stack, await stack.quota())
    done = erase(stack, nik, code=1)
    assert (done["erased"], done["live"]) == (0, [held["id"]])
    assert b"Siti Aminah" in stack.worker.sealing.open(held["id"], await envelope(stack, held))
    await cancelled(stack, held)
    assert erase(stack, nik, f"--program={stack.program}")["erased"] == 1


async def test_a_stranger_has_nothing_and_no_nik_is_no_nik(stack: Any) -> None:
    assert erase(stack, stack.nik())["erased"] == 0
    assert "not a NIK" in erase(stack, "357801010790999", code=1)["error"]
    assert "no program" in erase(stack, stack.nik(), "--program=nowhere", code=1)["error"]


async def test_a_dead_letter_is_erased_too(stack: Any) -> None:
    nik = stack.nik()
    person = stack.worker.sealing.person(stack.program, nik)
    event = {"kind": "Held", "sealed": "k1.envelope", "persons": [person], "reservation_id": "r\x00"}
    connection = await asyncpg.connect(stack.worker.settings.postgres_dsn)
    try:
        insert = "INSERT INTO dead_letters (program, epoch, seq, event, error) VALUES ($1, 1, -1, $2, 'planted')"
        await connection.execute(insert, stack.program, msgspec.json.encode(event).decode())
        assert erase(stack, nik)["erased"] == 1
        left = await connection.fetchval("SELECT event::text FROM dead_letters WHERE seq = -1")
        assert msgspec.json.decode(left) == {**event, "sealed": ""}
    finally:
        await connection.execute("DELETE FROM dead_letters WHERE seq = -1")
        await connection.close()
