"""Finds the process that listens on a port of this machine, as far as /proc shows it."""

import contextlib
from pathlib import Path

from reservasi.embedded.predecessors import command_of

LISTENING = "0A"  # the state's number in /proc/net/tcp
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def listener_on(port: int) -> str:
    """The listening processes, each as pid and command; "" if none is visible."""
    sockets = _sockets(port)
    if not sockets:
        return ""
    pids = sorted(int(each.name) for each in Path("/proc").glob("[0-9]*") if _has_open(each, sockets))
    return ", ".join(f"process {pid}: {command_of(pid)}" for pid in pids)


def _sockets(port: int) -> set[str]:
    """The listening sockets, in the form of the links in /proc/<pid>/fd."""
    sockets: set[str] = set()
    for table in TABLES:
        with contextlib.suppress(OSError):  # a kernel without IPv6 has no second table
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
    return sockets


def _has_open(process: Path, sockets: set[str]) -> bool:
    with contextlib.suppress(OSError):  # it has ended, or belongs to another account
        for each in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(each.readlink()) in sockets:
                    return True
    return False
