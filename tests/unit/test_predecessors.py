"""Which processes hold the lock of an earlier `up`, and which only have its file open."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from reservasi.embedded.places import Places
from reservasi.embedded.predecessors import Left, holders, processes_lock

WAITS = [sys.executable, "-c", "print(flush=True); import sys; sys.stdin.read()"]


@contextmanager
def process(*fds: int) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(WAITS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds) as started:
        assert started.stdout is not None
        started.stdout.readline()
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
def lock_file(data_dir: Path) -> Path:
    data_dir.mkdir(exist_ok=True)
    return Places.of(data_dir).data_dir / "processes.lock"


def test_only_who_inherited_the_lock_is_waited_for_and_killed(data_dir: Path, lock_file: Path) -> None:
    processes: list[Left] = []
    with ExitStack() as stack:
        with processes_lock(data_dir, 0, processes.extend) as lock:
            heir = stack.enter_context(process(lock))
        reading = lock_file.open("rb")
        backup = stack.enter_context(process(reading.fileno()))
        reading.close()
        with processes_lock(data_dir, 0.1, processes.extend) as lock:
            assert [each.pid for each in processes] == [heir.pid]
            assert heir.wait(5) == -9
            assert backup.poll() is None
            assert holders(lock) == []


def test_no_file_of_another_process_is_asked_for_anything(
    data_dir: Path, lock_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stat of one on a server that is away would not return."""
    paths: list[str] = []
    stat = os.stat

    def noted(path: Any, *words: Any, **named: Any) -> os.stat_result:
        paths.append(str(path))
        return stat(path, *words, **named)

    with processes_lock(data_dir, 0, lambda _: None) as lock, process(lock) as heir:
        monkeypatch.setattr(os, "stat", noted)
        assert [each.pid for each in holders(lock)] == [heir.pid]
        monkeypatch.undo()
    assert not [each for each in paths if "/fd/" in each]
