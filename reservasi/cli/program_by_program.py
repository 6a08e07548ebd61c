"""Commands that go through all programs: one that fails is named, and the others go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec
import typer

from reservasi.cli.output import EXIT_FAILED, fail
from reservasi.errors import ReservasiError

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations

T = TypeVar("T")


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A program for which the command could not do its work."""

    program: str
    error: str


async def program_by_program(
    programs: Iterable[str], work: Callable[[str], Awaitable[T]]
) -> tuple[list[T], list[Failed]]:
    """What came of each program, and which failed."""
    done: list[T] = []
    failed: list[Failed] = []
    for program in programs:
        try:
            done.append(await work(program))
        except Exception as error:  # what is stored of one program may be anything, and the others do not wait for it
            failed.append(Failed(program=program, error=reason_of(error)))
    return done, failed


async def for_each(
    operations: Operations, program: str | None, work: Callable[[str], Awaitable[T]]
) -> tuple[list[T], list[Failed]]:
    """The work for one program, whose fault is the command's, or for each of them."""
    if program is not None:
        return [await work((await operations.program(program)).id)], []
    programs = [each.id for each in await operations.records.programs()]
    if len(programs) == 1:
        return [await work(programs[0])], []
    return await program_by_program(programs, work)


def reason_of(error: Exception) -> str:
    """Why something failed, for people; a fault that nobody foresaw with its type."""
    words = str(error)
    return words if words and isinstance(error, ReservasiError) else f"{type(error).__name__}: {words}".rstrip(": ")


def rows_of(failed: Iterable[Failed]) -> list[dict[str, Any]]:
    """Those that failed as rows among the others, for programs."""
    return [msgspec.to_builtins(each) for each in failed]


def end_with(failed: Iterable[Failed]) -> NoReturn:
    """Name those that failed on standard error, and end the command."""
    for each in failed:
        fail(f"{each.program}: {each.error}", as_json=False)
    raise typer.Exit(EXIT_FAILED)
