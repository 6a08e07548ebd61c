"""The format of log lines: structlog's processors, and the same for lines of libraries."""

import logging
import sys
from typing import Literal, TextIO

import structlog

LogFormat = Literal["console", "json"]

SHARED: tuple[structlog.types.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def configure_structlog(level: str, log_format: LogFormat, stream: TextIO) -> None:
    """Write our lines from this level on to the stream."""
    structlog.configure(
        processors=[*SHARED, _renderer(log_format)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


def library_formatter(log_format: LogFormat) -> logging.Formatter:
    """A formatter that gives lines of libraries, including gunicorn and Python's warnings, the format of ours."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_name_library, *SHARED],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(log_format)],
    )


def _renderer(log_format: LogFormat) -> structlog.types.Processor:
    """A coloured format for people, or one JSON object per line."""
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _name_library(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Add the library's name."""
    event["logger"] = event["_record"].name
    return event
