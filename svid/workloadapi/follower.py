"""The latest value of one Workload API stream, for callers that read it or wait for it.

svid/workloadapi/keptstream keeps the stream open; svid/workloadapi/sources uses the values.
"""

import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Generic, TypeVar

from google.protobuf.message import Message

from svid.clock import Clock
from svid.errors import SVIDError, WorkloadAPIError
from svid.workloadapi.bell import Bell
from svid.workloadapi.client import Stream
from svid.workloadapi.keptstream import KeptStream
from svid.workloadapi.reach import is_nobodys_answer
from svid.workloadapi.watch import Deliver, Discard, GiveUp, Reconnect, Watch

__all__ = ["Follower"]

_Message = TypeVar("_Message", bound=Message)
_Value = TypeVar("_Value")


class Follower(Generic[_Message, _Value]):
    """The latest value of a stream; usable from any thread.

    Args:
        open_stream: opens the stream, each time it is needed.
        decode: converts a message to a value, or raises SVIDError.

    Attributes:
        thread: follows the stream; it finishes soon after `end`.
    """

    def __init__(
        self, open_stream: Callable[[], Stream[_Message]], decode: Callable[[_Message], _Value], clock: Clock
    ) -> None:
        self._bell = Bell()
        self._open_stream = open_stream
        self._decode = decode
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Start to follow a stream, with no value yet; a forked child calls this again, and keeps its parent's subscribers."""
        self._changing = threading.Lock()
        self._value: _Value | None = None
        self._error: WorkloadAPIError | None = None
        self._gave_up = False
        watch = Watch[_Message, _Value](self._decode, jitter=lambda: secrets.randbelow(1000) / 1000)
        self._kept = KeptStream("svid-follower", self._open_stream, watch, self, self._clock)
        self.thread = self._kept.thread
        self.thread.start()

    @property
    def latest(self) -> _Value:
        """The latest value.

        Raises:
            WorkloadAPIError: there is none yet, or the Workload API said that it must not be used any more; `code` says which.
        """
        with self._changing:
            self.demand_open()
            if self._value is not None:
                return self._value
            if self._error is not None:
                raise WorkloadAPIError(
                    self._error.detail, code=self._error.code, clause=self._error.clause, hint=self._error.hint
                )
            raise WorkloadAPIError("the Workload API has not answered yet", code="UNAVAILABLE")

    def demand_open(self) -> None:
        """Refuse if it was ended.

        Raises:
            WorkloadAPIError: CANCELLED.
        """
        if self._kept.is_ended:
            raise WorkloadAPIError("source: already closed", code="CANCELLED")

    @property
    def has_value(self) -> bool:
        """Whether there is a usable value."""
        return self._value is not None

    @property
    def has_heard(self) -> bool:
        """Whether a stream had any result, even if only that it cannot be opened."""
        error = self._error
        return self._value is not None or not (error is None or is_nobodys_answer(error))

    def _is_settled(self) -> bool:
        return self._value is not None or self._gave_up or self._kept.is_ended

    def wait(self, timeout: timedelta) -> None:
        """Wait for the first value.

        Raises:
            WorkloadAPIError: it did not come in time, or it will never come.
        """
        self._bell.wait(self._is_settled, timeout)
        _ = self.latest

    async def ready(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the error says why nothing came
        """Do the same as `wait` without blocking the event loop."""
        await self._bell.until(self._is_settled, timeout)
        _ = self.latest

    async def changes(self) -> AsyncIterator[_Value]:
        """Yield the latest value now, and again whenever it changes; values in between may be skipped. Ends when the source is closed.

        Raises:
            WorkloadAPIError: the value must not be used any more, or no value will ever come again.
        """
        seen: _Value | None = None
        async with aclosing(self._bell.rings()) as rings:
            async for _ in rings:
                if self._kept.is_ended:
                    return
                if self._gave_up and self._error is not None:
                    raise WorkloadAPIError(self._error.detail, code=self._error.code, hint=self._error.hint)
                value = self.latest
                if value is not seen:
                    seen = value
                    yield value

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` in the follower's thread whenever `latest` changes; returns a function that stops this."""
        return self._bell.subscribe(callback)

    def end(self) -> None:
        """End the stream without waiting for the thread; a second call, for example by a subscriber, does nothing."""
        if self._kept.end():
            self._bell.ring()

    def take(self, step: Deliver[_Value] | Discard) -> None:
        """Store a message's value or error."""
        match step:
            case Deliver(value=value):
                with self._changing:
                    self._value, self._error = value, None
                self._bell.ring()
            case Discard(error=error):
                with self._changing:
                    self._error = _as_answer(error)

    def ended(self, step: Reconnect | GiveUp) -> timedelta | None:
        """Note how the stream ended."""
        with self._changing:
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
            self._bell.ring()
        return None if isinstance(step, GiveUp) else step.delay


def _as_answer(error: SVIDError) -> WorkloadAPIError:
    if isinstance(error, WorkloadAPIError):
        return error
    return WorkloadAPIError(f"the Workload API sent an unusable message: {error}", code="OK", clause=error.clause)
