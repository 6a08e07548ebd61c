"""The configuration of logs."""

import structlog
from structlog.testing import capture_logs

from reservasi import logs

log = structlog.get_logger()


def test_a_test_hears_what_a_logger_says_that_spoke_before() -> None:
    """Each command that runs in this process configures logging, which keeps a logger as it was when it first spoke."""
    logs.configure("debug", "json")
    log.warning("spoken_before")
    logs.configure("debug", "json")
    with capture_logs() as lines:
        log.warning("heard")
    assert [line["event"] for line in lines] == ["heard"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_fault_that_comes_again_and_again_is_one_line_an_interval() -> None:
    clock = Clock()
    with capture_logs() as lines:
        sparing = logs.Sparing(structlog.get_logger(), clock)
        for at in range(1000):
            clock.now += 0.1
            sparing.error("not_recorded", program="p", reason=f"seq {at} is missing")
            sparing.error("not_recorded", program="q", reason=f"seq {at} is missing")
    assert [(line["program"], line.get("repeated")) for line in lines] == [
        ("p", None), ("q", None), ("p", 600), ("q", 600),
    ]  # fmt: skip
    assert lines[0]["reason"] == "seq 0 is missing"
    assert lines[2]["log_level"] == "error"


def test_another_cause_is_another_line() -> None:
    with capture_logs() as lines:
        sparing = logs.Sparing(structlog.get_logger(), Clock())
        for _ in range(3):
            for fault in (KeyError("a"), KeyError("b"), ValueError("a")):
                try:
                    raise fault
                except (KeyError, ValueError):
                    sparing.exception("failed", program="p")
            sparing.warning("failed", program="p", reason="away")
    assert len(lines) == 4


def test_what_is_no_fault_is_told_each_time_and_what_accompanies_one_is_not() -> None:
    with capture_logs() as lines:
        sparing = logs.Sparing(structlog.get_logger(), Clock()).bind(program="p")
        for _ in range(3):
            sparing.info("program_found")
            sparing.note("recording")
    assert [line["event"] for line in lines].count("program_found") == 3
    assert [line["event"] for line in lines].count("recording") == 1


def test_faults_that_differ_each_time_take_no_more_memory_than_that() -> None:
    with capture_logs():
        sparing = logs.Sparing(structlog.get_logger(), Clock())
        for at in range(2000):
            sparing.warning("away", reason="x" * at)
    assert len(sparing._lines) <= logs.REPEATED_MAX
