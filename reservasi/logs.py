"""Logging: static event names with ids as fields, never personal data.

structlog is imported with the first line, so that a command that logs nothing does not load it.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from reservasi.log_lines import LogFormat

OUR_HANDLER = "reservasi"
REPEAT_INTERVAL_S = 60.0  # between two lines about the same fault
REPEATED_MAX = 200  # number of remembered faults
WHOM = ("program", "server", "check", "fault", "name")  # fields that distinguish faults
WHY = ("reason", "error", "cause", "result")  # fields that distinguish faults after removing numbers
_NUMBER = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")


class _StandardError:
    """Standard error at the time of writing; lines to a closed pipe are lost without an exception."""

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError):
            return 0

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            return


class _Logger:
    """A logger that is created with its first line."""

    def __getattr__(self, name: str) -> Any:
        _configured.apply()
        import structlog  # noqa: PLC0415 - with the first line

        if "_made" not in self.__dict__:
            self._made = structlog.get_logger()
        return getattr(self._made, name)


class _Configured:
    """The configuration that is applied with the first line."""

    wanted: "tuple[str, LogFormat] | None" = None

    def apply(self) -> None:
        """Configure structlog, once for each `configure`."""
        if self.wanted is None:
            return
        from reservasi.log_lines import configure_structlog  # noqa: PLC0415 - with the first line

        level, log_format = self.wanted
        self.wanted = None
        configure_structlog(level, log_format, cast(TextIO, _StandardError()))


class _LibraryFormatter(logging.Formatter):
    """Gives lines of libraries the format of ours."""

    def __init__(self, log_format: "LogFormat") -> None:
        super().__init__()
        self._log_format = log_format
        self._made: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._made is None:
            from reservasi.log_lines import library_formatter  # noqa: PLC0415 - with the first line

            self._made = library_formatter(self._log_format)
        return self._made.format(record)


_configured = _Configured()


class Sparing:
    """A logger for repeated faults: each is logged at once, and then at most once per interval.

    A later line has the field `repeated` with the number of suppressed ones. Lines below warning are always logged.
    """

    def __init__(
        self, logger: Any, clock: Callable[[], float] = time.monotonic, interval_s: float = REPEAT_INTERVAL_S
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._interval_s = interval_s
        self._lines: dict[
            tuple[object, ...], tuple[float, int]
        ] = {}  # when each may be logged again, and how often it came

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def bind(self, **fields: object) -> "Sparing":
        """A logger that adds these fields to each line, and counts its repeats separately."""
        return Sparing(self._logger.bind(**fields), self._clock, self._interval_s)

    def note(self, event: str, **fields: Any) -> bool:
        """Log a line that accompanies a fault; returns whether it was logged."""
        return self._log("info", event, fields)

    def warning(self, event: str, **fields: Any) -> bool:
        """Log a warning; returns whether it was logged."""
        return self._log("warning", event, fields)

    def error(self, event: str, **fields: Any) -> bool:
        """Log an error; returns whether it was logged."""
        return self._log("error", event, fields)

    def exception(self, event: str, **fields: Any) -> bool:
        """Log an error with the traceback of the current exception; returns whether it was logged."""
        return self._log("error", event, {"exc_info": True, **fields})

    def _log(self, level: str, event: str, fields: dict[str, Any]) -> bool:
        key = (event, *_cause(fields))
        due_at, times = self._lines.pop(key, (0.0, 0))
        now = self._clock()
        if times and now < due_at:
            self._lines[key] = due_at, times + 1
            return False
        if len(self._lines) >= REPEATED_MAX:
            self._lines.pop(next(iter(self._lines)))
        self._lines[key] = now + self._interval_s, 1
        if times > 1:
            fields["repeated"] = times - 1
        getattr(self._logger, level)(event, **fields)
        return True


def _cause(fields: dict[str, Any]) -> Iterator[object]:
    """What distinguishes two faults: their subject, and their reason without numbers."""
    for name in WHOM:
        yield fields.get(name)
    for name in WHY:
        yield _NUMBER.sub("#", str(fields.get(name, "")))
    fault = fields.get("exc_info")
    fault = sys.exc_info()[1] if fault is True else fault
    yield type(fault)
    yield _NUMBER.sub("#", str(fault))


def get_logger() -> Any:
    return _Logger()


def get_sparing_logger() -> Sparing:
    """A logger that does not repeat itself."""
    return Sparing(_Logger())


def configure(level: str, log_format: "LogFormat") -> None:
    """Write structured lines to standard error: coloured for people, or one JSON object per line.

    Libraries log warnings only: their lines may contain what ours must not.
    """
    _configured.wanted = (level, log_format)
    if "structlog" in sys.modules:
        _configured.apply()
    handler = logging.StreamHandler(_StandardError())
    handler.set_name(OUR_HANDLER)
    handler.setFormatter(_LibraryFormatter(log_format))
    root = logging.getLogger()
    for former in [each for each in root.handlers if each.get_name() == OUR_HANDLER]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
