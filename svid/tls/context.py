"""SSL contexts that follow their source: each handshake uses the current X509-SVID, and the current bundle of the peer's own trust domain.

OpenSSL alone cannot do this: one of its contexts never forgets an authority, and has a single set of authorities for all trust domains. So
there are two layers. The application holds a LiveContext for as long as it runs. Behind it is an inner context, which OpenSSL sees: one
X509-SVID, and the authorities of every trusted trust domain. An inner context is never reloaded; after the source changes, the next
connection gets a new one.

A connection has three states:

    handshake   OpenSSL uses the current inner context. When it is done, `recognise` verifies the peer's chain again.
    open        The peer is admitted. Bytes pass for as long as both sides want, even after the source has changed.
    ended       The peer was refused in the handshake, or was denied or outlived later, or this process was forked. Nothing passes.

Invariants:

* We have the last word. The application cannot read or write a byte before `recognise` returns. `recognise` asks, in this order: is our
  revocation data recent enough (`refuse_after`), does the bundle of the peer's own trust domain vouch for the peer now, is the peer denied,
  is it allowed.
* We detect a change by identity (`is`), not by value: a source returns the same objects until it has new ones.
* A connection keeps the inner context that it began with. Of the settings that libraries make on a LiveContext, only the ALPN protocols
  reach the next inner context.
* No session is resumed, because a resumed session would skip the peer's chain.

For example, a bundle has the authorities A and B, and a client begins a handshake. Meanwhile A is removed from the bundle. OpenSSL still
accepts a chain to A, because the inner context of that handshake contains A. `recognise` finds no A in the current bundle, and refuses the
client. Another client, which A admitted earlier, stays connected. To end that connection as well, its credential must be denied
(svid/tls/enforcement).

svid/tls/authorize decides which peers are allowed, and svid/tls/connections which bytes pass on a connection.
"""

import os
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from socket import socket
from typing import Self

from svid.bundle import Bundle
from svid.clock import Clock, SystemClock
from svid.encoding import certificates_to_der
from svid.errors import AuthorizationError, SVIDError
from svid.source import X509Identity, demand_source
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.authorities import readable_authorities
from svid.tls.authorize import Authorizer, strictly
from svid.tls.chains import Chains
from svid.tls.checked import Gate
from svid.tls.connections import CheckedObject, CheckedSocket
from svid.tls.enforcement import Enforcement, Held, Peer
from svid.tls.forked import renew_in_children
from svid.tls.refusals import (
    NoIdentityError,
    OutdatedError,
    OutdatedHandshakeError,
    RevokedHandshakeError,
    UnwantedPeerError,
)
from svid.tls.reports import OnRefused
from svid.x509svid import X509SVID

__all__ = ["LiveContext", "client_context", "server_context"]


class _MutualContext(ssl.SSLContext):
    """A context for TLS 1.3 in which both sides show a certificate, and host names are ignored."""

    def __new__(cls, *_: object, server_side: bool, **__: object) -> Self:
        """Choose the protocol, which OpenSSL needs first."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self) -> None:
        super().__init__()
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.check_hostname = False  # a SPIFFE ID is in the URI SAN; `admit` looks at it
        self.verify_mode = ssl.CERT_REQUIRED
        self.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority need not be self-signed to be trusted


class LiveContext(_MutualContext):
    """An ssl.SSLContext for mutual TLS 1.3 with SPIFFE IDs, for blocking sockets and asyncio; it follows its source.

    It ignores host names and resumes no sessions. Of the settings of an SSLContext, only the ALPN protocols have an effect: libraries set
    `verify_mode`, `check_hostname` and their own authorities on the context that they are given.

    It refuses a peer if the source knows that the peer's credential is denied. Open connections of that peer stop passing bytes.

    For each refusal, and each connection that it ends, it logs a warning, rate-limited, with the logger svid.tls.reports, and increments a
    count (svid.refusal_counts).

    Args:
        refuse_after: how old the issuer's revocation data may be at a handshake; None means any age, with a warning in the log.
        on_refused: called for each refusal, in the thread or loop where it happens; it decides nothing, and its errors are logged.

    Raises:
        TypeError: the source is not one, or the authorizer cannot answer, for example because the two are in the wrong order. Or
            `refuse_after` is given, and the source knows of no revocations.
        HandshakeRefusedError: at a handshake; we have no valid SVID, or the bundle does not vouch for the peer's chain.
        RevokedHandshakeError: at a handshake; the peer's credential is denied.
        OutdatedHandshakeError: at a handshake; our revocation data is older than `refuse_after`; or, with `svid.declared`, it
            is not known now who may call us.
        UnwantedPeerError: at a handshake; `authorize` refused the peer.
        RevokedPeerError: at any read or write of an open connection, once its peer's credential is denied.
        UndeclaredPeerError: likewise, with `svid.declared`, once the peer is no longer declared as a caller.
        OutlivedPeerError: likewise, from a day after its peer's X509-SVID expired, because no revocation would name it any more.

    Source: SPIFFE X509-SVID 5, Workload API 4.6
    """

    def __init__(
        self,
        source: X509Identity,
        authorize: Authorizer,
        *,
        server_side: bool,
        refuse_after: timedelta | None = None,
        clock: Clock | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        demand_source(source, "svid", "bundles")
        super().__init__()
        self._source = source
        self._authorize = strictly(authorize)
        self._server_side = server_side
        self._clock = clock or SystemClock()
        self.enforcement = Enforcement(
            source,
            point="server_context" if server_side else "client_context",
            refuse_after=refuse_after,
            clock=self._clock,
            on_refused=on_refused,
        )
        self.enforcement.follow(authorize)
        self._alpn_protocols: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._inner: _InnerContext | None = None
        self._chains = Chains()
        renew_in_children(self)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offer these protocols from the next handshake on."""
        wanted = tuple(alpn_protocols)
        with self._lock:
            if wanted != self._alpn_protocols:  # clients set it again for each connection
                self._alpn_protocols = wanted
                self._inner = None

    def wrap_socket(  # noqa: PLR0917 - the stdlib's signature
        self,
        sock: socket,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the stdlib's signature
        do_handshake_on_connect: bool = True,  # noqa: FBT001, FBT002 - the stdlib's signature
        suppress_ragged_eofs: bool = True,  # noqa: FBT001, FBT002 - the stdlib's signature
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """Wrap a socket as SSLContext does, with the current identity."""
        _refuse_session(session)
        return ssl.SSLContext.wrap_socket(
            self._today(), sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname
        )

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the stdlib's signature
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Wrap a pair of buffers as SSLContext does, with the current identity."""
        _refuse_session(session)
        return self._today().wrap_bio(incoming, outgoing, server_side, server_hostname)

    def _today(self) -> "_InnerContext":
        """The inner context of the current identity and bundles; if there are none, one that refuses every handshake."""
        try:
            svid, bundles = self._source.svid, self._source.bundles
        except SVIDError as e:
            return _InnerContext(self, server_side=self._server_side, refusal=e)
        with self._lock:
            if self._inner is None or not self._inner.is_of(svid, bundles):
                inner = _InnerContext(self, server_side=self._server_side)
                inner.load(svid, bundles)
                if self._alpn_protocols:
                    inner.set_alpn_protocols(self._alpn_protocols)
                self._inner = inner
            return self._inner

    def admit(self, chain: Iterable[bytes]) -> SpiffeID:
        """Verify a peer's chain (DER, leaf first) with the current bundle of its own trust domain, and ask whether the peer is allowed.

        Raises:
            HandshakeRefusedError: the bundle does not vouch for the chain.
            RevokedHandshakeError: a certificate of the chain is denied.
            OutdatedHandshakeError: our revocation data is older than `refuse_after`.
            UnwantedPeerError: the peer is not allowed.
        """
        return self.recognise(chain).spiffe_id

    def recognise(self, chain: Iterable[bytes]) -> Peer:
        """Do the same as `admit`, and also return the credentials that identify the peer."""
        try:
            self.enforcement.demand_fresh()
        except OutdatedError as e:
            raise OutdatedHandshakeError(str(e)) from e
        peer = self._vouched(b"".join(chain), self._clock.now())
        self._demand_wanted(peer)
        return peer

    def stay(self, chain: Iterable[bytes]) -> tuple[Peer, Callable[[], None]]:
        """Admit a peer for the length of a call; the returned function raises an error of `admit` once the peer may not stay.

        Meanwhile the certificates may expire and our revocation data may become old, as on any open connection.
        """
        der, since = b"".join(chain), self._clock.now()
        peer = self.recognise([der])
        last = self._source.bundles

        def recheck() -> None:
            nonlocal last
            bundles = self._source.bundles
            if bundles is not last:
                self._vouched(der, since)
                last = bundles
            with suppress(OutdatedHandshakeError):
                self._demand_wanted(peer)

        return peer, recheck

    def _vouched(self, der: bytes, at: datetime) -> Peer:
        try:
            bundles = self._source.bundles
        except SVIDError as e:
            raise NoIdentityError(str(e), clause=e.clause) from e
        return self._chains.peer(der, bundles, at)

    def _demand_wanted(self, peer: Peer) -> None:
        if self.enforcement.is_denied(peer):
            raise RevokedHandshakeError(f"peer: {peer.shown} was revoked", peer=peer.spiffe_id)
        try:
            self._authorize(peer.spiffe_id)
        except OutdatedError as e:
            raise OutdatedHandshakeError(str(e), clause=e.clause, peer=peer.spiffe_id) from e
        except AuthorizationError as e:
            raise UnwantedPeerError(str(e), clause=e.clause, peer=peer.spiffe_id) from e

    def renew(self) -> None:
        """In a forked child, replace the lock instead of waiting for it: a thread of the parent may have held it."""
        self._lock = threading.Lock()


class _InnerContext(_MutualContext, Gate):
    """What OpenSSL sees: one identity, and the authorities of every trusted trust domain."""

    sslsocket_class = CheckedSocket
    sslobject_class = CheckedObject

    def __init__(self, live: LiveContext, *, server_side: bool, refusal: SVIDError | None = None) -> None:
        super().__init__()
        if server_side:
            self.num_tickets = 0
        self.live = live
        self._refusal = refusal
        self._of: tuple[X509SVID, Mapping[TrustDomain, Bundle]] | None = None

    def load(self, svid: X509SVID, bundles: Mapping[TrustDomain, Bundle]) -> None:
        authorities = readable_authorities(bundles, own=svid.spiffe_id.trust_domain)
        if authorities:
            self.load_verify_locations(cadata=certificates_to_der(authorities))
        with _unnamed_file(svid.chain_pem() + svid.key_pem()) as path:
            self.load_cert_chain(path)
        self._of = svid, bundles

    def is_of(self, svid: X509SVID, bundles: Mapping[TrustDomain, Bundle]) -> bool:
        return self._of is not None and self._of[0] is svid and self._of[1] is bundles

    def check_identity(self) -> None:
        if self._refusal is not None:
            raise NoIdentityError(str(self._refusal), clause=self._refusal.clause) from self._refusal

    def recognise(self, chain: Iterable[bytes]) -> Peer:
        return self.live.recognise(chain)

    def refused(self, error: Exception, address: str) -> None:
        self.live.enforcement.reports.tell(error, address=address)

    def hold(self, connection: Held) -> None:
        self.live.enforcement.hold(connection)

    # A listening socket asks its own context to wrap each accepted connection, which must use the current identity.
    def wrap_socket(  # noqa: PLR0917 - the stdlib's signature
        self,
        sock: socket,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the stdlib's signature
        do_handshake_on_connect: bool = True,  # noqa: FBT001, FBT002 - the stdlib's signature
        suppress_ragged_eofs: bool = True,  # noqa: FBT001, FBT002 - the stdlib's signature
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        return self.live.wrap_socket(
            sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname, session
        )


def server_context(
    source: X509Identity,
    authorize: Authorizer,
    *,
    refuse_after: timedelta | None = None,
    clock: Clock | None = None,
    on_refused: OnRefused | None = None,
) -> LiveContext:
    """Make a server's context: each client must prove a SPIFFE ID that `authorize` accepts."""
    return LiveContext(
        source, authorize, server_side=True, refuse_after=refuse_after, clock=clock, on_refused=on_refused
    )


def client_context(
    source: X509Identity,
    authorize: Authorizer,
    *,
    refuse_after: timedelta | None = None,
    on_refused: OnRefused | None = None,
) -> LiveContext:
    """Make a client's context: the server must prove a SPIFFE ID that `authorize` accepts; its host name does not matter."""
    return LiveContext(source, authorize, server_side=False, refuse_after=refuse_after, on_refused=on_refused)


def _refuse_session(session: ssl.SSLSession | None) -> None:
    if session is not None:
        raise ValueError("session: not supported, because a resumed session would skip the verification of the peer")


@contextmanager
def _unnamed_file(content: bytes) -> Iterator[str]:
    """Yield the path of a file with that content which is on no disk: OpenSSL's loader needs a path."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
