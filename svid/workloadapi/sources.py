"""What a workload holds: its X509-SVIDs and JWT-SVIDs, kept up to date from the Workload API without its doing.

A source follows a stream in a thread of its own (svid/workloadapi/follower), shares that of what is denied with the other sources of its
process (svid/workloadapi/shareddenials), and may be asked from any thread or task of the process that made it, not of one that was forked
off. Nothing here decides whom to trust with which call (svid/tls) or when an identity is renewed (the attestor).
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Generic, Self, TypeVar

from google.protobuf.message import Message

from svid.bundle import Bundle
from svid.clock import Clock, SystemClock
from svid.denials import number_of_jti
from svid.errors import BundleError, JWTSVIDError, RevokedError, WorkloadAPIError, X509SVIDError
from svid.jwtsvid import JWTSVID
from svid.jwtsvid import verify as verify_jwt
from svid.spiffeid import SpiffeID, TrustDomain
from svid.wire.pb import workload_pb2 as pb
from svid.wire.workload import X509Context, read_jwt_bundles, read_x509_context
from svid.workloadapi.client import Stream, WorkloadAPIClient
from svid.workloadapi.follower import Follower
from svid.workloadapi.listed import Listed
from svid.workloadapi.shareddenials import DenialsShare
from svid.x509svid import X509SVID

__all__ = ["JWTSource", "X509Source"]

_FIRST_ANSWER = timedelta(seconds=30)
_CLOCK = SystemClock()  # one object, so that sources share by it

_Message = TypeVar("_Message", bound=Message)
_Value = TypeVar("_Value")


class _RevokedX509SVIDError(RevokedError, X509SVIDError):
    """Our own X509-SVID was revoked."""


class _RevokedJWTSVIDError(RevokedError, JWTSVIDError):
    """Somebody's JWT-SVID was revoked."""


class _Source(ABC, Generic[_Message, _Value]):
    """What the sources have in common: a client, and the streams that are followed."""

    def __init__(
        self,
        socket: str | None,
        timeout: timedelta | None,
        clock: Clock | None,
        open_stream: Callable[[WorkloadAPIClient], Stream[_Message]],
        decode: Callable[[_Message], _Value],
    ) -> None:
        self._clock = clock or _CLOCK
        self._client = WorkloadAPIClient(socket)
        self._follower = Follower(lambda: open_stream(self._client), decode, self._clock)
        self._share = DenialsShare(self._client, self._clock)
        self._denials = self._share.followed
        if timeout is not None:
            with ExitStack() as on_error:
                on_error.callback(self.close)
                until = self._clock.monotonic() + timeout.total_seconds()
                self._follower.wait(timeout)
                self._denials.wait(timedelta(seconds=max(0.0, until - self._clock.monotonic())))
                on_error.pop_all()

    async def _connected(self, longest: timedelta) -> Self:
        with ExitStack() as on_error:
            on_error.callback(self.close)
            until = self._clock.monotonic() + longest.total_seconds()
            await self._follower.ready(longest)
            await self._denials.ready(timedelta(seconds=max(0.0, until - self._clock.monotonic())))
            on_error.pop_all()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the streams and their threads; the source must not be asked any more. A callback of the source's may do it, too.

        What is denied from now on ends no connection any more that a context of this source made: close them first.
        """
        self._follower.end()
        ending = (self._follower.thread, *self._share.close())
        callers = (self._follower.thread, *self._denials.threads)
        if threading.current_thread() not in callers:  # two callbacks that close at once must not wait for each other
            for thread in ending:
                thread.join()

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        """Whether this serial or jti of that trust domain is denied, as far as is known now."""
        return self._denials.is_denied(trust_domain, number)

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        """Have `callback` told which numbers are denied from now on, of none at each other word; returns what ends that.

        It is called after `is_denied` says so, in a thread of the source's, one call at a time: it must be quick. Once it has returned, the
        attestor is told that this enforcement point enforces them. Where it raises, that is logged, the attestor is not told, and it is
        called again with the same and what is new since.

        Args:
            point: what enforces it, for people; at most 256 bytes.

        Raises:
            SVIDError: a name of the point that is empty or too long.
        """
        return self._share.on_denied(callback, point=point)

    def denials_age(self) -> timedelta | None:
        """How old the issuer's last word is that stands behind `is_denied`; None: nobody tells, as on a socket of another attestor."""
        return self._denials.denials_age()

    @property
    @abstractmethod
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """The bundles of all trust domains that are trusted."""

    def bundle_for(self, trust_domain: TrustDomain) -> Bundle:
        """The bundle of a trust domain.

        Raises:
            WorkloadAPIError: as `bundles`.
            BundleError: that trust domain is not trusted.
        """
        bundle = self.bundles.get(trust_domain)
        if bundle is None:
            raise BundleError(f"bundle: expected one of {trust_domain}, found none", clause="Workload API 4.6")
        return bundle

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called when there is something new to ask for, or nothing any more; returns what ends that.

        It is called in the source's own thread: it must be quick, and an error of it is logged.
        """
        return self._follower.subscribe(callback)


def _first(svids: Sequence[X509SVID]) -> X509SVID:
    return svids[0]


class X509Source(_Source[pb.X509SVIDResponse, X509Context]):
    """The X509-SVID of this process and the bundles to check its peers, as of now.

    Made by the constructor, which waits for the first answer, or in asyncio by `await X509Source.connect()`; a context manager either
    way. While the Workload API is away the last answer stays, until it expires.

    Which credentials are denied is a part of the first answer: where the attestor tells, all that is denied then is in force once the
    source is made. Another attestor than ours says at once that it does not tell.

    Args:
        socket: `unix:///path` or `tcp://ip:port`; without it SPIFFE_ENDPOINT_SOCKET says where.
        timeout: how long to wait for the first answer; None for not at all: until it came, `svid` and `bundles` raise.
        pick: chooses among several SVIDs; the first is the default identity.

    Raises:
        AddressError: no address, or none that can be used.
        WorkloadAPIError: no usable answer in time; PERMISSION_DENIED where there is no identity for this process.
    """

    def __init__(
        self,
        socket: str | None = None,
        *,
        timeout: timedelta | None = _FIRST_ANSWER,
        pick: Callable[[Sequence[X509SVID]], X509SVID] = _first,
        clock: Clock | None = None,
    ) -> None:
        self._pick = pick
        self._listed = Listed()
        super().__init__(socket, timeout, clock, WorkloadAPIClient.open_x509_contexts, read_x509_context)

    @classmethod
    async def connect(
        cls,
        socket: str | None = None,
        *,
        timeout: timedelta = _FIRST_ANSWER,  # noqa: ASYNC109 - the error says why nothing came
        pick: Callable[[Sequence[X509SVID]], X509SVID] = _first,
        clock: Clock | None = None,
    ) -> Self:
        """Make a source and wait for the first answer, without holding up the event loop; raises as the constructor."""
        source = cls(socket, timeout=None, pick=pick, clock=clock)
        return await source._connected(timeout)

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        """Whether this serial of that trust domain is denied, as far as is known now.

        While nobody tells of denials, by the revocation lists that came with the bundles as well: those close no connection (`on_denied`).
        """
        is_denied = super().is_denied(trust_domain, number)
        if is_denied or self._denials.is_told:
            return is_denied
        try:
            return self._listed.is_denied(trust_domain, number, self.context)
        except WorkloadAPIError:  # there is no answer, and without one there are no bundles either
            return False

    @property
    def context(self) -> X509Context:
        """Every SVID and bundle of the latest answer, expired or not.

        Raises:
            WorkloadAPIError: there is none, or the Workload API said to stop using it (PERMISSION_DENIED).
        """
        return self._follower.latest

    @property
    def svid(self) -> X509SVID:
        """The X509-SVID to present now.

        Raises:
            WorkloadAPIError: as `context`, and while it is not known what is denied.
            X509SVIDError: it expired, or it was revoked (a RevokedError, too), and no newer one came.
        """
        svid = self._pick(self.context.svids)
        self._denials.demand()
        if self.is_denied(svid.spiffe_id.trust_domain, svid.serial):
            raise _RevokedX509SVIDError(f"svid: expected a newer one, found only one that was revoked: {svid.serial:x}")
        if self._clock.now() >= svid.not_after:
            raise X509SVIDError(
                f"svid: expected a newer one, found only one that expired at {svid.not_after.isoformat()}"
            )
        return svid

    @property
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """The bundles to check X509-SVIDs with.

        Raises:
            WorkloadAPIError: as `context`, and while it is not known what is denied.
        """
        bundles = self.context.bundles
        self._denials.demand()
        return bundles

    def changes(self) -> AsyncIterator[X509Context]:
        """Yield the context, now and whenever there is a newer one; ends when the source is closed.

        Raises:
            WorkloadAPIError: the identity was taken away (PERMISSION_DENIED), or the Workload API is of no use.
        """
        return self._follower.changes()


class JWTSource(_Source[pb.JWTBundlesResponse, Mapping[TrustDomain, Bundle]]):
    """JWT-SVIDs of this process, and the bundles to verify those of others.

    Args and errors as X509Source; it waits for the first bundles.
    """

    def __init__(
        self, socket: str | None = None, *, timeout: timedelta | None = _FIRST_ANSWER, clock: Clock | None = None
    ) -> None:
        super().__init__(socket, timeout, clock, WorkloadAPIClient.open_jwt_bundles, read_jwt_bundles)

    @classmethod
    async def connect(
        cls,
        socket: str | None = None,
        *,
        timeout: timedelta = _FIRST_ANSWER,  # noqa: ASYNC109 - the error says why nothing came
        clock: Clock | None = None,
    ) -> Self:
        """Make a source and wait for the first bundles, without holding up the event loop; raises as the constructor."""
        source = cls(socket, timeout=None, clock=clock)
        return await source._connected(timeout)

    def fetch(self, audience: str | Collection[str], *, spiffe_id: SpiffeID | str | None = None) -> JWTSVID:
        """Fetch a JWT-SVID for that audience: of the default identity, or of that one.

        Asks the Workload API, which keeps tokens that are still fresh; in asyncio: `await asyncio.to_thread(source.fetch, audience)`.

        Raises:
            WorkloadAPIError: PERMISSION_DENIED where there is no such identity for this process; any other status.
            JWTSVIDError: an answer that is none.
        """
        self._follower.demand_open()
        return self._client.fetch_jwt_svid(audience, spiffe_id=spiffe_id)

    def verify(self, token: str, audience: str | Collection[str]) -> JWTSVID:
        """Check a token that somebody sent us, and return whose it is.

        Args:
            audience: what we are called; one of these must be in the token.

        Raises:
            JWTSVIDError: the token is not valid here and now; where it was revoked, a RevokedError, too.
            WorkloadAPIError: as `bundles`.
        """
        svid = verify_jwt(token, self.bundles.get, audience=audience, at=self._clock.now())
        number = number_of_jti(svid.jti)
        if number is not None and self.is_denied(svid.spiffe_id.trust_domain, number):
            raise _RevokedJWTSVIDError(f"jti: expected a token that is not revoked, found {svid.jti}")
        return svid

    @property
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """The bundles to verify JWT-SVIDs with.

        Raises:
            WorkloadAPIError: there are none, the Workload API said to stop using them (PERMISSION_DENIED), or it is not known yet what
                is denied.
        """
        bundles = self._follower.latest
        self._denials.demand()
        return bundles
