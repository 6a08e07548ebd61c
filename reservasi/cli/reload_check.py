"""What a process that starts now would refuse, looked at before a reload replaces one that works."""

import asyncio

from reservasi.bootstrap.addresses import with_rights_of
from reservasi.bootstrap.commands import open_operations
from reservasi.bootstrap.safety import refuse_unusable
from reservasi.cli.reloading import unexpected
from reservasi.errors import ConfigurationError, ReservasiError
from reservasi.settings import Settings

CHECK_TIMEOUT_S = 15.0


def refuse_reload(running: Settings, found: Settings, user: str) -> None:
    """Open stores and key ring under the settings found, with the rights of `user`, as a new process would.

    Blocks for at most `CHECK_TIMEOUT_S`, and runs an event loop of its own.

    Raises:
        ConfigurationError: a new process would not start, or would serve none of the programs.
    """
    try:
        asyncio.run(_look(running, found, user))
    except ConfigurationError:
        raise
    except TimeoutError as error:
        raise ConfigurationError("the stores do not answer in time, so that no new process could start") from error
    except (ReservasiError, OSError) as error:
        raise ConfigurationError(f"a new process could not start: {error}") from error
    except Exception as error:  # it would end the process that looks, and with it all that serve
        raise unexpected(error) from error


async def _look(running: Settings, found: Settings, user: str) -> None:
    async with asyncio.timeout(CHECK_TIMEOUT_S), open_operations(with_rights_of(user, found)) as operations:
        await refuse_unusable(operations.settings, operations.servers)
        programs = [program.id for program in await operations.records.programs()]
    if any(map(running.serves, programs)) and not any(map(found.serves, programs)):
        raise ConfigurationError(
            f"programs: {', '.join(found.programs)} fits none of the programs, which are {', '.join(programs)}: "
            "nothing would be recorded"
        )
