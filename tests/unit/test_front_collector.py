"""A front's garbage collector ignores objects that live as long as the process."""

import gc
from collections.abc import Iterator

import pytest

from reservasi.front.process.garbage_collector import YOUNG_OBJECTS, set_aside_what_stays


@pytest.fixture
def collector_as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("collector_as_before")
def test_what_there_is_is_set_aside_and_what_comes_is_looked_at_seldom() -> None:
    stays: list[object] = [[]]
    set_aside_what_stays()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == YOUNG_OBJECTS
    assert not any(each is stays for each in gc.get_objects())
    comes: list[object] = [[]]
    assert any(each is comes for each in gc.get_objects())
