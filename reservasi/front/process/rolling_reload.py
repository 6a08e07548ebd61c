"""A rolling reload for gunicorn: a new front serves before an old one is stopped."""

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

from reservasi.errors import ConfigurationError, ReservasiError, described
from reservasi.logs import get_logger

LOOK_S = 0.05  # interval of checks while a front starts or ends
EXIT_FAILED = 1
RETRY_S = 1.0  # from a front that failed to start to the next attempt
NOTIFY_VARIABLE = "NOTIFY_SOCKET"  # the socket on which systemd expects readiness


class OurLog(Logger):
    """Writes gunicorn's lines in the format of ours."""

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
        self._serves = mmap.mmap(-1, 1)  # shared with the forked process

    @property
    def serves(self) -> bool:
        """Whether it accepts connections; called by the parent."""
        return self._serves[0] == 1

    def run(self) -> None:
        """Serve until stopped; a fault at the start is one log line, and its exit code tells the parent."""
        try:
            super().run()
        except ReservasiError as error:
            get_logger().error("front_not_started", reason=str(error))
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def notify(self) -> None:
        """Report that it lives; the first report comes when its sockets are open."""
        self._serves[0] = 1
        super().notify()


class RollingArbiter(Arbiter):
    """Starts and stops fronts one by one; one that cannot start does not stop those that serve."""

    WORKERS: ClassVar[dict[int, FrontProcess]] = {}  # type: ignore[assignment]  # the class that we configure

    def __init__(self, app: Any) -> None:
        self._old_age = 0  # fronts up to this age are replaced
        self._leaving: set[int] = set()
        self._not_before = 0.0
        self._announced = False
        super().__init__(app)

    def start(self) -> None:
        """Listen, without reporting readiness yet: a front must serve first."""
        socket = os.environ.pop(NOTIFY_VARIABLE, None)
        super().start()
        if socket is not None:
            os.environ[NOTIFY_VARIABLE] = socket

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Stop; a fault is exit 1, as for every command."""
        super().halt(reason, min(exit_status, EXIT_FAILED))

    def init_signals(self) -> None:
        """From here on SIGHUP replaces the fronts; until now it may have been blocked by our parent."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def reload(self) -> None:
        """Replace every front, with settings that are read again; if they are refused, nothing happens."""
        try:
            self.app.reload()
        except ConfigurationError as error:
            get_logger().error("settings_refused", reason=str(error))
            return
        except Exception as error:  # it would end this process, and all fronts with it
            get_logger().error("settings_refused", reason=described(error))
            return
        self.setup(self.app)
        self._old_age = self.worker_age

    def manage_workers(self) -> None:
        """Start missing fronts, then stop surplus ones, the oldest first; only fronts that serve are counted or
        stopped.
        """
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
        """Reap ended fronts; a front that could not start ends the service only if no other one serves."""
        while True:  # once for each failed front: gunicorn stops at each of them, and leaves it and the rest
            workers = dict(self.WORKERS)
            try:
                super().reap_workers()
                return
            except HaltServer:
                if not any(front.serves for front in self.WORKERS.values()):
                    raise
            get_logger().error("front_failed_to_start")  # the front has logged the reason itself
            self._not_before = time.monotonic() + RETRY_S
            for pid in workers.keys() - self.WORKERS.keys():
                workers[pid].tmp.close()
                self.cfg.child_exit(self, workers[pid])

    def wait_for_signals(self, timeout: float | None = 1.0) -> list[int]:
        """Check more often while a front starts or ends."""
        busy = self._leaving or any(not front.serves or front.age <= self._old_age for front in self.WORKERS.values())
        return super().wait_for_signals(LOOK_S if busy else timeout)
