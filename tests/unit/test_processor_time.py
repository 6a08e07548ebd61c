"""Processor time of a process and its descendants, some of which end while it is read."""

import os
import subprocess
import threading

from loadtest.stage.cores import busy_s, children, ran_s


def test_a_child_that_ends_while_we_look_counts_as_ended() -> None:
    ended = threading.Event()

    def come_and_go() -> None:
        try:
            for _ in range(100):
                subprocess.run(["/bin/true"], check=True)
        finally:
            ended.set()

    coming = threading.Thread(target=come_and_go)
    coming.start()
    while not ended.is_set():
        assert ran_s(os.getpid()) > 0
        assert busy_s(os.getpid()) > 0
    coming.join()


def test_a_process_that_has_ended_used_no_time_that_counts() -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    assert (children(process.pid), ran_s(process.pid), busy_s(process.pid)) == ([], 0, 0)
