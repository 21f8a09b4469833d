"""The state machine of one Workload API stream: when to reconnect, when to give up, and when to stop using the value we hold.

Sans-IO: messages, endings and times go in, steps come out. svid/workloadapi/keptstream opens the streams and waits.
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
)  # short, because the socket is local, and a workload without an identity can do nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver(Generic[_Value]):
    """Replace the value that is held with this one."""

    value: _Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Report an unusable message; keep the value that is held, and the stream."""

    error: SVIDError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """Open the stream again after the delay; if `denied`, also stop using the value that is held now."""

    delay: timedelta
    error: WorkloadAPIError
    denied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Stop: asking again is useless."""

    error: WorkloadAPIError


class Watch(Generic[_Message, _Value]):
    """One stream that is opened again whenever it ends, until the server's answer shows that this is useless.

    Args:
        decode: converts a message to a value, or raises SVIDError.
        jitter: returns a number in [0, 1).
        repeats: whether a message equal to the one before also counts, as a heartbeat does.

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
        """Note that the stream is being opened at this moment of a monotonic clock."""
        self._opened_at = at
        self._heard = False

    def received(self, message: _Message) -> Deliver[_Value] | Discard | None:
        """Take a message, and return the next step; None if the message only repeats the one before."""
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
        """Note that the stream ended, with or without an error, and return the next step.

        A stream that lived a while and sent something useful is opened again at once; otherwise the delay grows each time. CANCELLED is
        not final: closing a source does not come through here, and anything on the way may reset a stream.
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
