"""The alarm that recording stands still: raised only while changes wait and the position does not move."""

import pytest
from prometheus_client import REGISTRY

from reservasi.model import Position
from reservasi.worker.standstill import STALLED_S, Standstill


def at(seq: int) -> Position:
    return Position(epoch=1, seq=seq, chain=f"chain {seq}")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def gauge(program: str) -> float | None:
    return REGISTRY.get_sample_value("reservasi_recorder_stalled", {"program": program})


def test_it_is_raised_once_nothing_moved_for_a_while_and_lowered_when_it_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    watch = Standstill("stalls", clock)
    for _ in range(3):
        assert watch.reason(at(5), at(8)) is None
        clock.now_s += STALLED_S / 3
    clock.now_s += 0.1
    for _ in range(3):
        assert watch.reason(at(5), at(9)) == "recording stands still at seq 5, 4 changes wait"
        assert gauge("stalls") == 1
    assert capsys.readouterr().err.count("recording_stands_still") <= 1
    assert watch.reason(at(6), at(9)) is None
    assert gauge("stalls") == 0


def test_slow_recording_and_a_ledger_with_nothing_new_are_no_standstill() -> None:
    clock = Clock()
    watch = Standstill("moves", clock)
    for seq in range(5):
        assert watch.reason(at(seq), at(100)) is None
        clock.now_s += STALLED_S * 0.9
    for _ in range(5):
        clock.now_s += STALLED_S * 2
        assert watch.reason(at(100), at(100)) is None
    assert watch.reason(at(100), at(101)) is None, "what waits now has waited for a moment only"
