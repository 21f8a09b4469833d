"""What TLS by SPIFFE IDs refuses, as errors that are TLS's own, too: whatever loop or library holds the connection survives them."""

import ssl

from svid.errors import AuthorizationError, RevokedError, SVIDError

__all__ = [
    "HandshakeRefusedError",
    "OutdatedError",
    "OutdatedHandshakeError",
    "RevokedHandshakeError",
    "RevokedPeerError",
    "UnwantedPeerError",
]


class HandshakeRefusedError(SVIDError, ssl.SSLError):
    """A handshake that OpenSSL finished and that is refused all the same."""

    def __str__(self) -> str:
        return str(self.args[0])


class UnwantedPeerError(HandshakeRefusedError, AuthorizationError):
    """A peer that is who it says, and is not wanted here."""


class RevokedPeerError(RevokedError, ssl.SSLError):
    """A connection whose peer's credential ended before its time."""

    def __str__(self) -> str:
        return str(self.args[0])


class RevokedHandshakeError(HandshakeRefusedError, RevokedPeerError):
    """A handshake with a peer whose credential ended before its time."""


class OutdatedError(SVIDError):
    """What is known of revocations is older than the caller accepts."""


class OutdatedHandshakeError(HandshakeRefusedError, OutdatedError):
    """A handshake at a time when what is known of revocations is older than the caller accepts."""
