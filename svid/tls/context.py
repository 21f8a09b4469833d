"""SSL contexts that live: each handshake shows today's X509-SVID, and trusts today's bundle of the peer's own trust domain.

An OpenSSL context learns authorities and never forgets one, so each change of identity or bundles makes an inner context afresh. Nor can it
keep trust domains apart, so its verdict is not the last: the peer's chain is verified here once more, before any byte is read or written.
Who is wanted is decided by svid/tls/authorize.
"""

import os
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from socket import socket
from typing import NamedTuple, Self

from svid.bundle import Bundle
from svid.clock import Clock, SystemClock
from svid.denials import OPEN_FOR
from svid.encoding import certificates_from_der
from svid.errors import AuthorizationError, SVIDError, X509SVIDError
from svid.source import X509Identity, demand_source
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.authorize import Authorizer, strictly
from svid.tls.connections import CheckedObject, CheckedSocket, Gate, peer_id
from svid.tls.enforcement import Enforcement, Held, Peer
from svid.tls.refusals import (
    HandshakeRefusedError,
    OutdatedError,
    OutdatedHandshakeError,
    RevokedHandshakeError,
    UnwantedPeerError,
)
from svid.x509svid import X509SVID, check_leaf, verify

__all__ = [
    "HandshakeRefusedError",
    "LiveContext",
    "UnwantedPeerError",
    "client_context",
    "peer_id",
    "server_context",
]


_REMEMBERED = 256  # chains of peers, which come again and again with one SVID


class _MutualContext(ssl.SSLContext):
    """A context for TLS 1.3 in which both sides show a certificate, and host names say nothing."""

    def __new__(cls, *_: object, server_side: bool, **__: object) -> Self:
        """Choose the protocol, which OpenSSL wants to know first."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self) -> None:
        super().__init__()
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.check_hostname = False  # a SPIFFE ID is in the URI SAN; `admit` looks at it
        self.verify_mode = ssl.CERT_REQUIRED
        self.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority need not be self-signed to be trusted


class LiveContext(_MutualContext):
    """An ssl.SSLContext for mutual TLS 1.3 by SPIFFE IDs, for blocking sockets and asyncio; it follows its source.

    Host names are not looked at, sessions are not resumed. Of what may be set on an SSLContext only the ALPN protocols have an effect:
    libraries set `verify_mode`, `check_hostname` and authorities of their own on a context that they are given.

    A peer whose credential is denied, as far as the source knows, is refused, and an open connection of it passes nothing any more.

    Args:
        refuse_after: how old the issuer's last word on revocations may be at a handshake; None: as old as it is, with a warning in the log.

    Raises:
        TypeError: no source, or an authorizer that cannot answer; the two in the wrong order, for example. Or `refuse_after`, of a source
            that knows of no revocations.
        HandshakeRefusedError: at a handshake; there is no valid SVID, or the peer's chain is not vouched for.
        RevokedHandshakeError: at a handshake; the peer's credential is denied.
        OutdatedHandshakeError: at a handshake; what is known of revocations is older than `refuse_after`.
        UnwantedPeerError: at a handshake; `authorize` refused the peer.
        RevokedPeerError: at any read or write of an open connection, from when its peer's credential is denied.
        OutlivedPeerError: likewise, from a day after the end of its peer's X509-SVID: no revocation would name that any more.

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
        )
        self._alpn_protocols: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._inner: _InnerContext | None = None
        self._admitted: dict[bytes, _Admitted] = {}

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offer these protocols from the next handshake on."""
        wanted = tuple(alpn_protocols)
        with self._lock:
            if wanted != self._alpn_protocols:  # clients say it anew for each connection
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
        """Wrap a socket as SSLContext does, by today's identity."""
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
        """Wrap a pair of buffers as SSLContext does, by today's identity."""
        _refuse_session(session)
        return self._today().wrap_bio(incoming, outgoing, server_side, server_hostname)

    def _today(self) -> "_InnerContext":
        """The inner context of today's identity and bundles; where there are none, one whose handshakes are refused."""
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
        """Verify a peer's chain, DER and leaf first, by today's bundle of its own trust domain, and ask whether it is wanted.

        Raises:
            HandshakeRefusedError: its bundle does not vouch for it.
            RevokedHandshakeError: a certificate of it is denied.
            OutdatedHandshakeError: what is known of revocations is older than `refuse_after`.
            UnwantedPeerError: it is not wanted.
        """
        return self.recognise(chain).spiffe_id

    def recognise(self, chain: Iterable[bytes]) -> Peer:
        """Do as `admit` does, and say by which credentials it is who it is."""
        try:
            self.enforcement.demand_fresh()
        except OutdatedError as e:
            raise OutdatedHandshakeError(str(e)) from e
        peer = self._vouched(b"".join(chain), self._clock.now())
        self._demand_wanted(peer)
        return peer

    def stay(self, chain: Iterable[bytes]) -> tuple[Peer, Callable[[], None]]:
        """Admit a peer for as long as a call of it lasts; what is returned says by an error of `admit` that it may not stay.

        Its certificates may expire meanwhile, and what is known of revocations may become old, as on any connection that is open.
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
            self._demand_wanted(peer)

        return peer, recheck

    def _vouched(self, der: bytes, at: datetime) -> Peer:
        try:
            return self._verified(der, self._source.bundles, at)
        except SVIDError as e:
            raise HandshakeRefusedError(str(e), clause=e.clause) from e

    def _demand_wanted(self, peer: Peer) -> None:
        if self.enforcement.is_denied(peer):
            raise RevokedHandshakeError(f"peer: expected one that is not revoked, found {peer.shown}")
        try:
            self._authorize(peer.spiffe_id)
        except AuthorizationError as e:
            raise UnwantedPeerError(str(e), clause=e.clause) from e

    def _verified(self, der: bytes, bundles: Mapping[TrustDomain, Bundle], now: datetime) -> Peer:
        """Verify a chain; one that was verified by the very same bundle gives the same again, until something in it ends."""
        known = self._admitted.get(der)
        if (
            known is not None
            and known.bundle is bundles.get(known.peer.spiffe_id.trust_domain)
            and known.since <= now < known.until
        ):
            return known.peer
        certificates = certificates_from_der(der)
        if not certificates:
            raise X509SVIDError("peer: expected a certificate, found none")
        trust_domain = check_leaf(certificates[0]).trust_domain
        bundle = bundles.get(trust_domain)
        if bundle is None:
            raise X509SVIDError(
                f"peer: expected a trust domain that is trusted, found {trust_domain}", clause="Workload API 4.6"
            )
        spiffe_id = verify(certificates, bundle, at=now)
        peer = Peer(
            spiffe_id,
            tuple(one.serial_number for one in certificates),
            certificates[0].not_valid_after_utc,
            OPEN_FOR,
        )
        ends = [one.not_valid_after_utc for one in (*certificates, *bundle.x509_authorities)]
        with self._lock:
            while len(self._admitted) >= _REMEMBERED:
                del self._admitted[next(iter(self._admitted))]  # the oldest
            self._admitted[der] = _Admitted(bundle, peer, now, min(end for end in ends if end > now))
        return peer


class _Admitted(NamedTuple):
    """A chain that was verified: by which bundle, whose it is, and between which moments nothing of it begins or ends."""

    bundle: Bundle
    peer: Peer
    since: datetime
    until: datetime


class _InnerContext(_MutualContext, Gate):
    """What OpenSSL sees: one identity, the authorities of every trusted trust domain."""

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
        authorities = b"".join(bundle.x509_der() for bundle in bundles.values())
        if authorities:
            self.load_verify_locations(cadata=authorities)
        with _unnamed_file(svid.chain_pem() + svid.key_pem()) as path:
            self.load_cert_chain(path)
        self._of = svid, bundles

    def is_of(self, svid: X509SVID, bundles: Mapping[TrustDomain, Bundle]) -> bool:
        return self._of is not None and self._of[0] is svid and self._of[1] is bundles

    def check_identity(self) -> None:
        if self._refusal is not None:
            raise HandshakeRefusedError(str(self._refusal), clause=self._refusal.clause) from self._refusal

    def recognise(self, chain: Iterable[bytes]) -> Peer:
        return self.live.recognise(chain)

    def hold(self, connection: Held) -> None:
        self.live.enforcement.hold(connection)

    # A listening socket asks its own context to wrap what it accepts: that must be by the identity of the day.
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
) -> LiveContext:
    """Make the context of a server: who connects must prove a SPIFFE ID that `authorize` accepts."""
    return LiveContext(source, authorize, server_side=True, refuse_after=refuse_after, clock=clock)


def client_context(
    source: X509Identity, authorize: Authorizer, *, refuse_after: timedelta | None = None
) -> LiveContext:
    """Make the context of a client: the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name."""
    return LiveContext(source, authorize, server_side=False, refuse_after=refuse_after)


def _refuse_session(session: ssl.SSLSession | None) -> None:
    if session is not None:
        raise ValueError("session: expected none, because a resumed session would skip the verification of the peer")


@contextmanager
def _unnamed_file(content: bytes) -> Iterator[str]:
    """Name a file of that content that is nowhere on a disk: OpenSSL's loader wants a path."""
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
