"""Which services `up` runs for this user, so that commands in another terminal find their data directory.

Each `up` keeps a small file while it runs. A file counts as long as the process that it names lives: the same one, by
the time at which it started.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

FILES_MAX = 64  # that are looked at
FILE_BYTES_MAX = 4096
_SUFFIX = ".json"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """An `up` that runs."""

    pid: int
    started: str  # of the process, as the kernel counts it
    data_dir: str
    api: str


@contextmanager
def announced(data_dir: Path, api: str) -> Iterator[None]:
    """Let commands find this process's service while the block lasts; where that cannot be written, they do not."""
    pid = os.getpid()
    path = None
    with suppress(OSError):
        place = _place()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours(place):
            path = place / f"{pid}{_SUFFIX}"
            running = Running(pid=pid, started=_started(pid), data_dir=str(data_dir), api=api)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(msgspec.structs.asdict(running)))
            new.replace(path)
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def found() -> list[Running]:
    """Every `up` of this user that runs, by data directory; what a killed one left behind is removed."""
    place = _place()
    running: list[Running] = []
    with suppress(OSError):
        if not _is_ours(place):
            return []
        for path in sorted(place.glob(f"*{_SUFFIX}"))[:FILES_MAX]:
            one = _read(path)
            if one is not None and _lives(one):
                running.append(one)
            else:
                path.unlink(missing_ok=True)
    return sorted(running, key=lambda each: each.data_dir)


def _place() -> Path:
    """A directory of this user that all of their terminals agree on."""
    if named := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(named) / "reservasi"
    user = os.geteuid()
    login = Path(f"/run/user/{user}")
    return login / "reservasi" if login.is_dir() else Path(f"/tmp/reservasi-{user}")  # noqa: S108 - ours, or not used


def _is_ours(place: Path) -> bool:
    """Whether nobody else can have written there."""
    found = place.lstat()
    return place.is_dir() and not place.is_symlink() and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _read(path: Path) -> Running | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(FILE_BYTES_MAX), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def _lives(running: Running) -> bool:
    try:
        return _started(running.pid) == running.started
    except OSError:
        return False


def _started(pid: int) -> str:
    """When the process started, in the kernel's ticks since it booted: a number that is used again has another."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
