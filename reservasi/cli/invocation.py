"""What a command that works with the stores begins with: the settings, logging after them, and the event loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from reservasi import logs
from reservasi.cli.configuration import read_settings
from reservasi.settings import Settings

T = TypeVar("T")


def configured(**flags: object) -> Settings:
    """The settings of a command under these flags, with logging set up after them; errors as of `read_settings`."""
    return _with_logging(read_settings(flags))


def configured_service(**flags: object) -> Settings:
    """The same for a service, which never takes over the data of another one."""
    return _with_logging(read_settings(flags, of_service=True))


def _with_logging(loaded: Settings) -> Settings:
    logs.configure(loaded.log_level, loaded.log_format)
    return loaded


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine."""
    return asyncio.run(coroutine)
