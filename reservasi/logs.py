"""Logging: static event names with ids as fields, never personal data."""

import logging
import sys
from typing import Literal

import structlog


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


def configure(level: str, log_format: Literal["console", "json"]) -> None:
    """Send structured lines to standard error: coloured for people, or one JSON object a line."""
    renderer: structlog.types.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(_StandardError()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    # Libraries speak only when something is wrong: their lines may carry what ours must not.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
