"""A thread that keeps one stream of the Workload API open, and holds the latest value that came.

What each event means is decided by svid/workloadapi/watch; what the values are for, by svid/workloadapi/sources.
"""

import asyncio
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Generic, TypeVar

from google.protobuf.message import Message

from svid.clock import Clock
from svid.errors import SVIDError, WorkloadAPIError
from svid.workloadapi.client import Stream
from svid.workloadapi.watch import Deliver, Discard, GiveUp, Reconnect, Watch

__all__ = ["Follower"]

_Message = TypeVar("_Message", bound=Message)
_Value = TypeVar("_Value")

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class Follower(Generic[_Message, _Value]):
    """The latest value of a stream; may be asked from any thread.

    Args:
        open_stream: opens the stream, each time anew.
        decode: makes a value of a message, or raises SVIDError.
    """

    def __init__(
        self, open_stream: Callable[[], Stream[_Message]], decode: Callable[[_Message], _Value], clock: Clock
    ) -> None:
        self._open_stream = open_stream
        self._watch = Watch[_Message, _Value](decode, jitter=lambda: secrets.randbelow(1000) / 1000)
        self._clock = clock
        self._changed = threading.Condition()
        self._value: _Value | None = None
        self._error: WorkloadAPIError | None = None
        self._gave_up = False
        self._stream: Stream[_Message] | None = None
        self._closed = threading.Event()
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._thread = threading.Thread(target=self._run, name="svid-follower", daemon=True)
        self._thread.start()

    @property
    def latest(self) -> _Value:
        """The latest value.

        Raises:
            WorkloadAPIError: none came yet, or the Workload API said that what came must not be used any more; `code` says which.
        """
        with self._changed:
            if self._closed.is_set():
                raise WorkloadAPIError("source: expected an open one, found it closed", code="CANCELLED")
            if self._value is not None:
                return self._value
            if self._error is not None:
                raise WorkloadAPIError(str(self._error), code=self._error.code, clause=self._error.clause)
            raise WorkloadAPIError("the Workload API has not answered yet", code="UNAVAILABLE")

    @property
    def _is_settled(self) -> bool:
        return self._value is not None or self._gave_up or self._closed.is_set()

    def wait(self, timeout: timedelta) -> None:
        """Wait for the first value.

        Raises:
            WorkloadAPIError: it did not come in time, or never will.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_settled, timeout.total_seconds())
        _ = self.latest

    async def ready(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the error says why nothing came
        """As `wait`, without holding up the event loop."""
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                async for _ in self._wakeups():
                    if self._is_settled:
                        break
        except TimeoutError:
            pass  # `latest` knows why
        _ = self.latest

    async def changes(self) -> AsyncIterator[_Value]:
        """Yield the latest value, now and whenever there is a newer one; those between are left out. Ends when the source is closed.

        Raises:
            WorkloadAPIError: what was held must not be used any more, or nothing will ever come again.
        """
        seen: _Value | None = None
        async for _ in self._wakeups():
            if self._closed.is_set():
                return
            if self._gave_up and self._error is not None:
                raise WorkloadAPIError(str(self._error), code=self._error.code)
            value = self.latest
            if value is not seen:
                seen = value
                yield value

    async def _wakeups(self) -> AsyncIterator[None]:
        """Yield now, and whenever something changed since."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        unsubscribe = self.subscribe(wake)
        try:
            while True:
                changed.clear()
                yield
                await changed.wait()
        finally:
            unsubscribe()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called whenever `latest` gives something else, from the follower's thread; returns what ends that."""
        token = object()
        with self._changed:
            self._callbacks[token] = callback

        def unsubscribe() -> None:
            with self._changed:
                self._callbacks.pop(token, None)

        return unsubscribe

    def close(self) -> None:
        """End the stream and the thread; closing again, as a subscriber may that hears of it, only waits for the thread."""
        with self._changed:
            is_first = not self._closed.is_set()
            self._closed.set()
            if self._stream is not None:
                self._stream.cancel()
        if is_first:
            self._notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            error = self._follow()
            if self._closed.is_set() or self._is_over(self._watch.ended(self._clock.monotonic(), error)):
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
        with self._changed:
            if self._closed.is_set():
                return None
            self._watch.opened(self._clock.monotonic())
            self._stream = self._open_stream()
            return self._stream

    def _take(self, step: Deliver[_Value] | Discard | None) -> None:
        match step:
            case Deliver(value=value):
                with self._changed:
                    self._value, self._error = value, None
                self._notify()
            case Discard(error=error):
                _log.error("message discarded", extra={"reason": str(error)})
                with self._changed:
                    self._error = _as_answer(error)
            case None:
                pass

    def _is_over(self, step: Reconnect | GiveUp) -> bool:
        """Take note of how the stream ended, and wait before the next one; True where there is none."""
        _log.info("stream ended", extra={"code": step.error.code, "reason": str(step.error)})
        with self._changed:
            self._error = step.error
            match step:
                case GiveUp():
                    self._gave_up = is_change = True
                case Reconnect(denied=True):
                    is_change = self._value is not None
                    self._value = None
                case Reconnect():
                    is_change = False
        if is_change:
            self._notify()
        return isinstance(step, GiveUp) or self._closed.wait(step.delay.total_seconds())

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 - the callback is a stranger's, and the watch must outlive it
                _log.exception("callback failed")


def _as_answer(error: SVIDError) -> WorkloadAPIError:
    if isinstance(error, WorkloadAPIError):
        return error
    return WorkloadAPIError(f"the Workload API sent what cannot be used: {error}", code="OK", clause=error.clause)
