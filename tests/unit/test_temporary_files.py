"""Temporary files of the tests lie in memory only where there is room for them."""

import os
import tempfile
from pathlib import Path

import pytest

from tests import temporary_files
from tests.temporary_files import DIRECTORY, PYTEST_VARIABLE, VARIABLE, has_room, pytest_configure


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    for name in (VARIABLE, PYTEST_VARIABLE):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_with_room_they_lie_in_memory_and_those_that_pytest_keeps_on_the_disk(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.setattr(temporary_files, "has_room", lambda directory: directory == DIRECTORY)
    before = tempfile.gettempdir()
    pytest_configure(pytestconfig)
    assert (os.environ[VARIABLE], os.environ[PYTEST_VARIABLE]) == (str(DIRECTORY), before)


@pytest.mark.parametrize(("room", "chosen"), [(False, None), (True, "/var/tmp")])
def test_without_room_or_where_somebody_has_chosen_nothing_changes(
    room: bool, chosen: str | None, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.setattr(temporary_files, "has_room", lambda _: room)
    if chosen:
        monkeypatch.setenv(VARIABLE, chosen)
    pytest_configure(pytestconfig)
    assert (os.environ.get(VARIABLE), os.environ.get(PYTEST_VARIABLE)) == (chosen, None)


def test_a_directory_that_is_not_there_or_too_small_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary_files, "FREE_BYTES_MIN", 1)
    assert has_room(tmp_path)
    assert not has_room(tmp_path / "missing")
    monkeypatch.setattr(temporary_files, "FREE_BYTES_MIN", 1 << 60)
    assert not has_room(tmp_path)
