"""A thread that keeps one stream of the Workload API's socket open.

svid/workloadapi/watch decides what each event means, and the stream's owner what to store.
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
    """The object that stores what a stream sends; called from the stream's thread."""

    def take(self, step: Deliver[_Value] | Discard) -> None:
        """Take a message.

        Raises:
            WorkloadAPIError: the stream has become useless; open another one.
        """

    def ended(self, step: Reconnect | GiveUp) -> timedelta | None:
        """Note that the stream ended; return how long to wait before the next one, or None to open no more."""


class KeptStream(Generic[_Message, _Value]):
    """One stream, which is opened again whenever it ends.

    Args:
        open_stream: opens it, each time it is needed.

    Attributes:
        thread: follows the stream; it finishes soon after `end`.
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
        """End the stream for good, without waiting for the thread; False if it was ended before."""
        with self._opening:
            is_first = not self._ended.is_set()
            self._ended.set()
            if self._stream is not None:
                self._stream.cancel()
        return is_first

    def _run(self) -> None:
        try:
            self._keep()
        finally:  # otherwise this would be a reference cycle with its owner
            del self._owner, self._open_stream, self._watch

    def _keep(self) -> None:
        while True:
            error = self._follow()
            if self._ended.is_set():
                return
            step = self._watch.ended(self._clock.monotonic(), error)
            if (
                self._stream is not None and self._stream.is_interrupted
            ):  # a fork of this process interrupted it, and the fork is over by now
                step = Reconnect(delay=timedelta(), error=step.error, denied=False)
            _log.info("stream ended", extra={"code": step.error.code, "reason": str(step.error)})
            delay = self._owner.ended(step)
            if delay is None or self._ended.wait(delay.total_seconds()):
                return

    def _follow(self) -> WorkloadAPIError | None:
        """Follow one stream to its end; return the error that ended it, if any."""
        stream = None
        try:
            stream = self._open()
            for message in stream or ():
                self._take(self._watch.received(message))
        except WorkloadAPIError as e:
            return _without_frames(e)
        except Exception as e:  # noqa: BLE001 - if this thread died, everybody would silently keep old data
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


def _without_frames(error: WorkloadAPIError) -> WorkloadAPIError:
    """Remove the tracebacks of an error that we keep: its frames refer to it, which would be a reference cycle."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__
    return error
