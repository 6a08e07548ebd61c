"""Runs `reservasi api`: fronts under gunicorn.

Gunicorn owns the listening socket, restarts a process that dies, and lets a process finish its requests before it
stops. Each process serves the admin port, so that it answers while others are busy. At SIGHUP the settings are read
again (`reloading.py`) and the fronts replaced one by one, unless a new front could not start (`reload_check.py`).
"""

import os
import resource
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from reservasi import logs
from reservasi.admin import front_readiness, serve_admin
from reservasi.bootstrap.addresses import with_rights_of
from reservasi.bootstrap.commands import open_operations
from reservasi.bootstrap.fronts import open_front
from reservasi.bootstrap.safety import refuse_unusable
from reservasi.cli import ports
from reservasi.cli.invocation import run
from reservasi.cli.reload_check import refuse_reload
from reservasi.cli.reloading import Read, read_again
from reservasi.front.app import create_app
from reservasi.front.process.garbage_collector import set_aside_what_stays
from reservasi.front.process.place_gauges import place_gauges
from reservasi.front.process.rolling_reload import FrontProcess, OurLog, RollingArbiter
from reservasi.front.serving import create_runner
from reservasi.ledger.access import FRONT
from reservasi.logs import get_logger
from reservasi.metrics import forget_process
from reservasi.metrics_directory import VARIABLE as METRICS_DIRECTORY
from reservasi.process_metrics import Name
from reservasi.settings import Settings

IN_STEP_WAIT_S = 3.0
OTHER_FILES = 1024  # open files of a front in addition to its connections


class Fronts(BaseApplication):
    """Gunicorn with our settings in place of its own files and flags."""

    def __init__(self, settings: Settings, read: Read, admin: Sequence[socket.socket]) -> None:
        """`admin` are the sockets of the admin port, which the fronts inherit."""
        self._settings = settings
        self._admin = admin
        self._name: Name | None = None  # of a front's process in its metrics
        self._read = read
        super().__init__()

    def load_config(self) -> None:
        """Translate our settings to gunicorn's."""
        settings = self._settings
        values: dict[str, Any] = {
            "bind": ports.authority(settings.host, settings.port),
            "workers": settings.front_processes,
            "worker_class": FrontProcess,
            "backlog": settings.backlog,
            "graceful_timeout": settings.shutdown_timeout_s,
            "timeout": 60,
            "accesslog": None,
            "loglevel": "warning",
            "logger_class": OurLog,
            "proc_name": "reservasi-front",
            "child_exit": lambda _server, worker: forget_process(worker.pid),
            "control_socket_disable": True,
        }
        for name, value in values.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def reload(self) -> None:
        """Read the settings again, for the fronts that are started from now on.

        Raises:
            ConfigurationError: they cannot be used; the former ones stay.
        """
        running = self._settings
        wanted = read_again(running, self._read, lambda wanted: refuse_reload(running, wanted, FRONT))
        raise_open_files(wanted.connections_max)
        self._settings = wanted
        super().reload()

    def run(self) -> None:
        """Run the fronts until stopped; SIGHUP replaces them one by one."""
        RollingArbiter(self).run()

    def load(self) -> Any:
        """Create the application of a process; called once in each."""
        return self._make_app

    async def _make_app(self) -> Any:
        settings = self._settings
        logs.configure(settings.log_level, settings.log_format)
        self._name = Name.take_next(_metrics_directory(), "front")
        stack = AsyncExitStack()
        services = await stack.enter_async_context(open_front(settings))
        # A front whose views are not in step would only answer 503 while others can serve, so it waits; but not without
        # limit, since "recovering" is better than no answer.
        await services.availability.wait_ready(IN_STEP_WAIT_S)
        readiness = front_readiness(services.availability, services.catalogue)
        await stack.enter_async_context(
            serve_admin(
                readiness,
                settings.admin_host,
                settings.admin_port,
                sockets=self._admin,
                gauges=place_gauges(services.catalogue, services.availability),
            )
        )
        app = create_app(services)

        async def close(_app: object) -> None:
            await stack.aclose()

        app.on_cleanup.append(close)
        set_aside_what_stays()
        return create_runner(app, settings)


def _metrics_directory() -> Path:
    return Path(os.environ[METRICS_DIRECTORY])


def run_fronts(settings: Settings, read: Read) -> None:
    """Run the fronts until they are stopped."""
    raise_open_files(settings.connections_max)
    ports.refuse_same(settings, "port", "admin_port")
    admin = ports.take("admin_port", settings.admin_host, settings.admin_port)
    for each in ports.take("port", settings.host, settings.port):  # gunicorn would try five times, and log each attempt
        each.close()
    run(_refuse_what_no_front_can_use(settings))
    name = Name.take_next(_metrics_directory(), "gunicorn")  # kept until the process ends
    get_logger().debug("process_named", name=name.name if name else "")
    Fronts(settings, read, admin).run()


async def _refuse_what_no_front_can_use(settings: Settings) -> None:
    """Check stores, schema and key ring once before the fronts do, so that a fault is logged once."""
    async with open_operations(with_rights_of(FRONT, settings), wait_s=settings.start_timeout_s) as operations:
        await refuse_unusable(operations.settings, operations.servers)


def raise_open_files(connections_max: int) -> None:
    """Raise the limit of open files for this process and its children to the account's maximum: a connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < connections_max + OTHER_FILES:
        get_logger().warning("too_few_open_files", allowed=most, wanted=connections_max + OTHER_FILES)
