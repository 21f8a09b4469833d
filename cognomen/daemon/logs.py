"""Logs of the daemons: events with fields on standard error, readable on a terminal, JSON lines otherwise.

Tracebacks never include local variables, because they hold keys. The number of lines of one kind is limited by cognomen/daemon/logsharing.
"""

import logging
from typing import TextIO

import structlog

from cognomen.daemon.logsharing import ShareLines
from cognomen.process.standardstreams import standard_error
from svid.clock import SystemClock

__all__ = ["configure"]

_LEVELS = logging.getLevelNamesMapping()


def configure(level: str = "info") -> None:
    """Set up structlog, and send the standard library's logs through it; call this once, at the start of a process."""
    number = _LEVELS[level.upper()]
    lines = _Lines(standard_error())
    renderers: list[structlog.typing.Processor]
    if lines.are_for_people:
        renderers = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            ShareLines(SystemClock()),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_names: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[_Forward()], force=True)


class _Lines:
    """Writes lines to standard error; a line that cannot be written is lost, so that a full disk or a closed pipe stops no daemon."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.are_for_people = file.isatty()

    def msg(self, message: str) -> None:
        """Write a line."""
        self._file.write(f"{message}\n")
        self._file.flush()

    debug = info = warning = error = critical = exception = log = msg


class _Forward(logging.Handler):
    """Hands the log records of libraries to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event of its logger."""
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
