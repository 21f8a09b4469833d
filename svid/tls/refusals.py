"""What TLS by SPIFFE IDs refuses. The errors are TLS's own as well: whatever loop or library holds the connection survives them."""

import ssl

from svid.errors import AuthorizationError, RevokedError, SVIDError

__all__ = [
    "EndedPeerError",
    "HandshakeRefusedError",
    "OrphanedPeerError",
    "OutdatedError",
    "OutdatedHandshakeError",
    "OutlivedPeerError",
    "RevokedHandshakeError",
    "RevokedPeerError",
    "UnwantedPeerError",
]


class _OurTLSError(SVIDError, ssl.SSLError):
    def __str__(self) -> str:
        return str(self.args[0])


class HandshakeRefusedError(_OurTLSError):
    """A handshake that OpenSSL finished and that is refused all the same."""


class UnwantedPeerError(HandshakeRefusedError, AuthorizationError):
    """A peer that is who it says, and is not wanted here."""


class EndedPeerError(_OurTLSError):
    """A connection that was ended here, because of its peer's credential."""


class RevokedPeerError(RevokedError, EndedPeerError):
    """A connection whose peer's credential ended before its time."""


class OutlivedPeerError(EndedPeerError):
    """A connection whose peer's credential ended by itself so long ago that a revocation would not name it any more."""


class OrphanedPeerError(EndedPeerError):
    """A connection in a process that was forked off the one in which revocations are heard of."""


class RevokedHandshakeError(HandshakeRefusedError, RevokedPeerError):
    """A handshake with a peer whose credential ended before its time."""


class OutdatedError(SVIDError):
    """What is known of revocations is older than the caller accepts."""


class OutdatedHandshakeError(HandshakeRefusedError, OutdatedError):
    """A handshake at a time when what is known of revocations is older than the caller accepts."""
