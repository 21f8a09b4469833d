"""The signature of a key that is to be certified, as an attestor makes it."""

from cognomen.protocol.possession import Purpose, possession_bytes
from svid.keys import KeyID, LocalSigningKey, PrivateKey, public_key_to_der
from svid.spiffeid import TrustDomain

__all__ = ["possession"]


def possession(key: PrivateKey, purpose: Purpose, bound_to: bytes) -> bytes:
    """Show an issuer of `example.org` that we have this key."""
    public_key = public_key_to_der(key.public_key())
    signed = possession_bytes(purpose, TrustDomain("example.org"), bound_to, public_key)
    return LocalSigningKey(KeyID("test"), key).sign(signed)
