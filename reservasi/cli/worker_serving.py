"""Runs `reservasi worker`.

At SIGTERM, SIGINT and SIGHUP it ends once its batch is recorded. After SIGHUP its supervisor starts it again with the
settings read anew; it goes on if a new worker could not start (`reload_check.py`).
"""

import asyncio
import signal

from reservasi.admin import serve_admin, worker_readiness
from reservasi.bootstrap.worker import open_worker
from reservasi.catalogue import Catalogue
from reservasi.cli import ports
from reservasi.cli.invocation import run
from reservasi.cli.reload_check import refuse_reload
from reservasi.cli.reloading import Read, look_again, refused, unexpected
from reservasi.errors import ConfigurationError
from reservasi.health import Health
from reservasi.ledger.access import WORKER
from reservasi.settings import Settings


def run_worker(settings: Settings, read: Read) -> None:
    """Run a worker until it is stopped."""
    run(_work(settings, read))


async def _work(settings: Settings, read: Read) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for received in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(received, stop.set)
    reloading: set[asyncio.Task[None]] = set()

    def hang_up() -> None:
        if not reloading:
            task = loop.create_task(_end_for_reload(settings, read, stop))
            reloading.add(task)
            task.add_done_callback(reloading.discard)

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    health = Health()
    catalogue: Catalogue | None = None
    readiness = worker_readiness(health, lambda: catalogue)
    admin = ports.take("worker_admin_port", settings.admin_host, settings.worker_admin_port)
    async with (
        serve_admin(readiness, settings.admin_host, settings.worker_admin_port, sockets=admin),
        open_worker(settings, health) as running,
    ):
        catalogue = running.catalogue
        await stop.wait()


async def _end_for_reload(settings: Settings, read: Read, stop: asyncio.Event) -> None:
    """End, so that the supervisor starts a new worker; or continue if that one could not start."""
    try:
        await asyncio.to_thread(lambda: refuse_reload(settings, look_again(read), WORKER))
    except ConfigurationError as error:
        refused(error)
    except Exception as error:  # nothing awaits this task
        refused(unexpected(error))
    else:
        stop.set()
