"""Runs a command for all programs: a failure is reported, and the others continue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec
import typer

from reservasi.cli.output import EXIT_FAILED, fail
from reservasi.errors import ReservasiError, described

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations

T = TypeVar("T")


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A program for which the command failed."""

    program: str
    error: str


async def program_by_program(
    programs: Iterable[str], work: Callable[[str], Awaitable[T]]
) -> tuple[list[T], list[Failed]]:
    """The results, and the failures."""
    done: list[T] = []
    failed: list[Failed] = []
    for program in programs:
        try:
            done.append(await work(program))
        except Exception as error:  # the stored data of a program may be damaged in any way
            failed.append(Failed(program=program, error=reason_of(error)))
    return done, failed


async def for_each(
    operations: Operations, program: str | None, work: Callable[[str], Awaitable[T]]
) -> tuple[list[T], list[Failed]]:
    """Do the work for one program, whose fault is raised, or for each of them."""
    if program is not None:
        return [await work((await operations.program(program)).id)], []
    programs = [each.id for each in await operations.records.programs()]
    if len(programs) == 1:
        return [await work(programs[0])], []
    return await program_by_program(programs, work)


def reason_of(error: Exception) -> str:
    """The reason of a failure as a message; for an unexpected error with its type."""
    words = str(error)
    return words if words and isinstance(error, ReservasiError) else described(error)


def rows_of(failed: Iterable[Failed]) -> list[dict[str, Any]]:
    """The failures as rows for JSON."""
    return [msgspec.to_builtins(each) for each in failed]


def end_with(failed: Iterable[Failed]) -> NoReturn:
    """Print the failures on standard error, and end the command."""
    for each in failed:
        fail(f"{each.program}: {each.error}", as_json=False)
    raise typer.Exit(EXIT_FAILED)
