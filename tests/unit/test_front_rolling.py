"""The reaping of ended fronts, in a separate process, since it reaps every child."""

import subprocess
import sys
from types import SimpleNamespace

import asyncpg
import pytest
from structlog.testing import capture_logs

from reservasi.front.process.rolling_reload import RollingArbiter

BURIES = """
import os
from types import SimpleNamespace
from reservasi.front.process.rolling_reload import RollingArbiter

class Front:
    def __init__(self, serves):
        self.serves, self.closed, self.tmp = serves, False, self

    def close(self):
        self.closed = True

def front(code):
    pid = os.fork() or os._exit(code)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid, Front(False)

exited = []
arbiter = object.__new__(RollingArbiter)
log = SimpleNamespace(**dict.fromkeys(("debug", "info", "warning", "error", "critical"), lambda *_: None))
note_exit = lambda _arbiter, front: exited.append(front)
arbiter.__dict__.update(log=log, reexec_pid=0, dirty_arbiter_pid=0, cfg=SimpleNamespace(child_exit=note_exit))
failed = [front(arbiter.WORKER_BOOT_ERROR) for _ in range(3)]
ended = front(0)
serving = Front(True)
RollingArbiter.WORKERS = dict([*failed, ended, (1, serving)])
arbiter.reap_workers()
assert RollingArbiter.WORKERS == {1: serving}
assert all(each.closed and each in exited for _, each in [*failed, ended])
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("all buried")
"""


def test_fronts_that_fail_together_are_all_buried() -> None:
    done = subprocess.run([sys.executable, "-c", BURIES], capture_output=True, text=True, timeout=60, check=False)
    assert "all buried" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "error", [asyncpg.InsufficientPrivilegeError("no right\nat all"), KeyError("x"), OSError(5, "io")]
)
def test_a_reload_that_meets_an_unexpected_error_is_refused(error: Exception) -> None:
    def fail() -> None:
        raise error

    arbiter = object.__new__(RollingArbiter)
    arbiter.__dict__.update(app=SimpleNamespace(reload=fail), _old_age=0)
    with capture_logs() as logs:
        arbiter.reload()
    (line,) = logs
    assert (line["event"], line["log_level"], arbiter._old_age) == ("settings_refused", "error", 0)
    assert line["reason"].startswith(f"{type(error).__name__}: ")
    assert "\n" not in line["reason"]
