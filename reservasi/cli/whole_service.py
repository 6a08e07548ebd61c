"""`reservasi up`: runs the whole service on one machine.

At SIGHUP it reads its settings again (`reloading.py` says which may change), replaces the fronts one by one, and lets
the worker finish its batch and restart; meanwhile confirmations wait, or get 202 and are recorded later.
"""

import asyncio
import datetime as dt
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import typer

from reservasi.bootstrap.addresses import postgres_dsn, redis_url
from reservasi.bootstrap.commands import Operations, open_operations
from reservasi.bootstrap.safety import LOOK_TIMEOUT_S, durability
from reservasi.cli import ports
from reservasi.cli.demo import STAFF_KEY_FILE, Demo
from reservasi.cli.invocation import configured_service, run
from reservasi.cli.output import EXIT_FAILED, fail, masked, out, print_json, warn
from reservasi.cli.reload_check import refuse_reload
from reservasi.cli.reloading import HANDED_VARIABLE, Read, hand_out, handed_path, read_again, refused, unexpected
from reservasi.cli.running import announced
from reservasi.cli.steps import Steps
from reservasi.embedded import EmbeddedPostgres, EmbeddedValkey, Places, occupied
from reservasi.embedded.predecessors import Left, described, processes_lock
from reservasi.errors import ConfigurationError, EmbeddedServerError, LedgerUnreachable
from reservasi.front.process.front_probe import wait_ready
from reservasi.ledger.access import WORKER as WORKER_RIGHTS
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.metrics_directory import VARIABLE as METRICS_DIRECTORY
from reservasi.records import upgrades
from reservasi.settings import Settings, load
from reservasi.supervisor import Role, Supervisor

FRONTS = "fronts"
WORKER = "worker"
STOP_MARGIN_S = 5  # time that a process may take to stop in addition to its requests


def start(flags: dict[str, object], demo_opening_in_s: int | None, *, as_json: bool) -> None:
    """Run the whole service with these flags until it is stopped; with the demo if seconds are given."""
    settings = configured_service(**flags)
    shown = None if demo_opening_in_s is None else Demo.read(demo_opening_in_s)
    embedded = not (settings.redis_url and settings.postgres_dsn)
    wait_s = settings.shutdown_timeout_s + STOP_MARGIN_S
    try:
        with (
            occupied(settings.data_dir, run_as=settings.run_as if embedded else None),
            processes_lock(settings.data_dir, wait_s, partial(_say_whom_we_wait_for, wait_s)) as lock,
        ):
            may_move = not ports.is_chosen(settings)
            another = ports.instead_of_taken(settings)
            if another is not None:
                flags = {**flags, "worker_admin_port": another}
                settings = configured_service(**flags)
            ports.refuse_taken(settings)
            ours = _Processes(settings, partial(load, **flags), may_move_port=may_move, lock=lock)
            run(_up(ours, shown, as_json=as_json))
    except EmbeddedServerError as error:
        fail(str(error), as_json=as_json)
        raise typer.Exit(EXIT_FAILED) from error


def _say_whom_we_wait_for(wait_s: float, left: list[Left]) -> None:
    who = f" {described(left)}" if left else ""
    warn(f"waiting at most {wait_s:g} s for processes of an earlier `reservasi up`, which was killed, to end:{who}")


class _Processes:
    """The worker and the fronts, and their settings."""

    def __init__(self, settings: Settings, read: Read, *, may_move_port: bool = False, lock: int | None = None) -> None:
        """`may_move_port`: the worker's admin port is not configured, so that another one may be used.

        `lock` is a file descriptor that all of them inherit.
        """
        self.settings = settings
        self.roles = roles(settings, _environment(settings))
        for role in self.roles:
            role.keeps_open = () if lock is None else (lock,)
        self._read = read
        self.may_move_port = may_move_port
        self._has_moved = False
        self._asked = False  # whether a reload is requested
        self._renewal: asyncio.Task[None] | None = None
        if may_move_port:
            self.roles[0].before_start = self._move_port

    def _move_port(self) -> None:
        """Give the worker another admin port if its own has been taken.

        It may still be taken before the worker starts: then the worker ends with a line that names the port, and is
        restarted within the supervisor's limits, each time after this check.
        """
        another = ports.another_if_taken(self.settings)
        if another is None:
            return
        warn(f"worker_admin_port: {self.settings.worker_admin_port} is in use now; the worker uses {another}")
        self.settings = self.settings.model_copy(update={"worker_admin_port": another})
        self._has_moved = True
        hand_out(self.settings)

    def _read_but_port(self) -> Settings:
        """Read the settings again, keeping the worker's current port."""
        current = self._read()
        if not self._has_moved:
            return current
        return current.model_copy(update={"worker_admin_port": self.settings.worker_admin_port})

    def prepare(self) -> None:
        """Create what the processes need when they start."""
        metrics = _metrics_dir(self.settings)
        shutil.rmtree(metrics, ignore_errors=True)  # counters of former processes
        metrics.mkdir(mode=0o700)
        hand_out(self.settings)

    def renew(self, supervisor: Supervisor) -> None:
        """Read the settings again and replace the processes, or log why not, in the background.

        A request during a reload causes another one afterwards.
        """
        self._asked = True
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew_as_asked(supervisor))

    async def end_renewal(self) -> None:
        """Stop replacing processes."""
        if self._renewal is not None:
            await end_tasks([self._renewal])

    async def _renew_as_asked(self, supervisor: Supervisor) -> None:
        while self._asked:
            self._asked = False
            await self._renew(supervisor)

    async def _renew(self, supervisor: Supervisor) -> None:
        running = self.settings
        try:
            wanted = await asyncio.to_thread(
                read_again, running, self._read_but_port, lambda wanted: refuse_reload(running, wanted, WORKER_RIGHTS)
            )
            # The port may have changed meanwhile, which would otherwise need a restart.
            settings = wanted.model_copy(update={"worker_admin_port": self.settings.worker_admin_port})
            hand_out(settings)
            self.settings = settings
        except ConfigurationError as error:
            refused(error)
            return
        except Exception as error:  # nothing awaits this task
            refused(unexpected(error))
            return
        for role in self.roles:
            role.stop_timeout_s = self.settings.shutdown_timeout_s + STOP_MARGIN_S
        supervisor.pass_on(FRONTS, signal.SIGHUP)
        supervisor.renew(WORKER)


async def _up(processes: _Processes, demo: Demo | None, *, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for received in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(received, stop.set)
    in_terminal = _has_terminal()
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(Supervisor())
        stack.push_async_callback(processes.end_renewal)

        def hang_up() -> None:
            """Reload; or stop, if the terminal was closed."""
            if in_terminal and not _has_terminal():
                stop.set()
            else:
                processes.renew(supervisor)

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        work = asyncio.create_task(_start(supervisor, stack, processes, demo, as_json=as_json))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            return
        work.result()
        await supervisor.run_until(stop)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def _start(
    supervisor: Supervisor, stack: AsyncExitStack, processes: _Processes, demo: Demo | None, *, as_json: bool
) -> None:
    """Start the stores, the schema and the processes, in this order; load the demo's programs meanwhile."""
    settings = processes.settings
    steps = Steps(as_lines=settings.log_format == "json")
    await _start_stores(supervisor, settings, steps)
    steps.begin("migrations of the records' schema")
    await upgrades.upgrade(postgres_dsn(settings))
    async with open_operations(settings) as operations:  # creates the key ring of a new deployment
        await _warn_of_what_may_be_lost(operations)
        if demo:
            steps.begin(f"the demo's programs and quotas: {', '.join(each.id for each in demo.programs)}")
        quiet = as_json or settings.log_format == "json"
        fenced = await demo.load(operations, quiet=quiet) if demo else []
    ports.refuse_taken(processes.settings, movable=processes.may_move_port)  # stores and demo took time
    processes.prepare()
    stack.enter_context(announced(Places.of(settings.data_dir).data_dir, _url(settings)))
    steps.begin(f"worker, and {settings.front_processes} fronts")
    for role in processes.roles:
        await supervisor.start(role)
    # A fenced ledger stays so until it is recovered: waiting for it would only delay the addresses.
    ready = await wait_ready(
        settings.admin_host, settings.admin_port, settings.start_timeout_s, any_answer=bool(fenced)
    )
    steps.begin("ready" if ready else "recovering")
    _announce(processes.settings, ready=ready, as_json=as_json)


async def _warn_of_what_may_be_lost(operations: Operations) -> None:
    """Warn about settings of the ledger's servers that may lose promises; the service starts anyway."""
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            risks = await durability(operations.servers)
    except (LedgerUnreachable, TimeoutError) as error:
        warn(f"{str(error) or 'the ledger does not answer in time'}; claims are answered 503 until it does")
        return
    for server, check in risks:
        warn(f"promises may be lost{f' at {server}' if server else ''}: {check.said}")


def roles(settings: Settings, environment: Mapping[str, str]) -> tuple[Role, Role]:
    """The worker and the fronts, in the order of their start; only fronts share their counters."""
    alone = {name: value for name, value in environment.items() if name != METRICS_DIRECTORY}
    command = (sys.executable, "-m", "reservasi.cli.serve")
    stop_timeout_s = settings.shutdown_timeout_s + STOP_MARGIN_S
    return (
        Role(name=WORKER, argv=(*command, "worker"), env=alone, stop_timeout_s=stop_timeout_s),
        Role(name=FRONTS, argv=(*command, "api"), env=environment, stop_timeout_s=stop_timeout_s),
    )


async def _start_stores(supervisor: Supervisor, settings: Settings, steps: Steps) -> None:
    stores: list[Any] = []
    if not settings.redis_url:
        stores.append(EmbeddedValkey(settings.data_dir, settings.start_timeout_s, run_as=settings.run_as))
    if not settings.postgres_dsn:
        stores.append(EmbeddedPostgres(settings.data_dir, settings.start_timeout_s, settings.run_as))
    for store in stores:
        steps.begin(store.name)
        await supervisor.start(store)


def _url(settings: Settings) -> str:
    return f"http://{ports.authority(settings.host, settings.port)}"


def _environment(settings: Settings) -> Mapping[str, str]:
    """The environment of the children: where their settings are, which are ours, and where they count."""
    return {METRICS_DIRECTORY: str(_metrics_dir(settings)), HANDED_VARIABLE: str(handed_path(settings))}


def _metrics_dir(settings: Settings) -> Path:
    return Places.of(settings.data_dir).data_dir / "metrics"


def _announce(settings: Settings, *, ready: bool, as_json: bool) -> None:
    key_file = settings.data_dir / STAFF_KEY_FILE
    api, admin = _url(settings), f"http://{ports.authority(settings.admin_host, settings.admin_port)}"
    worker_admin = f"http://{ports.authority(settings.admin_host, settings.worker_admin_port)}"
    addresses = {
        "api": api,
        "openings": f"{api}/openings",
        "api_document": f"{api}/openapi.json",
        "admin": admin,
        "metrics": f"{admin}/metrics",
        "worker_admin": worker_admin,
        "worker_metrics": f"{worker_admin}/metrics",
        "redis": masked(redis_url(settings)),
        "postgres": masked(postgres_dsn(settings)),
        "data_dir": str(settings.data_dir),
    }
    if key_file.exists():
        addresses["staff_api_key"] = str(key_file)
    if as_json or settings.log_format == "json":
        print_json({"event": "up", "level": "info", "timestamp": dt.datetime.now(dt.UTC), "ready": ready, **addresses})
        return
    if ready:
        out.print("[bold green]reservasi is up[/]  (Ctrl-C stops everything)")
    else:
        out.print("[bold yellow]reservasi is recovering[/]: it sells nothing yet; see reservasi doctor")
    for name, address in addresses.items():
        out.print(f"  [dim]{name:<15}[/] {address}")
