"""Who may call the identities of this process: it follows one stream of the attestor's Callers service for as long as its source is open.

The list that came last stays until the next one, or until the attestor says that this process has no identity. svid/tls/declared decides
whom to refuse, and which age is too old.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

from svid.clock import Clock
from svid.errors import WorkloadAPIError
from svid.spiffeid import SpiffeID
from svid.wire.callers import CallersMessage, read_declared
from svid.wire.pb import callers_pb2
from svid.workloadapi.bell import Bell
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.keptstream import KeptStream
from svid.workloadapi.watch import Deliver, Discard, GiveUp, Reconnect, Watch

__all__ = ["FollowedCallers"]

_ASK_AGAIN = timedelta(minutes=1)
_UNKNOWN_SERVICE = (
    "it has no such service: only Cognomen's attestor tells who may call, and earlier releases of it do not"
)

_log = logging.getLogger(
    __name__
)  # without a NullHandler, so that warnings go to standard error if the application has not set up logging


class _Word(NamedTuple):
    """How old the issuer's data was, and the moment of the monotonic clock at which that was true."""

    age: timedelta | None
    at: float


class FollowedCallers:
    """The callers that came on a stream; it is a svid.source.DeclaredCallers, and can be used from any thread.

    Args:
        ask_again: how long to wait if the attestor has no such service; a later attestor on this socket may have it.

    Attributes:
        thread: follows the stream; it ends soon after `end` and the end of the client.
    """

    def __init__(self, client: WorkloadAPIClient, clock: Clock, *, ask_again: timedelta = _ASK_AGAIN) -> None:
        self._client = client
        self._clock = clock
        self._ask_again = ask_again
        self._bell = Bell()
        self._is_told = False
        self._renew()

    def _renew(self) -> None:
        self._callers: Mapping[SpiffeID, frozenset[SpiffeID] | None] | None = None
        self._coming: dict[SpiffeID, frozenset[SpiffeID] | None] = {}
        self._has_list = False  # on this stream
        self._word: _Word | None = None
        self._error: WorkloadAPIError | None = None
        watch = Watch[callers_pb2.DeclaredCallers, CallersMessage](
            read_declared, jitter=lambda: secrets.randbelow(1000) / 1000, repeats=True
        )
        self._kept = KeptStream("svid-callers", self._client.open_callers, watch, self, self._clock)
        self.thread = self._kept.thread

    def start(self) -> None:
        """Open the stream."""
        self.thread.start()

    def begin_anew(self) -> None:
        """In a forked child, open a stream again, with no list yet; subscribers stay."""
        self._renew()
        self.start()

    def of(self, spiffe_id: SpiffeID | None) -> frozenset[SpiffeID] | None:
        """Who may call that identity, or the default one; None if nobody declared it.

        Raises:
            WorkloadAPIError: it is not known, or this process does not have that identity.
        """
        callers = self._callers
        if self._kept.is_ended:
            raise WorkloadAPIError("source: already closed", code="CANCELLED")
        if callers is None:
            why = self._error
            if why is None:
                raise WorkloadAPIError("the Workload API has not said yet who may call", code="UNAVAILABLE")
            hint = _UNKNOWN_SERVICE if why.code == "UNIMPLEMENTED" else why.hint
            raise WorkloadAPIError(
                f"the Workload API does not say who may call: {why.detail}", code=why.code, hint=hint
            )
        own = next(iter(callers), None) if spiffe_id is None else spiffe_id
        if own is None or own not in callers:
            found = ", ".join(map(str, callers)) or "none"
            raise WorkloadAPIError(f"expected an identity {own}, found {found}", code="NOT_FOUND")
        return callers[own]

    def silent_for(self) -> timedelta | None:
        """How long ago the attestor sent something; None if it never did."""
        word = self._word
        return None if word is None else timedelta(seconds=self._clock.monotonic() - word.at)

    def age(self) -> timedelta | None:
        """How old the issuer's data behind `of` is; None if it is not known."""
        word = self._word
        if word is None or word.age is None:
            return None
        return word.age + timedelta(seconds=self._clock.monotonic() - word.at)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` in the stream's thread when there is a new list; returns a function that stops this."""
        return self._bell.subscribe(callback)

    @property
    def subscribers(self) -> int:
        """How many callbacks there are, including those of waiting tasks."""
        return self._bell.callbacks

    def settle(self, timeout: timedelta) -> None:
        """Wait for the first list, or until the attestor says that it has none; no longer than the timeout."""
        self._bell.wait(self._is_settled, timeout)

    def wait(self, timeout: timedelta) -> None:
        """Wait for the first list.

        Raises:
            WorkloadAPIError: it did not come in time, or will not come.
        """
        self.settle(timeout)
        self._demand()

    async def ready(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the error says why nothing came
        """Do the same as `wait` without blocking the event loop."""
        await self._bell.until(self._is_settled, timeout)
        self._demand()

    def end(self) -> None:
        """End the stream without waiting for its thread."""
        if self._kept.end():
            self._bell.ring()

    def take(self, step: Deliver[CallersMessage] | Discard) -> None:
        """Store the contents of a message.

        Raises:
            WorkloadAPIError: the message could not be read, so the list would not be whole; a new stream brings it again.
        """
        match step:
            case Discard(error=error):
                raise WorkloadAPIError(str(error), code="DATA_LOSS", clause=error.clause)
            case Deliver(value=message):
                if message.unchanged:
                    if self._has_list:
                        self._word = _Word(message.age, self._clock.monotonic())
                    return
                for spiffe_id, callers in message.callers.items():
                    known = self._coming.get(spiffe_id)
                    self._coming[spiffe_id] = callers if known is None else known | (callers or frozenset())
                if not message.more:
                    self._take_list(message.age)

    def ended(self, step: Reconnect | GiveUp) -> timedelta | None:
        """Note that the stream ended; the next one begins with a whole list."""
        self._error = step.error
        self._coming, self._has_list = {}, False
        match step:
            case GiveUp():
                self._tell_once(step.error)
                self._callers = None
                self._bell.ring()
                return self._ask_again
            case Reconnect(denied=denied, delay=delay):
                if denied:
                    self._callers = None
                    self._bell.ring()
                return delay

    def _take_list(self, age: timedelta | None) -> None:
        self._word = _Word(age, self._clock.monotonic())  # first: a list is never older than it seems
        self._callers, self._coming = self._coming, {}
        self._has_list, self._error, self._is_told = True, None, False
        self._bell.ring()

    def _tell_once(self, error: WorkloadAPIError) -> None:
        if not self._is_told:
            self._is_told = True
            _log.warning("everybody is refused: %s does not say who may call: %s", self._client.target, error)

    def _is_settled(self) -> bool:
        has_none = self._error is not None and self._error.code in {"UNIMPLEMENTED", "INVALID_ARGUMENT"}
        return self._callers is not None or has_none or self._kept.is_ended

    def _demand(self) -> None:
        if self._callers is None or self._kept.is_ended:
            self.of(None)
