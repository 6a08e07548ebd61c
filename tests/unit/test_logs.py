"""What the service configures of the logs."""

import structlog
from structlog.testing import capture_logs

from reservasi import logs

log = structlog.get_logger()


def test_a_test_hears_what_a_logger_says_that_spoke_before() -> None:
    """Each command that runs in this process configures logging, which keeps a logger as it was when it first spoke."""
    logs.configure("debug", "json")
    log.warning("spoken_before")
    logs.configure("debug", "json")
    with capture_logs() as said:
        log.warning("heard")
    assert [line["event"] for line in said] == ["heard"]
