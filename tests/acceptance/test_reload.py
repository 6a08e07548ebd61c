"""Fronts are replaced one by one at SIGHUP, without a failed request, and one that is killed is replaced."""

import http.client
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.program import PROGRAM
from loadtest.service import Part, Service, running_service, wait_for

FRONTS = 2
WAIT_S = 30.0


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def reading(service: Service, answers: list[int], faults: list[str]) -> Iterator[None]:
    """Read the availability over kept connections, without a pause and without a second try."""
    stop = threading.Event()

    def read() -> None:
        connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=10)
        while not stop.is_set():
            try:
                connection.request("GET", f"/v1/availability?program={PROGRAM}")
                with connection.getresponse() as response:
                    response.read()
                    answers.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                faults.append(repr(error))
                connection.close()
        connection.close()

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_fronts_are_replaced_one_by_one_and_every_request_is_answered() -> None:
    answers: list[int] = []
    faults: list[str] = []
    with running_service(quotas=1, places=10, processes=FRONTS) as service:
        with reading(service, answers, faults):
            for told in ("fronts", "fronts", "up"):
                before = set(service.pids(Part.FRONT))
                fronts = parent_of(min(before))
                os.kill(parent_of(fronts) if told == "up" else fronts, signal.SIGHUP)
                wait_for(lambda before=before: replaced(service, before), WAIT_S, "not replaced")  # type: ignore[misc]
        service.kill_and_wait(Part.FRONT)
        wait_for(lambda: len(service.pids(Part.FRONT)) == FRONTS or None, WAIT_S, "the killed front is missed")
    assert not faults
    assert set(answers) == {200}


def replaced(service: Service, before: set[int]) -> bool | None:
    now = service.pids(Part.FRONT)
    assert len(now) >= FRONTS
    return (len(now) == FRONTS and not before & set(now)) or None
