"""The denials that a source knows: it follows one stream of the attestor's Denials service for as long as the source is open.

A denied credential stays denied, even if the stream ends, starts again, or comes from a restored issuer. A denial is forgotten only when
its credential expired long ago. svid/tls decides which age is too old, and svid/wire/denials what a message means.
"""

import logging
import secrets
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from svid.clock import Clock
from svid.denials import SILENT_AFTER, Denials
from svid.errors import WorkloadAPIError
from svid.spiffeid import TrustDomain
from svid.wire.denials import DenialsMessage, Epoch, read_denied
from svid.wire.pb import denials_pb2
from svid.workloadapi.bell import Bell
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.keptstream import KeptStream
from svid.workloadapi.points import Points
from svid.workloadapi.silence import Silence
from svid.workloadapi.watch import Deliver, Discard, GiveUp, Reconnect, Watch

__all__ = ["FollowedDenials"]

_ASK_AGAIN = timedelta(minutes=1)
_FORGET_EVERY_SECONDS = 60.0
_NOTHING: Mapping[TrustDomain, Denials] = MappingProxyType({})

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class _Word(NamedTuple):
    """How old the issuer's data was, and the moment of the monotonic clock at which that was true."""

    age: timedelta
    at: float


class FollowedDenials:
    """The denials that came on a stream; it is a svid.source.KnowsDenials, and can be used from any thread.

    Args:
        reconnect: drops a connection whose other end is silent; None means the client's own `reconnect`.
        ask_again: how long to wait if the attestor has no such service; a later attestor on this socket may have it.
        silent_after: how long an attestor that has sent denials may be silent.
        held: the initial denials.

    Attributes:
        held: the denials, by trust domain.
        threads: the threads for the stream, the receipts and the silence; they end soon after `end` and the end of the client.
    """

    def __init__(
        self,
        client: WorkloadAPIClient,
        clock: Clock,
        *,
        reconnect: Callable[[], None] | None = None,
        ask_again: timedelta = _ASK_AGAIN,
        silent_after: timedelta = SILENT_AFTER,
        held: Mapping[TrustDomain, Denials] = _NOTHING,
    ) -> None:
        self._clock = clock
        self._ask_again = ask_again
        self.held: dict[TrustDomain, Denials] = dict(held)
        self._word: _Word | None = None
        self._error: WorkloadAPIError | None = None
        self._is_known = False
        self._is_whole = False
        self._missed = False
        self._forgot_at = clock.monotonic()
        self._origin = clock.now() - timedelta(seconds=self._forgot_at)
        self._bell = Bell()
        self._points = Points(client.enforced)
        watch = Watch[denials_pb2.Denied, DenialsMessage](
            read_denied, jitter=lambda: secrets.randbelow(1000) / 1000, repeats=True
        )
        self._kept = KeptStream("svid-denials", client.open_denials, watch, self, clock)
        self._silence = Silence(silent_after, partial(_leave, client.target, reconnect or client.reconnect))
        self.threads = (self._kept.thread, self._points.thread, self._silence.thread)

    def start(self) -> None:
        """Open the stream."""
        for thread in self.threads:
            thread.start()

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        """Whether this serial or jti of that trust domain is denied, as far as we know now."""
        held = self.held.get(trust_domain)
        return held is not None and number in held

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        """Call `callback` with newly denied numbers; returns a function that stops this.

        If the callback raises, it gets the same numbers again with the next message.

        Raises:
            SVIDError: the point's name is empty or longer than 256 bytes.
        """
        return self._points.register(callback, point)

    @property
    def is_told(self) -> bool:
        """Whether the attestor reports denials now, and has sent all of them."""
        return self._is_whole

    def denials_age(self) -> timedelta | None:
        """How old the issuer's data behind `is_denied` is; None if nobody reports denials."""
        word = self._word
        return None if word is None else word.age + timedelta(seconds=self._clock.monotonic() - word.at)

    def demand(self) -> None:
        """Refuse until we have the denials, or know that nobody reports them.

        Raises:
            WorkloadAPIError: UNAVAILABLE.
        """
        if not self._is_known:
            why = f": {self._error}" if self._error else ""
            raise WorkloadAPIError(f"the Workload API has not sent the denials yet{why}", code="UNAVAILABLE")

    def wait(self, timeout: timedelta) -> None:
        """Wait for all denials of this moment; raises the errors of `demand`."""
        self._bell.wait(lambda: self._is_known, timeout)
        self.demand()

    async def ready(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the error says why nothing came
        """Do the same as `wait` without blocking the event loop."""
        await self._bell.until(lambda: self._is_known, timeout)
        self.demand()

    def end(self) -> None:
        """End the stream and the receipts without waiting for their threads; denied credentials stay denied."""
        self._points.end()
        self._silence.end()
        self._kept.end()

    def take(self, step: Deliver[DenialsMessage] | Discard) -> None:
        """Store the contents of a message.

        Raises:
            WorkloadAPIError: a message could not be read. The snapshot of a new stream brings its contents again. If the message was part
                of a snapshot, the rest of the snapshot is read first.
        """
        self._silence.heard()
        match step:
            case Discard(error=error):
                self._missed = True
                self._error = WorkloadAPIError(str(error), code="DATA_LOSS", clause=error.clause)
                if self._is_whole:
                    raise self._error
            case Deliver(value=message):
                held = self.held.setdefault(message.trust_domain, Denials())
                self._points.tell(message.trust_domain, held.add(message.denials), held)
                if message.epoch is not None:
                    self._stand_at(message.epoch, message)

    def ended(self, step: Reconnect | GiveUp) -> timedelta | None:
        """Note that the stream ended; the next stream begins with a snapshot."""
        self._error = step.error
        self._silence.broke(for_long=isinstance(step, GiveUp))
        self._is_whole = self._missed = False
        self._points.forget_receipts()
        if step.error.code == "UNIMPLEMENTED":
            self._know()
        return self._ask_again if isinstance(step, GiveUp) else step.delay

    def _stand_at(self, epoch: Epoch, message: DenialsMessage) -> None:
        """Note that we hold everything up to this epoch, if every message of this stream could be read."""
        if self._missed and self._error is not None:
            raise self._error
        self._is_whole |= message.snapshot
        if not self._is_whole:
            return
        if message.age is not None:
            self._word = _Word(message.age, self._clock.monotonic())
        self._know()
        self._points.reached(epoch)
        self._forget()

    def _know(self) -> None:
        if not self._is_known:
            self._is_known = True
            self._bell.ring()

    def _forget(self) -> None:
        """Forget credentials that expired long ago by the slower of two clocks: the wall clock may be set forward, and back again."""
        at = self._clock.monotonic()
        if at - self._forgot_at < _FORGET_EVERY_SECONDS:
            return
        self._forgot_at = at
        now = min(self._clock.now(), self._origin + timedelta(seconds=at))
        for held in self.held.values():
            held.forget(now)


def _leave(target: str, reconnect: Callable[[], None]) -> None:
    _log.warning("no word on revocations from %s for too long; reconnecting", target)
    reconnect()
