"""Checks whether a new process could start, before a reload replaces a working one."""

import asyncio

from reservasi.bootstrap.addresses import with_rights_of
from reservasi.bootstrap.commands import open_operations
from reservasi.bootstrap.safety import refuse_unusable
from reservasi.cli.reloading import unexpected
from reservasi.errors import ConfigurationError, ReservasiError
from reservasi.settings import Settings

CHECK_TIMEOUT_S = 15.0


def refuse_reload(running: Settings, wanted: Settings, user: str) -> None:
    """Open stores and key ring with new settings and the rights of `user`, as a new process would.

    Blocks for at most `CHECK_TIMEOUT_S`, and runs its own event loop.

    Raises:
        ConfigurationError: a new process would not start, or would serve none of the programs.
    """
    try:
        asyncio.run(_open_stores(running, wanted, user))
    except ConfigurationError:
        raise
    except TimeoutError as error:
        raise ConfigurationError("the stores do not answer in time, so that no new process could start") from error
    except (ReservasiError, OSError) as error:
        raise ConfigurationError(f"a new process could not start: {error}") from error
    except Exception as error:  # it would end the current process, and all that serve
        raise unexpected(error) from error


async def _open_stores(running: Settings, wanted: Settings, user: str) -> None:
    async with asyncio.timeout(CHECK_TIMEOUT_S), open_operations(with_rights_of(user, wanted)) as operations:
        await refuse_unusable(operations.settings, operations.servers)
        programs = [program.id for program in await operations.records.programs()]
    if any(map(running.serves, programs)) and not any(map(wanted.serves, programs)):
        raise ConfigurationError(
            f"programs: {', '.join(wanted.programs)} matches none of the programs {', '.join(programs)}: "
            "nothing would be recorded"
        )
