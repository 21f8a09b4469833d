"""What one watched stream of the Workload API means: when to reconnect, when to give up, when to stop using what one holds.

Sans-IO: messages, endings and moments come in, steps go out. Who opens streams and waits is svid/workloadapi/sources.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from svid.backoff import Backoff
from svid.errors import SVIDError, WorkloadAPIError

__all__ = ["Deliver", "Discard", "GiveUp", "Reconnect", "Watch"]

_Message = TypeVar("_Message")
_Value = TypeVar("_Value")

_FINAL = frozenset({"INVALID_ARGUMENT", "UNIMPLEMENTED"})
_DENIED = "PERMISSION_DENIED"
_HEALTHY_SECONDS = 1.0
_BACKOFF = Backoff(
    maximum=timedelta(seconds=2)
)  # the socket is local, and a workload without identity can do nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver(Generic[_Value]):
    """Replace what is held by this."""

    value: _Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Report a message that cannot be used; what is held stays, and so does the stream."""

    error: SVIDError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """Open the stream again after the delay; where `denied`, stop using what is held, now."""

    delay: timedelta
    error: WorkloadAPIError
    denied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Asking again is of no use."""

    error: WorkloadAPIError


class Watch(Generic[_Message, _Value]):
    """One stream that is opened again whenever it ends, until the server says that this is of no use.

    Args:
        decode: makes a value of a message, or raises SVIDError.
        jitter: gives a number in [0, 1).
        repeats: whether a message that says what the one before said is one, too, as a sign of life is.

    Source: SPIFFE Workload Endpoint 6 and Appendix A, SPIFFE Workload API 4
    """

    def __init__(
        self,
        decode: Callable[[_Message], _Value],
        jitter: Callable[[], float],
        backoff: Backoff = _BACKOFF,
        *,
        repeats: bool = False,
    ) -> None:
        self._decode = decode
        self._jitter = jitter
        self._backoff = backoff
        self._repeats = repeats
        self._delays: Iterator[timedelta] = self._backoff.delays(jitter)
        self._opened_at = 0.0
        self._heard = False
        self._last: _Message | None = None

    def opened(self, at: float) -> None:
        """The stream is being opened at this moment of a monotonic clock."""
        self._opened_at = at
        self._heard = False

    def received(self, message: _Message) -> Deliver[_Value] | Discard | None:
        """A message came; None where it only says what the one before said."""
        if not self._repeats and message == self._last:
            self._heard = True
            return None
        try:
            value = self._decode(message)
        except SVIDError as e:
            return Discard(error=e)
        self._heard = True
        self._last = None if self._repeats else message
        return Deliver(value=value)

    def ended(self, at: float, error: WorkloadAPIError | None = None) -> Reconnect | GiveUp:
        """The stream ended, with an error or without one.

        A stream that lived a while and was of use is opened again at once; another one waits, ever longer. CANCELLED is no end for good:
        whoever closes a source does not ask here, and on the way anybody may reset a stream.
        """
        if error is None:
            error = WorkloadAPIError("the Workload API ended the stream", code="OK")
        if error.code in _FINAL:
            return GiveUp(error=error)
        denied = error.code == _DENIED
        if denied:
            self._last = None
        if self._heard and at - self._opened_at >= _HEALTHY_SECONDS:
            self._delays = self._backoff.delays(self._jitter)
            if not denied:
                return Reconnect(delay=timedelta(), error=error, denied=False)
        return Reconnect(delay=next(self._delays), error=error, denied=denied)
