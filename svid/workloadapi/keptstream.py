"""A thread that keeps one stream of the Workload API's socket open.

What each event means is decided by svid/workloadapi/watch; what is held because of it, by the stream's owner.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message

from svid.clock import Clock
from svid.errors import WorkloadAPIError
from svid.workloadapi.client import Stream
from svid.workloadapi.watch import Deliver, Discard, GiveUp, Reconnect, Watch

__all__ = ["KeptStream", "StreamOwner"]

_Message = TypeVar("_Message", bound=Message)
_Value = TypeVar("_Value")

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class StreamOwner(Protocol[_Value]):
    """Who holds what a stream says; called from the stream's thread."""

    def take(self, step: Deliver[_Value] | Discard) -> None:
        """A message came.

        Raises:
            WorkloadAPIError: the stream is of no use any more: open another.
        """

    def ended(self, step: Reconnect | GiveUp) -> timedelta | None:
        """The stream ended; how long to wait before the next one, None for ever."""


class KeptStream(Generic[_Message, _Value]):
    """One stream, opened again whenever it ended.

    Args:
        open_stream: opens it, each time anew.

    Attributes:
        thread: which follows it; over soon after `end`.
    """

    def __init__(
        self,
        name: str,
        open_stream: Callable[[], Stream[_Message]],
        watch: Watch[_Message, _Value],
        owner: StreamOwner[_Value],
        clock: Clock,
    ) -> None:
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._open_stream = open_stream
        self._watch = watch
        self._owner = owner
        self._clock = clock
        self._stream: Stream[_Message] | None = None
        self._opening = threading.Lock()
        self._ended = threading.Event()

    @property
    def is_ended(self) -> bool:
        """Whether `end` was called."""
        return self._ended.is_set()

    def end(self) -> bool:
        """End the stream for good, without waiting for the thread; False where it was ended before."""
        with self._opening:
            is_first = not self._ended.is_set()
            self._ended.set()
            if self._stream is not None:
                self._stream.cancel()
        return is_first

    def _run(self) -> None:
        while True:
            error = self._follow()
            if self._ended.is_set():
                return
            step = self._watch.ended(self._clock.monotonic(), error)
            _log.info("stream ended", extra={"code": step.error.code, "reason": str(step.error)})
            delay = self._owner.ended(step)
            if delay is None or self._ended.wait(delay.total_seconds()):
                return

    def _follow(self) -> WorkloadAPIError | None:
        """Follow one stream to its end; with which error it ended."""
        stream = None
        try:
            stream = self._open()
            for message in stream or ():
                self._take(self._watch.received(message))
        except WorkloadAPIError as e:
            return e
        except Exception as e:  # noqa: BLE001 - a thread that ends by surprise would leave all with what is old, in silence
            _log.exception("stream failed")
            return WorkloadAPIError(f"the source failed: {type(e).__name__}", code="INTERNAL")
        finally:
            if stream is not None:
                stream.cancel()
        return None

    def _open(self) -> Stream[_Message] | None:
        with self._opening:
            if self._ended.is_set():
                return None
            self._watch.opened(self._clock.monotonic())
            self._stream = self._open_stream()
            return self._stream

    def _take(self, step: Deliver[_Value] | Discard | None) -> None:
        if isinstance(step, Discard):
            _log.error("message discarded", extra={"reason": str(step.error)})
        if step is not None:
            self._owner.take(step)
