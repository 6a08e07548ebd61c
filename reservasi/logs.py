"""Logging: static event names with ids as fields, never personal data."""

import logging
import sys
from typing import Literal

import structlog

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


def configure(level: str, log_format: Literal["console", "json"]) -> None:
    """Send structured lines to standard error: coloured for people, or one JSON object a line."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.types.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(_StandardError()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    _format_libraries(shared, renderer)


def _format_libraries(shared: list[structlog.types.Processor], renderer: structlog.types.Processor) -> None:
    """Give the lines of libraries, gunicorn's and Python's warnings among them, the format of ours.

    Libraries speak only when something is wrong: their lines may carry what ours must not.
    """
    handler = logging.StreamHandler(_StandardError())
    handler.set_name(OUR_HANDLER)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_library, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for former in [each for each in root.handlers if each.get_name() == OUR_HANDLER]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _name_library(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Say whose line it is."""
    event["logger"] = event["_record"].name
    return event
