"""Call the code of another package: whatever it raises becomes a refusal that names it, and is logged with its traceback.

A SystemExit or KeyboardInterrupt that leaves a task ends the event loop, and with it the daemon. So no call of a plugin lets one pass.
How plugins are found and made: plugins.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog

from cognomen.process.exceptions import is_being_cancelled, telling_cancellations_apart
from cognomen.protocol.errors import Kind, Refused
from svid.clock import Clock, SystemClock
from svid.linelimit import LineLimit

__all__ = ["NoAnswer", "PluginCalls"]

log = structlog.get_logger(__name__)


class NoAnswer(Refused):
    """A refusal because a plugin gave no answer in time."""


class PluginCalls:
    """Guards the calls of plugins. Callers may provoke a failure any number of times, so its traceback is logged once a minute.

    Args:
        clock: None: the system's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lines = LineLimit()

    @contextmanager
    def calling(self, plugin: str, *, kind: Kind = Kind.UNAVAILABLE) -> Iterator[None]:
        """Call the plugin in the block, and nothing else; a refusal of its own passes, and so does the end of this task.

        Args:
            plugin: what it is and its name: `node attestor join_token`.
            kind: of the refusal.

        Raises:
            Refused: of that kind, with the type of the exception; its text, which may hold a secret, is only in the log.
        """
        try:
            with telling_cancellations_apart():
                yield
        except (Refused, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as err:
            if is_being_cancelled():  # otherwise this task would go on although somebody ended it
                raise asyncio.CancelledError from err
            self._tell(plugin, err)
            raise Refused(
                kind,
                f"{plugin} failed: {type(err).__name__}",
                hint="the log has its traceback, at the event: plugin failed",
            ) from err

    @asynccontextmanager
    async def within(self, plugin: str, seconds: float) -> AsyncIterator[asyncio.Timeout]:
        """Call the plugin in the block as `calling` does, for a limited time; the block may put off the deadline.

        Raises:
            Refused: as calling; UNAVAILABLE when there is no answer by then, which is logged once a minute with what it waited for.
        """
        try:
            async with asyncio.timeout(seconds) as deadline:
                with self.calling(plugin):
                    yield deadline
        except TimeoutError as err:
            left_out = self._left_out(plugin)
            if left_out is not None:
                log.exception("plugin gave no answer", plugin=plugin, seconds=seconds, left_out=left_out)
            raise NoAnswer(
                Kind.UNAVAILABLE,
                f"{plugin}: no answer within {seconds:g} s",
                hint="can it reach what it asks? the log shows where it waited, at the event: plugin gave no answer",
            ) from err

    def _tell(self, plugin: str, err: BaseException) -> None:
        left_out = self._left_out(f"{plugin}: {type(err).__name__}")
        if left_out is not None:
            log.error("plugin failed", plugin=plugin, left_out=left_out, exc_info=err)

    def _left_out(self, failure: str) -> int | None:
        return self._lines.left_out(failure, self._clock.monotonic())
