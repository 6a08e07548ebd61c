"""The steps of a start, printed as they begin."""

import time

from reservasi.cli.output import err
from reservasi.logs import get_logger

log = get_logger()


class Steps:
    """Prints each step on standard error with the elapsed time."""

    def __init__(self, *, as_lines: bool) -> None:
        """`as_lines`: as lines of the log."""
        self._as_lines = as_lines
        self._began_s = time.monotonic()

    def begin(self, step: str) -> None:
        """Print the beginning of a step."""
        after_s = time.monotonic() - self._began_s
        if self._as_lines:
            log.info("step", step=step, after_s=round(after_s, 1))
        else:
            err.print(f"[dim]{after_s:5.1f} s[/]  {step}")
