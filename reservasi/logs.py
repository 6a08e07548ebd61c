"""Logging: static event names with ids as fields, never personal data.

structlog is imported with the first line: a command that says nothing does not wait for it.
"""

import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from reservasi.log_lines import LogFormat

OUR_HANDLER = "reservasi"


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


def get_logger() -> Any:
    """A logger of structlog's."""
    return _Logger()


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
