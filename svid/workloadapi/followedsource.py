"""The common base of both sources: a client, the streams that they follow, the wait for the first answer, and forks.

svid/workloadapi/sources uses the answers.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Generic, Self, TypeVar

from google.protobuf.message import Message

from svid.bundle import Bundle
from svid.clock import Clock, SystemClock
from svid.errors import BundleError, WorkloadAPIError
from svid.source import demand_duration
from svid.spiffeid import SpiffeID, TrustDomain
from svid.workloadapi.callers import FollowedCallers
from svid.workloadapi.client import Stream, WorkloadAPIClient
from svid.workloadapi.denials import FollowedDenials
from svid.workloadapi.follower import Follower
from svid.workloadapi.forks import HINT, forks
from svid.workloadapi.reach import explained
from svid.workloadapi.shareddenials import DenialsShare

__all__ = ["FollowedSource"]

_FIRST_IN_CHILD = timedelta(seconds=5)
_WORTH_A_WORD = timedelta(seconds=1)
_CLOCK = SystemClock()  # one object, because only sources with the same clock share a stream
_log = logging.getLogger(
    __name__
)  # without a NullHandler, so that warnings go to standard error if the application has not set up logging

_Message = TypeVar("_Message", bound=Message)
_Value = TypeVar("_Value")


class FollowedSource(ABC, Generic[_Message, _Value]):
    """The common base of the sources: a client, and the streams that they follow."""

    def __init__(
        self,
        socket: str | None,
        timeout: timedelta | None,
        clock: Clock | None,
        open_stream: Callable[[WorkloadAPIClient], Stream[_Message]],
        decode: Callable[[_Message], _Value],
    ) -> None:
        if timeout is not None:
            demand_duration(timeout, field="timeout")
        forks.demand_usable()
        self._clock = clock or _CLOCK
        self._is_closed = False
        self._generation = forks.generation
        self._awaited_until: float | None = None
        self._client = client = WorkloadAPIClient(socket)
        self._follower = Follower(lambda: open_stream(client), decode, self._clock)  # not self: that would be a cycle
        self._share = DenialsShare(self._client, self._clock)
        self._callers: FollowedCallers | None = None  # until somebody asks
        self.renew()
        forks.renew(self)
        if timeout is not None:
            with ExitStack() as on_error:
                on_error.callback(self.close)
                self._wait_until(self._clock.monotonic() + timeout.total_seconds(), timeout)
                on_error.pop_all()

    async def _connected(self, longest: timedelta) -> Self:
        with ExitStack() as on_error:
            on_error.callback(self.close)
            demand_duration(longest, field="timeout")
            end = self._clock.monotonic() + longest.total_seconds()
            for one in (self._follower, self._denials):
                with suppress(WorkloadAPIError):
                    await one.ready(min(_WORTH_A_WORD, self._left(end)))
                with self._telling(one, longest):
                    await one.ready(self._left(end))
            on_error.pop_all()
        return self

    @property
    def _denials(self) -> FollowedDenials:
        return self._share.followed

    def renew(self) -> None:
        """In a forked child, replace the lock: a thread of the parent may have held it."""
        self._changing = threading.Lock()

    def _begin_anew(self) -> None:
        """In a child forked since the last call, follow the streams again, with no values yet.

        Raises:
            WorkloadAPIError: CANCELLED if the source was closed, UNAVAILABLE if gRPC cannot work in this process.
        """
        if self._generation == forks.generation:
            return
        with self._changing:
            if self._generation == forks.generation:
                return
            if self._is_closed:
                raise WorkloadAPIError("source: already closed", code="CANCELLED")
            forks.demand_usable()
            self._awaited_until = self._clock.monotonic() + _FIRST_IN_CHILD.total_seconds()
            self._follower.begin()
            self._share.begin_anew()
            if self._callers is not None:
                self._callers.begin_anew()
            self._generation = forks.generation

    def _demand_here(self) -> None:
        """Do the same, and wait for the first answer, unless this is a callback in one of the source's own threads.

        Raises:
            WorkloadAPIError: as `_begin_anew`; or the answer did not come within 5 s, or was a refusal.
        """
        self._begin_anew()
        if self._awaited_until is None or self._is_own_thread():
            return
        try:
            self._wait_until(self._awaited_until, _FIRST_IN_CHILD)
        except WorkloadAPIError as e:
            if e.code != "UNAVAILABLE":
                raise
            raise WorkloadAPIError(
                f"{e.detail}, in a process that was forked after the source was made", code=e.code, hint=HINT
            ) from e
        if self._callers is not None:
            self._callers.settle(self._left(self._awaited_until))
        self._awaited_until = None

    def _wait_until(self, end: float, longest: timedelta) -> None:
        for one in (self._follower, self._denials):
            with suppress(WorkloadAPIError):
                one.wait(min(_WORTH_A_WORD, self._left(end)))
            with self._telling(one, longest):
                one.wait(self._left(end))

    def _left(self, end: float) -> timedelta:
        return timedelta(seconds=max(0.0, end - self._clock.monotonic()))

    @contextmanager
    def _telling(self, one: "Follower[_Message, _Value] | FollowedDenials", longest: timedelta) -> Iterator[None]:
        """Log what we still wait for, if anything, and explain the error if the answer does not come."""
        try:
            one.wait(timedelta())
        except WorkloadAPIError as e:
            if longest > _WORTH_A_WORD:
                why = self._explained(e, one, _WORTH_A_WORD)
                _log.warning("waiting for the Workload API for up to %g s: %s", longest.total_seconds(), why)
        try:
            yield
        except WorkloadAPIError as e:
            raise self._explained(e, one, longest) from e

    def _explained(
        self, error: WorkloadAPIError, one: "Follower[_Message, _Value] | FollowedDenials", waited: timedelta
    ) -> WorkloadAPIError:
        is_silent = one is self._follower and not self._follower.has_heard and not self._is_closed
        return explained(error, self._client.target, waited, is_silent=is_silent, answers=self._client.answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the streams and their threads; the source must not be used afterwards. One of the source's callbacks may call this as well.

        Later denials no longer end connections that a context of this source made: close those connections first.
        """
        with self._changing:
            self._is_closed = True
        if self._generation != forks.generation:  # its streams and threads are not in this process
            return
        self._follower.end()
        ending = [self._follower.thread]
        if self._callers is not None:
            self._callers.end()
            ending.append(self._callers.thread)
        ending += self._share.close()
        if not self._is_own_thread():  # two callbacks that both close must not wait for each other
            for thread in ending:
                thread.join()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    def _is_own_thread(self) -> bool:
        """Whether this is a callback in one of the source's own threads."""
        callers = () if self._callers is None else (self._callers.thread,)
        return threading.current_thread() in (self._follower.thread, *self._denials.threads, *callers)

    def declared_callers(self) -> FollowedCallers:
        """Who may call the identities of this process; the first call opens a stream for it, with a thread.

        Raises:
            WorkloadAPIError: CANCELLED if the source was closed.
        """
        self._begin_anew()
        if self._callers is not None and not self._is_closed:
            return self._callers
        with self._changing:
            if self._is_closed:
                raise WorkloadAPIError("source: already closed", code="CANCELLED")
            if self._callers is None:
                self._callers = FollowedCallers(self._client, self._clock)
                self._callers.start()
            return self._callers

    def called_as(self) -> SpiffeID | None:
        """The identity that peers call when they call us; None means the default one."""
        return None

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        """Whether this serial or jti of that trust domain is denied, as far as we know now."""
        return self._denials.is_denied(trust_domain, number)

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        """Call `callback` with newly denied numbers, and with no numbers at every other message; returns a function that stops this.

        `is_denied` is True for the numbers before the callback is called. The source calls it from one of its threads, one call at a time:
        it must be quick. When it returns, the attestor learns that this enforcement point enforces the denials. If it raises, the error is
        logged, the attestor learns nothing, and the callback is called again with the same numbers and those that are new since then.

        Args:
            point: the name of the enforcement point, for people; at most 256 bytes.

        Raises:
            SVIDError: the point's name is empty or too long.
        """
        return self._share.on_denied(callback, point=point)

    def denials_age(self) -> timedelta | None:
        """How old the issuer's data behind `is_denied` is; None if nobody reports denials, as with an attestor other than ours."""
        return self._denials.denials_age()

    @property
    @abstractmethod
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """The bundles of all trusted trust domains."""

    def bundle_for(self, trust_domain: TrustDomain) -> Bundle:
        """The bundle of a trust domain.

        Raises:
            WorkloadAPIError: as `bundles`.
            BundleError: that trust domain is not trusted.
        """
        bundle = self.bundles.get(trust_domain)
        if bundle is None:
            raise BundleError(f"bundle: there is none for trust domain {trust_domain}", clause="Workload API 4.6")
        return bundle

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when there is a new value, or no value any more; returns a function that stops this.

        It is called in the source's own thread: it must be quick, and its errors are logged.
        """
        return self._follower.subscribe(callback)
