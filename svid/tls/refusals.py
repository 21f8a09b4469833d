"""Errors for what SPIFFE TLS refuses. They are also ssl.SSLErrors, so that any loop or library around the connection survives them.

Each has a `peer`: the SPIFFE ID that was proven, or None. svid/tls/reports reports refusals.
"""

import ssl

from svid.errors import AuthorizationError, JWTSVIDError, RevokedError, SVIDError
from svid.spiffeid import SpiffeID

__all__ = [
    "EndedPeerError",
    "ExpiredHandshakeError",
    "ExpiredTokenError",
    "HandshakeRefusedError",
    "NoIdentityError",
    "OrphanedPeerError",
    "OutdatedError",
    "OutdatedHandshakeError",
    "OutlivedPeerError",
    "RevokedHandshakeError",
    "RevokedPeerError",
    "UndeclaredPeerError",
    "UnknownCallersError",
    "UnwantedPeerError",
]


class _OurTLSError(SVIDError, ssl.SSLError):
    def __init__(self, message: str, *, clause: str = "", peer: SpiffeID | None = None) -> None:
        super().__init__(message, clause=clause)
        self.peer = peer

    def __str__(self) -> str:
        return str(self.args[0])


class HandshakeRefusedError(_OurTLSError):
    """OpenSSL finished a handshake, but we refuse it."""


class NoIdentityError(HandshakeRefusedError):
    """We refuse every handshake, because we have no valid SVID, or nothing to verify peers with."""


class ExpiredHandshakeError(HandshakeRefusedError):
    """The peer of a handshake has an expired certificate, whatever else may be wrong with it."""


class UnwantedPeerError(HandshakeRefusedError, AuthorizationError):
    """A peer proved its identity in a handshake, but is not allowed here."""


class EndedPeerError(_OurTLSError):
    """We ended a connection because of its peer's credential."""


class RevokedPeerError(RevokedError, EndedPeerError):
    """The credential of a connection's peer was revoked."""


class OutlivedPeerError(EndedPeerError):
    """The credential of a connection's peer expired so long ago that a revocation would not name it any more."""


class UndeclaredPeerError(EndedPeerError, AuthorizationError):
    """The peer of a connection may not call us any more."""


class OrphanedPeerError(EndedPeerError):
    """This process was forked from the one that made the connection and receives the revocations for it."""


class RevokedHandshakeError(HandshakeRefusedError, RevokedPeerError):
    """The peer of a handshake has a revoked credential."""


class ExpiredTokenError(JWTSVIDError):
    """A JWT-SVID has expired, whatever else may be wrong with it."""


class OutdatedError(SVIDError):
    """Our revocation data is older than the caller accepts."""


class UnknownCallersError(OutdatedError):
    """It is not known who may call us, or that knowledge is too old."""


class OutdatedHandshakeError(HandshakeRefusedError, OutdatedError):
    """During a handshake, our revocation data, or our knowledge of who may call us, is too old or missing."""
