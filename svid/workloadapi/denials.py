"""What a source knows of denials: one stream of the attestor's Denials service, followed for as long as the source is open.

What is denied stays denied, whatever the stream does: it ends, begins anew, comes from a restored issuer. A denial is forgotten only when
its credential ended long ago. Which age is too old is decided by whoever refuses (svid/tls); what a message says, by svid/wire/denials.
"""

import logging
import secrets
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import NamedTuple

from svid.clock import Clock
from svid.denials import Denials
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

__all__ = ["SILENT_AFTER", "FollowedDenials"]

SILENT_AFTER = timedelta(seconds=15)
"""How long nothing may come from an attestor that has told before: it says something every 5 s."""

_ASK_AGAIN = timedelta(minutes=1)
_FORGET_EVERY_SECONDS = 60.0

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class _Word(NamedTuple):
    """How old the issuer's last word was, and at which moment of the monotonic clock."""

    age: timedelta
    at: float


class FollowedDenials:
    """The denials that came on a stream; a svid.source.KnowsDenials that may be asked from any thread.

    Args:
        reconnect: leaves a connection whose other end has fallen silent; None: the client's own does it.
        ask_again: how long to wait where there is no such service, which another attestor on this socket may have.
        silent_after: how long nothing may come from an attestor that has told before.

    Attributes:
        threads: of the stream, of the receipts, and of the silence; over soon after `end` and the client's end.
    """

    def __init__(
        self,
        client: WorkloadAPIClient,
        clock: Clock,
        *,
        reconnect: Callable[[], None] | None = None,
        ask_again: timedelta = _ASK_AGAIN,
        silent_after: timedelta = SILENT_AFTER,
    ) -> None:
        self._clock = clock
        self._reconnect = reconnect or client.reconnect
        self._ask_again = ask_again
        self._target = client.target
        self._is_orphan = False
        self._held: dict[TrustDomain, Denials] = {}
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
        self._silence = Silence(silent_after, self._leave)
        self.threads = (self._kept.thread, self._points.thread, self._silence.thread)

    def start(self) -> None:
        """Open the stream."""
        for thread in self.threads:
            thread.start()

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        """Whether this serial or jti of that trust domain is denied, as far as is known now."""
        held = self._held.get(trust_domain)
        return held is not None and number in held

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        """Have `callback` told which numbers are denied from now on; returns what ends that.

        Where it raises, it is told the same again with the next message.

        Raises:
            SVIDError: a name of the point that is empty or longer than 256 bytes.
        """
        return self._points.register(callback, point)

    @property
    def is_told(self) -> bool:
        """Whether somebody tells now what is denied, and has told all of it."""
        return self._is_whole

    def denials_age(self) -> timedelta | None:
        """How old the issuer's last word is that stands behind `is_denied`; None: nobody tells."""
        word = self._word
        return None if word is None else word.age + timedelta(seconds=self._clock.monotonic() - word.at)

    def demand(self) -> None:
        """Refuse where it is not known yet what is denied, nor that nobody tells.

        Raises:
            WorkloadAPIError: UNAVAILABLE; also in a process that was forked, where nobody tells any more.
        """
        if self._is_orphan:
            raise WorkloadAPIError(
                "source: expected one that this process made, found one from before a fork", code="UNAVAILABLE"
            )
        if not self._is_known:
            why = f": {self._error}" if self._error else ""
            raise WorkloadAPIError(f"the Workload API has not said yet what is denied{why}", code="UNAVAILABLE")

    def wait(self, timeout: timedelta) -> None:
        """Wait for everything that is denied now; raises as `demand`."""
        self._bell.wait(lambda: self._is_known, timeout)
        self.demand()

    async def ready(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the error says why nothing came
        """As `wait`, without holding up the event loop."""
        await self._bell.until(lambda: self._is_known, timeout)
        self.demand()

    def end(self) -> None:
        """End the stream and the receipts, without waiting for their threads; what is denied stays denied."""
        self._points.end()
        self._silence.end()
        self._kept.end()

    def orphan(self) -> None:
        """Refuse from now on, in a process that was forked: the threads that would hear of denials are its parent's."""
        self._is_orphan = True

    def take(self, step: Deliver[DenialsMessage] | Discard) -> None:
        """Hold what a message says.

        Raises:
            WorkloadAPIError: a message could not be read: a snapshot, on another stream, brings what it said. Of a snapshot, the rest is
                taken first.
        """
        self._silence.heard()
        match step:
            case Discard(error=error):
                self._missed = True
                self._error = WorkloadAPIError(str(error), code="DATA_LOSS", clause=error.clause)
                if self._is_whole:
                    raise self._error
            case Deliver(value=message):
                held = self._held.setdefault(message.trust_domain, Denials())
                self._points.tell(message.trust_domain, held.add(message.denials), held)
                if message.epoch is not None:
                    self._stand_at(message.epoch, message)

    def ended(self, step: Reconnect | GiveUp) -> timedelta | None:
        """Take note that the stream ended: what comes next begins with a snapshot."""
        self._error = step.error
        self._silence.broke(for_long=isinstance(step, GiveUp))
        self._is_whole = self._missed = False
        self._points.forget_receipts()
        if step.error.code == "UNIMPLEMENTED":
            self._know()
        return self._ask_again if isinstance(step, GiveUp) else step.delay

    def _leave(self) -> None:
        _log.warning("no word on revocations from %s for too long: connecting anew", self._target)
        self._reconnect()

    def _stand_at(self, epoch: Epoch, message: DenialsMessage) -> None:
        """All up to this epoch is held, if all of this stream could be read."""
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
        """Forget what is long over, by whichever clock is behind: the wall clock may be set forward, and back again."""
        at = self._clock.monotonic()
        if at - self._forgot_at < _FORGET_EVERY_SECONDS:
            return
        self._forgot_at = at
        now = min(self._clock.now(), self._origin + timedelta(seconds=at))
        for held in self._held.values():
            held.forget(now)
