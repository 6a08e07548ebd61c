"""Fronts of a running service: each of them is asked, and they are replaced by a reload."""

import http.client
import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from loadtest.stage.program import PROGRAM
from loadtest.stage.service import Part, Service, wait_for

FRONTS = 2
WAIT_S = 60.0
AVAILABILITY = f"/v1/availability?program={PROGRAM}"


def offered_by_all(service: Service, quotas: int) -> list[str]:
    """The quotas that are offered, once each front offers so many: one may show a program later than another."""
    lacking = set(service.pids(Part.FRONT))

    def look() -> list[str] | None:
        front, offered = _asked(service)
        if len(offered) == quotas:
            lacking.discard(front)
        return None if lacking else offered

    return wait_for(look, WAIT_S, "a front does not offer the program")


def _asked(service: Service) -> tuple[int, list[str]]:
    """Which front took a new connection, and which quotas it offers."""
    with closing(http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=WAIT_S)) as connection:
        connection.request("GET", AVAILABILITY)
        offered = json.loads(connection.getresponse().read()).get("quotas", ())  # none in a refusal
        caller_port: int = connection.sock.getsockname()[1]
        return _front_of(service, caller_port), [quota["id"] for quota in offered]


def _front_of(service: Service, caller_port: int) -> int:
    """The front that has the other end of a connection of ours, by Linux' table of connections."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    service_port = int(service.url.rpartition(":")[2])
    ports = f"{service_port:04X}", f"{caller_port:04X}"
    (inode,) = [row[9] for row in rows if (row[1].rpartition(":")[2], row[2].rpartition(":")[2]) == ports]
    (front,) = [pid for pid in service.pids(Part.FRONT) if f"socket:[{inode}]" in _open_files(pid)]
    return front


def _open_files(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(path)


def replace_fronts(service: Service, target: str) -> None:
    """SIGHUP to the fronts' parent or to `up`, and wait until all fronts are others."""
    before = set(service.pids(Part.FRONT))
    assert len(before) == FRONTS
    os.kill(parent_of(min(before)) if target == "fronts" else service.pid, signal.SIGHUP)

    def look() -> bool | None:
        now = service.pids(Part.FRONT)
        assert len(now) >= FRONTS
        return (len(now) == FRONTS and not before & set(now)) or None

    wait_for(look, WAIT_S, "not replaced")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
