"""The catalogue refreshes itself, whatever one program or one refresh does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from reservasi.catalogue import Catalogue
from reservasi.errors import ConfigurationError
from reservasi.programs import Program
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.sealing import Sealing, create_key_ring

SURABAYA = Path(__file__).parents[2] / "config" / "programs" / "surabaya.toml"
DEADLINE_S = 60
REFRESH_MS = 100


class Tables(Protocol):
    """What the database holds, past the code under test."""

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        """Run a statement."""


def program_named(name: str) -> Program:
    return msgspec.structs.replace(read_program(SURABAYA), id=name)


@asynccontextmanager
async def opened(records: Records, on_program: Callable[[str], None]) -> AsyncIterator[Catalogue]:
    catalogue = Catalogue(records, Sealing(create_key_ring()), refresh_ms=REFRESH_MS)
    await catalogue.open(on_program)
    try:
        yield catalogue
    finally:
        await catalogue.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # the database decides
            await asyncio.sleep(0.01)


async def test_a_program_that_cannot_be_served_keeps_nobody_else_from_it(records: Records) -> None:
    programs: list[str] = []

    def serve(program: str) -> None:
        programs.append(program)
        if program == "first":
            raise ConfigurationError("first cannot be served")

    for name in ("first", "second"):
        await records.save_program(program_named(name))
    async with opened(records, serve) as catalogue:
        assert programs == ["first", "second"]
        await records.save_program(program_named("third"))
        await until(lambda: "third" in programs)
        assert programs == ["first", "second", "third"]
        assert [program.id for program in catalogue.programs()] == ["first", "second", "third"]


async def test_a_program_that_was_imported_a_moment_ago_is_found_at_once(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.integration.test_catalogue.REFRESH_MS", 3_600_000)
    read, programs = 0, records.programs

    async def counted() -> Sequence[Program]:
        nonlocal read
        read += 1
        return await programs()

    monkeypatch.setattr(records, "programs", counted)
    followed: list[str] = []
    async with opened(records, followed.append) as catalogue:
        await records.save_program(program_named("first"))
        assert catalogue.program("first") is None
        results = await asyncio.gather(*(catalogue.look_up("first") for _ in range(50)))
        assert {program.id if program else "" for program in results} == {"first"}
        assert (followed, read) == (["first"], 2)  # once for all who asked, and once when it was opened
        assert await asyncio.gather(*(catalogue.look_up(f"nowhere-{at}") for at in range(50))) == [None] * 50
        assert read == 3
        for known_or_none in ("first", "", "Nowhere", "a" * 33):
            await catalogue.look_up(known_or_none)
        assert read == 3
        late = asyncio.create_task(catalogue.look_up("nowhere"))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):  # and waits for nothing once that is closed
        await late


async def test_a_program_that_fails_later_does_not_end_the_refreshing(records: Records) -> None:
    programs: list[str] = []

    def serve(program: str) -> None:
        programs.append(program)
        if program == "first":
            raise ZeroDivisionError

    async with opened(records, serve):
        for name in ("first", "second"):
            await records.save_program(program_named(name))
            await until(lambda expected=name: expected in programs)  # type: ignore[misc]


async def test_a_program_that_cannot_be_read_leaves_the_known_ones_and_is_tried_again(
    records: Records, tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    programs: list[str] = []
    await records.save_program(program_named("first"))
    async with opened(records, programs.append) as catalogue:
        await tables.rows("""INSERT INTO programs (id, spec) VALUES ('from-a-newer-version', '{"id": 1}')""")
        output = ""

        def is_said() -> bool:
            nonlocal output
            captured = capsys.readouterr()
            output += captured.out + captured.err
            return "catalogue_not_readable" in output

        await until(is_said)
        assert catalogue.program("first") is not None
        await records.save_program(program_named("second"))
        await tables.rows("DELETE FROM programs WHERE id = 'from-a-newer-version'")
        await until(lambda: programs == ["first", "second"])


async def test_an_unreadable_program_at_start_is_not_the_end(records: Records, tables: Tables) -> None:
    programs: list[str] = []
    await tables.rows("""INSERT INTO programs (id, spec) VALUES ('from-a-newer-version', '{"id": 1}')""")
    async with opened(records, programs.append) as catalogue:
        assert not catalogue.loaded
        await records.save_program(program_named("first"))
        await tables.rows("DELETE FROM programs WHERE id = 'from-a-newer-version'")
        await until(lambda: programs == ["first"])
        assert catalogue.loaded


async def test_a_program_that_is_removed_is_told_once_and_again_when_it_comes_back(
    records: Records, tables: Tables
) -> None:
    events: list[str] = []
    for name in ("first", "second"):
        await records.save_program(program_named(name))
    catalogue = Catalogue(records, Sealing(create_key_ring()), refresh_ms=REFRESH_MS)
    await catalogue.open(lambda name: events.append(f"+{name}"), lambda name: events.append(f"-{name}"))
    try:
        version = catalogue.version
        await tables.rows("DELETE FROM programs WHERE id = 'first'")
        await until(lambda: catalogue.program("first") is None)
        assert [program.id for program in catalogue.programs()] == ["second"]
        assert catalogue.version != version
        await records.save_program(program_named("first"))
        await until(lambda: catalogue.program("first") is not None)
        assert events == ["+first", "+second", "-first", "+first"]
    finally:
        await catalogue.close()
