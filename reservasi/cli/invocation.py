"""The beginning of a command that uses the stores: settings, logging and the event loop.

Imported when a command is run: its help needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from reservasi import logs

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.settings import Settings

T = TypeVar("T")


def settings_of(**flags: object) -> Settings:
    """The settings of a command that logs nothing; errors as of `read_settings`."""
    from reservasi.cli.configuration import read_settings

    return read_settings(flags)


def configured(**flags: object) -> Settings:
    """The settings of a command, with logging configured; errors as of `read_settings`."""
    return _with_logging(settings_of(**flags))


def configured_service(**flags: object) -> Settings:
    """The settings of a service, which never uses the data of another one."""
    from reservasi.cli.configuration import read_settings

    return _with_logging(read_settings(flags, of_service=True))


def _with_logging(loaded: Settings) -> Settings:
    logs.configure(loaded.log_level, loaded.log_format)
    return loaded


def run_with_stores(settings: Settings, work: Callable[[Operations], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine with ledgers and records, which are opened for it."""
    from reservasi.bootstrap.commands import open_operations

    async def opened() -> T:
        async with open_operations(settings) as operations:
            return await work(operations)

    return run(opened())


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on an event loop of its own. Asyncio is imported here, since many commands need none."""
    import asyncio

    return asyncio.run(coroutine)
