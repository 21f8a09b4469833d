"""The latest value that came on one stream of the Workload API, for whoever asks or waits.

How the stream is kept is svid/workloadapi/keptstream's; what the values are for, svid/workloadapi/sources'.
"""

import secrets
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Generic, TypeVar

from google.protobuf.message import Message

from svid.clock import Clock
from svid.errors import SVIDError, WorkloadAPIError
from svid.workloadapi.bell import Bell
from svid.workloadapi.client import Stream
from svid.workloadapi.keptstream import KeptStream
from svid.workloadapi.watch import Deliver, Discard, GiveUp, Reconnect, Watch

__all__ = ["Follower"]

_Message = TypeVar("_Message", bound=Message)
_Value = TypeVar("_Value")


class Follower(Generic[_Message, _Value]):
    """The latest value of a stream; may be asked from any thread.

    Args:
        open_stream: opens the stream, each time anew.
        decode: makes a value of a message, or raises SVIDError.

    Attributes:
        thread: in which the stream is followed; over soon after `end`.
    """

    def __init__(
        self, open_stream: Callable[[], Stream[_Message]], decode: Callable[[_Message], _Value], clock: Clock
    ) -> None:
        self._bell = Bell()
        self._changing = threading.Lock()
        self._value: _Value | None = None
        self._error: WorkloadAPIError | None = None
        self._gave_up = False
        watch = Watch[_Message, _Value](decode, jitter=lambda: secrets.randbelow(1000) / 1000)
        self._kept = KeptStream("svid-follower", open_stream, watch, self, clock)
        self.thread = self._kept.thread
        self.thread.start()

    @property
    def latest(self) -> _Value:
        """The latest value.

        Raises:
            WorkloadAPIError: none came yet, or the Workload API said that what came must not be used any more; `code` says which.
        """
        with self._changing:
            self.demand_open()
            if self._value is not None:
                return self._value
            if self._error is not None:
                raise WorkloadAPIError(str(self._error), code=self._error.code, clause=self._error.clause)
            raise WorkloadAPIError("the Workload API has not answered yet", code="UNAVAILABLE")

    def demand_open(self) -> None:
        """Refuse once it was ended.

        Raises:
            WorkloadAPIError: CANCELLED.
        """
        if self._kept.is_ended:
            raise WorkloadAPIError("source: expected an open one, found it closed", code="CANCELLED")

    def _is_settled(self) -> bool:
        return self._value is not None or self._gave_up or self._kept.is_ended

    def wait(self, timeout: timedelta) -> None:
        """Wait for the first value.

        Raises:
            WorkloadAPIError: it did not come in time, or never will.
        """
        self._bell.wait(self._is_settled, timeout)
        _ = self.latest

    async def ready(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the error says why nothing came
        """As `wait`, without holding up the event loop."""
        await self._bell.until(self._is_settled, timeout)
        _ = self.latest

    async def changes(self) -> AsyncIterator[_Value]:
        """Yield the latest value, now and whenever there is a newer one; those between are left out. Ends when the source is closed.

        Raises:
            WorkloadAPIError: what was held must not be used any more, or nothing will ever come again.
        """
        seen: _Value | None = None
        async for _ in self._bell.rings():
            if self._kept.is_ended:
                return
            if self._gave_up and self._error is not None:
                raise WorkloadAPIError(str(self._error), code=self._error.code)
            value = self.latest
            if value is not seen:
                seen = value
                yield value

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called whenever `latest` gives something else, from the follower's thread; returns what ends that."""
        return self._bell.subscribe(callback)

    def end(self) -> None:
        """End the stream, without waiting for the thread; ending again, as a subscriber may that hears of it, does nothing."""
        if self._kept.end():
            self._bell.ring()

    def take(self, step: Deliver[_Value] | Discard) -> None:
        """Hold what came."""
        match step:
            case Deliver(value=value):
                with self._changing:
                    self._value, self._error = value, None
                self._bell.ring()
            case Discard(error=error):
                with self._changing:
                    self._error = _as_answer(error)

    def ended(self, step: Reconnect | GiveUp) -> timedelta | None:
        """Take note of how the stream ended."""
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
    return WorkloadAPIError(f"the Workload API sent what cannot be used: {error}", code="OK", clause=error.clause)
