"""Gunicorn's reload, made rolling: a new front serves before an old one is told to end."""

import mmap
import os
import signal
import sys
import time
from typing import Any, ClassVar

from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger
from gunicorn.systemd import sd_notify

from reservasi.errors import ConfigurationError, ReservasiError
from reservasi.logs import get_logger

LOOK_S = 0.05  # how often the fronts are looked at while one of them starts or ends
EXIT_FAILED = 1
RETRY_S = 1.0  # from a front that failed to start to the next try
NOTIFY_VARIABLE = "NOTIFY_SOCKET"  # where systemd wants to hear that the service is ready


class OurLog(Logger):
    """Gunicorn's lines among ours, in the format that the settings name."""

    def setup(self, cfg: Any) -> None:
        """Leave the lines to the handler of `reservasi.logs`."""
        super().setup(cfg)
        for each in (self.error_log, self.access_log):
            each.handlers.clear()
            each.propagate = True


class FrontProcess(GunicornUVLoopWebWorker):
    """A front that tells its parent once it accepts connections."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._told = mmap.mmap(-1, 1)  # shared with the process that is forked from here

    @property
    def serves(self) -> bool:
        """Whether it accepts connections; asked by the parent."""
        return self._told[0] == 1

    def run(self) -> None:
        """Serve until told to stop; a fault that keeps it from starting is one line, and its parent knows the code."""
        try:
            super().run()
        except ReservasiError as error:
            get_logger().error("front_not_started", reason=str(error))
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def notify(self) -> None:
        """Say that it lives, which it does for the first time when its sockets are open."""
        self._told[0] = 1
        super().notify()


class RollingArbiter(Arbiter):
    """Starts fronts and ends them one by one; one that cannot start does not end those that serve."""

    WORKERS: ClassVar[dict[int, FrontProcess]] = {}  # type: ignore[assignment]  # the class that we configure

    def __init__(self, app: Any) -> None:
        self._old_age = 0  # fronts up to this age are to be replaced
        self._leaving: set[int] = set()
        self._not_before = 0.0
        self._announced = False
        super().__init__(app)

    def start(self) -> None:
        """Listen, without saying yet that we are ready: a front must serve first."""
        socket = os.environ.pop(NOTIFY_VARIABLE, None)
        super().start()
        if socket is not None:
            os.environ[NOTIFY_VARIABLE] = socket

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Stop; a fault is exit 1, as for every command."""
        super().halt(reason, min(exit_status, EXIT_FAILED))

    def init_signals(self) -> None:
        """From here on SIGHUP replaces the fronts; whoever started us may have held it back until now."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def reload(self) -> None:
        """Replace every front, under settings that are read again; when they are refused, nothing happens."""
        try:
            self.app.reload()
        except ConfigurationError as error:
            get_logger().error("settings_refused", reason=str(error))
            return
        except Exception as error:  # it would end this process, and all fronts with it
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            get_logger().error("settings_refused", reason=reason)
            return
        self.setup(self.app)
        self._old_age = self.worker_age

    def manage_workers(self) -> None:
        """Start what lacks, then end what is too many, the oldest first; only what serves is counted or ended."""
        self._leaving &= self.WORKERS.keys()
        staying = {pid: front for pid, front in self.WORKERS.items() if pid not in self._leaving}
        starting = [pid for pid, front in staying.items() if not front.serves]
        old = [pid for pid, front in staying.items() if front.age <= self._old_age]
        lacking = self.num_workers - len(staying)
        if lacking <= 0 and old and not starting and not self._leaving:
            lacking = 1
        if lacking > 0 and time.monotonic() >= self._not_before:
            for _ in range(lacking):
                self.spawn_worker()
        serving = sorted((front.age, pid) for pid, front in staying.items() if front.serves)
        if not self._announced and len(serving) >= self.num_workers:
            self._announced = True
            sd_notify("READY=1\nSTATUS=all fronts serve", self.log)  # type: ignore[arg-type]  # set up long ago
        for _, pid in serving[: max(0, len(serving) - self.num_workers)]:
            self._leaving.add(pid)
            self.kill_worker(pid, signal.SIGTERM)

    def reap_workers(self) -> None:
        """Bury who ended; that a front could not start ends the service only where no other one serves."""
        while True:  # as often as fronts failed: gunicorn stops at each of them, and leaves it and the rest unburied
            known = dict(self.WORKERS)
            try:
                super().reap_workers()
                return
            except HaltServer:
                if not any(front.serves for front in self.WORKERS.values()):
                    raise
            get_logger().error("front_failed_to_start")  # it has told why itself
            self._not_before = time.monotonic() + RETRY_S
            for pid in known.keys() - self.WORKERS.keys():
                known[pid].tmp.close()
                self.cfg.child_exit(self, known[pid])

    def wait_for_signals(self, timeout: float | None = 1.0) -> list[int]:
        """Look more often while a front starts or ends."""
        busy = self._leaving or any(not front.serves or front.age <= self._old_age for front in self.WORKERS.values())
        return super().wait_for_signals(LOOK_S if busy else timeout)
