"""Logs of the daemons: events with fields to standard error, for people on a terminal, as JSON lines otherwise.

Never with the local variables of a traceback: they hold keys.
"""

import contextlib
import logging
import sys

import structlog

__all__ = ["configure"]

_LEVELS = logging.getLevelNamesMapping()


def configure(level: str = "info") -> None:
    """Set up structlog, and the standard library's loggers to go through it; call it once, at the start of a process."""
    number = _LEVELS[level.upper()]
    renderers: list[structlog.typing.Processor]
    if sys.stderr.isatty():
        renderers = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[_Forward()], force=True)


class _Lines:
    """Writes lines to standard error; one that it does not take is lost, for a full disk or a reader that left ends no daemon."""

    def __init__(self, *_names: object) -> None:
        self._file = sys.stderr

    def msg(self, message: str) -> None:
        """Write a line."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._file.write(f"{message}\n")
            self._file.flush()

    debug = info = warning = error = critical = exception = log = msg


class _Forward(logging.Handler):
    """Hand what libraries log to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event of its logger."""
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
