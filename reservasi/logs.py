"""Logging: static event names with ids as fields, never personal data.

structlog is imported with the first line: a command that says nothing does not wait for it.
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
REPEATED_MAX = 200  # faults that are remembered
WHOM = ("program", "server", "check", "fault", "name")  # fields of a line by which faults are told apart
WHY = ("reason", "error", "cause", "result")  # the same, in words that may have a number in them
_NUMBER = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")


class _StandardError:
    """Standard error as it is when a line is written; a pipe that nobody reads any more loses lines, not requests."""

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError):
            return 0

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            return


class _Logger:
    """A logger that exists from its first line on."""

    def __getattr__(self, name: str) -> Any:
        _configured.apply()
        import structlog  # noqa: PLC0415 - with the first line

        if "_made" not in self.__dict__:
            self._made = structlog.get_logger()
        return getattr(self._made, name)


class _Configured:
    """How lines are written from the first one on."""

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
    """Gives the lines of libraries the format of ours."""

    def __init__(self, log_format: "LogFormat") -> None:
        super().__init__()
        self._log_format = log_format
        self._made: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        """The whole line."""
        if self._made is None:
            from reservasi.log_lines import library_formatter  # noqa: PLC0415 - with the first line

            self._made = library_formatter(self._log_format)
        return self._made.format(record)


_configured = _Configured()


class Sparing:
    """A logger for faults that come again and again: each is told at once, and then at most once an interval.

    The line then says how often it was `repeated`. What is neither a warning nor an error is told each time.
    """

    def __init__(
        self, logger: Any, clock: Callable[[], float] = time.monotonic, interval_s: float = REPEAT_INTERVAL_S
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._interval_s = interval_s
        self._lines: dict[
            tuple[object, ...], tuple[float, int]
        ] = {}  # when each may be told again, and how often it came

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def bind(self, **fields: object) -> "Sparing":
        """Make a logger that adds these fields to each line, and counts its repeats apart."""
        return Sparing(self._logger.bind(**fields), self._clock, self._interval_s)

    def note(self, event: str, **fields: Any) -> bool:
        """Tell what is no fault, and accompanies one; whether it was told."""
        return self._tell("info", event, fields)

    def warning(self, event: str, **fields: Any) -> bool:
        """Tell it as a warning; whether it was told."""
        return self._tell("warning", event, fields)

    def error(self, event: str, **fields: Any) -> bool:
        """Tell it as an error; whether it was told."""
        return self._tell("error", event, fields)

    def exception(self, event: str, **fields: Any) -> bool:
        """Tell it as an error with the traceback of the exception that is handled now; whether it was told."""
        return self._tell("error", event, {"exc_info": True, **fields})

    def _tell(self, level: str, event: str, fields: dict[str, Any]) -> bool:
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
    """What tells two faults apart: whom they concern, and why they came, numbers apart."""
    for name in WHOM:
        yield fields.get(name)
    for name in WHY:
        yield _NUMBER.sub("#", str(fields.get(name, "")))
    fault = fields.get("exc_info")
    fault = sys.exc_info()[1] if fault is True else fault
    yield type(fault)
    yield _NUMBER.sub("#", str(fault))


def get_logger() -> Any:
    """A logger of structlog's."""
    return _Logger()


def get_sparing_logger() -> Sparing:
    """A logger that does not repeat itself."""
    return Sparing(_Logger())


def configure(level: str, log_format: "LogFormat") -> None:
    """Send structured lines to standard error: coloured for people, or one JSON object a line.

    Libraries speak only when something is wrong: their lines may carry what ours must not.
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
