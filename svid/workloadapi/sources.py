"""The X509-SVIDs and JWT-SVIDs of a workload, kept up to date automatically from the Workload API.

A source follows a stream in its own thread (svid/workloadapi/follower). All sources of a process share one stream of denials
(svid/workloadapi/shareddenials). A source can be used from any thread or task. After a fork, the child's source starts again at its first
use, because the child may have a different identity. This module does not decide whom to trust (svid/tls) or when to renew an identity
(the attestor).
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Self

from svid.bundle import Bundle
from svid.clock import Clock
from svid.denials import number_of_jti
from svid.errors import JWTSVIDError, RevokedError, WorkloadAPIError, X509SVIDError
from svid.jwtsvid import JWTSVID
from svid.jwtsvid import verify as verify_jwt
from svid.spiffeid import SpiffeID, TrustDomain
from svid.wire.pb import workload_pb2 as pb
from svid.wire.workload import X509Context, read_jwt_bundles, read_x509_context
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.filekeeper import FileKeeper
from svid.workloadapi.followedsource import FollowedSource
from svid.workloadapi.follower import Follower
from svid.workloadapi.keptfile import KeptFile
from svid.workloadapi.kepttokens import KeptTokens, token_key
from svid.workloadapi.listed import Listed
from svid.workloadapi.shareddenials import DenialsShare
from svid.workloadapi.tokenfile import TokenFile
from svid.x509svid import X509SVID

__all__ = ["JWTSource", "X509Source"]

_FIRST_ANSWER = timedelta(seconds=30)


class _RevokedX509SVIDError(RevokedError, X509SVIDError):
    """Our X509-SVID was revoked."""


class _RevokedJWTSVIDError(RevokedError, JWTSVIDError):
    """A JWT-SVID, ours or a peer's, was revoked."""


def _first(svids: Sequence[X509SVID]) -> X509SVID:
    return svids[0]


class X509Source(FollowedSource[pb.X509SVIDResponse, X509Context]):
    """The current X509-SVID of this process, and the bundles to check its peers with.

    The constructor waits for the first answer; in asyncio, use `await X509Source.connect()`. Both return a context manager. While the
    Workload API cannot be reached, the source keeps the last answer until it expires.

    The first answer includes the denials, if the attestor reports them: a new source already enforces every denial of that moment. An
    attestor other than ours says at once that it does not report denials.

    Args:
        socket: `unix:///path` or `tcp://ip:port`; the default is the value of SPIFFE_ENDPOINT_SOCKET.
        timeout: how long to wait for the first answer; with None it does not wait, and `svid` and `bundles` raise until the answer comes.
        pick: chooses among several SVIDs; the first is the default identity.

    Raises:
        AddressError: there is no address, or it cannot be used.
        WorkloadAPIError: no usable answer came in time; PERMISSION_DENIED if this process has no identity.
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
        """Make a source and wait for the first answer without blocking the event loop; raises the same errors as the constructor."""
        source = cls(socket, timeout=None, pick=pick, clock=clock)
        return await source._connected(timeout)

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        """Whether this serial of that trust domain is denied, as far as we know now.

        While nobody reports denials, the revocation lists that came with the bundles count as well. Those lists close no connection
        (`on_denied`).
        """
        is_denied = super().is_denied(trust_domain, number)
        if is_denied or self._denials.is_told:
            return is_denied
        try:
            return self._listed.is_denied(trust_domain, number, self.context)
        except WorkloadAPIError:  # no answer yet, so no bundles either
            return False

    def called_as(self) -> SpiffeID:
        """The identity that peers call when they call us: that of the X509-SVID that was picked; raises the errors of `context`."""
        return self._pick(self.context.svids).spiffe_id

    @property
    def context(self) -> X509Context:
        """All SVIDs and bundles of the latest answer, expired or not.

        Raises:
            WorkloadAPIError: there is no answer, or the Workload API said to stop using it (PERMISSION_DENIED).
        """
        self._demand_here()
        return self._follower.latest

    @property
    def svid(self) -> X509SVID:
        """The X509-SVID to present now.

        Raises:
            WorkloadAPIError: as `context`; also while the denials are not known.
            X509SVIDError: it expired or was revoked, and no newer one has come; if it was revoked, the error is also a RevokedError.
        """
        svid = self._pick(self.context.svids)
        self._denials.demand()
        if self.is_denied(svid.spiffe_id.trust_domain, svid.serial):
            raise _RevokedX509SVIDError(f"svid: serial {svid.serial:x} was revoked, and no newer one has come")
        if self._clock.now() >= svid.not_after:
            raise X509SVIDError(f"svid: expired at {svid.not_after.isoformat()}, and no newer one has come")
        return svid

    @property
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """The bundles to check X509-SVIDs with.

        Raises:
            WorkloadAPIError: as `context`; also while the denials are not known.
        """
        bundles = self.context.bundles
        self._denials.demand()
        return bundles

    def changes(self) -> AsyncIterator[X509Context]:
        """Yield the context now, and again whenever it changes; ends when the source is closed.

        Raises:
            WorkloadAPIError: the identity was taken away (PERMISSION_DENIED), or the Workload API is unusable.
        """
        self._begin_anew()
        return self._follower.changes()


class JWTSource(FollowedSource[pb.JWTBundlesResponse, Mapping[TrustDomain, Bundle]]):
    """The JWT-SVIDs of this process, and the bundles to verify other workloads' JWT-SVIDs.

    Arguments and errors are those of X509Source. It waits for the first bundles.
    """

    def __init__(
        self, socket: str | None = None, *, timeout: timedelta | None = _FIRST_ANSWER, clock: Clock | None = None
    ) -> None:
        super().__init__(socket, timeout, clock, WorkloadAPIClient.open_jwt_bundles, read_jwt_bundles)

    def renew(self) -> None:
        """Drop the parent's tokens and files: a child may have a different identity."""
        super().renew()
        self._files: set[FileKeeper] = set()
        self._is_of_no_use = partial(_is_of_no_use, self._follower, self._share)
        self._tokens = KeptTokens(self._clock, self._is_of_no_use)

    @classmethod
    async def connect(
        cls,
        socket: str | None = None,
        *,
        timeout: timedelta = _FIRST_ANSWER,  # noqa: ASYNC109 - the error says why nothing came
        clock: Clock | None = None,
    ) -> Self:
        """Make a source and wait for the first bundles without blocking the event loop; raises the same errors as the constructor."""
        source = cls(socket, timeout=None, clock=clock)
        return await source._connected(timeout)

    def fetch(
        self, audience: str | Collection[str], *, spiffe_id: SpiffeID | str | None = None, fresh: bool = False
    ) -> JWTSVID:
        """Fetch a JWT-SVID for that audience, of the default identity or of `spiffe_id`.

        It asks the Workload API, which caches tokens that are still fresh; in asyncio: `await asyncio.to_thread(source.fetch, audience)`.
        If the Workload API cannot be reached, it returns the token that it fetched last, if that was not revoked, its authority is still
        in the bundle, and a tenth of its lifetime, 30 s at most, is left.

        Args:
            fresh: ask for a token that nobody else has received or will receive, for somebody who accepts each only once; nothing cached
                is returned. An attestor other than ours may ignore it and return one that it has cached.

        Raises:
            WorkloadAPIError: PERMISSION_DENIED if this process has no such identity; or any other status.
            JWTSVIDError: the answer is not a valid JWT-SVID.
        """
        self._demand_here()
        self._follower.demand_open()
        if not self._follower.has_value:  # the Workload API said to stop using everything
            self._tokens.clear()
        if isinstance(spiffe_id, str):
            spiffe_id = SpiffeID.parse(spiffe_id)
        wanted = audience if isinstance(audience, str) else tuple(audience)

        def ask(longest: timedelta | None) -> JWTSVID:
            return self._client.fetch_jwt_svid(wanted, spiffe_id=spiffe_id, timeout=longest, fresh=fresh)

        if fresh:
            return ask(None)
        return self._tokens.fetch(token_key(wanted, spiffe_id), ask)

    def file(self, audience: str, *, spiffe_id: SpiffeID | str | None = None) -> TokenFile:
        """Keep a file with a token for that audience, for a library that takes its token only from a file.

        The file holds tokens that nobody else gets, as `fetch` with `fresh`. It is there when this returns, and is kept up to date until
        it or the source is closed; in asyncio: `await asyncio.to_thread(source.file, audience)`. Each call makes another file, with a
        thread of its own.

        Raises:
            SVIDError: there is no token, as `fetch`, or the file cannot be written.
        """
        if isinstance(spiffe_id, str):
            spiffe_id = SpiffeID.parse(spiffe_id)
        fetch = partial(self.fetch, audience, spiffe_id=spiffe_id, fresh=True)
        kept = KeptFile(fetch, self._is_of_no_use, self._clock, audience)
        keeper = FileKeeper(kept, self._files.discard)
        with ExitStack() as on_error:
            on_error.callback(keeper.close)
            self._files.add(keeper)
            self._follower.demand_open()  # otherwise `close` has not seen the file
            keeper.follow(
                self.subscribe(lambda: keeper.change(is_gone=not self._follower.has_value)),
                self.on_denied(lambda _, __: keeper.look(), point="token file"),
            )
            on_error.pop_all()
        return TokenFile(path=kept.path, _close=keeper.close)

    def close(self) -> None:
        """End the streams and their threads, and remove the files; the source must not be used afterwards. A callback may call this."""
        files = tuple(self._files)
        for file in files:
            file.close()
        super().close()
        if not self._is_own_thread():
            for file in files:
                file.join()

    def verify(self, token: str, audience: str | Collection[str]) -> JWTSVID:
        """Check a token that we received, and return it parsed.

        Args:
            audience: our own names; the token must contain at least one of them.

        Raises:
            JWTSVIDError: the token is not valid here and now; if it was revoked, the error is also a RevokedError.
            WorkloadAPIError: as `bundles`.
        """
        svid = verify_jwt(token, self.bundles.get, audience=audience, at=self._clock.now())
        if _is_revoked(self._share, svid):
            raise _RevokedJWTSVIDError(f"jti: {svid.jti} of {svid.spiffe_id} was revoked")
        return svid

    @property
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """The bundles to verify JWT-SVIDs with.

        Raises:
            WorkloadAPIError: there are no bundles, the Workload API said to stop using them (PERMISSION_DENIED), or the denials are not
                known yet.
        """
        self._demand_here()
        bundles = self._follower.latest
        self._denials.demand()
        return bundles


def _is_of_no_use(
    follower: Follower[pb.JWTBundlesResponse, Mapping[TrustDomain, Bundle]], share: DenialsShare, svid: JWTSVID
) -> bool:
    """Whether verifiers refuse a token: it was revoked, or its authority has left the bundle.

    It does not take the source, whose caches hold it: that would be a reference cycle.
    """
    if _is_revoked(share, svid):
        return True
    bundle = follower.latest.get(svid.spiffe_id.trust_domain) if follower.has_value else None
    return bundle is not None and svid.key_id is not None and svid.key_id not in bundle.jwt_authorities


def _is_revoked(share: DenialsShare, svid: JWTSVID) -> bool:
    number = number_of_jti(svid.jti)
    return number is not None and share.followed.is_denied(svid.spiffe_id.trust_domain, number)
