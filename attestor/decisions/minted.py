"""Check that the issuer minted what was asked for, before anybody gets it."""

from collections.abc import Collection, Sequence
from datetime import datetime

from cryptography import x509

from svid.bundle import Bundle
from svid.errors import JWTSVIDError, SVIDError, X509SVIDError
from svid.jwtsvid import JWTSVID
from svid.keys import PrivateKey
from svid.spiffeid import SpiffeID
from svid.x509svid import X509SVID, check_leaf, verify

__all__ = ["authority_of_x509", "is_vouched_for", "take_jwt", "take_x509"]


def take_x509(chain: Sequence[x509.Certificate], key: PrivateKey, *, bundle: Bundle, at: datetime) -> X509SVID:
    """Join a minted chain with the key that it was requested for.

    Its leaf must follow the whole profile: a single SVID that a client cannot parse ends that client's watch for good.

    Raises:
        X509SVIDError: the bundle does not vouch for the chain, the chain is for another key, or its leaf breaks the profile.
    """
    spiffe_id = verify(chain, bundle, at=at)
    check_leaf(chain[0])
    if chain[0].public_key() != key.public_key():
        raise X509SVIDError("key: the leaf is not for the requested key")
    return X509SVID(spiffe_id=spiffe_id, chain=tuple(chain), private_key=key)


def is_vouched_for(svid: X509SVID, bundle: Bundle, *, at: datetime) -> bool:
    """Whether this bundle vouches for an SVID that is held."""
    try:
        verify(svid.chain, bundle, at=at)
    except SVIDError:
        return False
    return True


def authority_of_x509(svid: X509SVID) -> str:
    """Which authority signed it, by the name that the issuer uses for tainted ones; empty: it does not say.

    Shape: the authority key identifier, in hexadecimal.
    """
    try:
        found = svid.chain[0].extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    return (found or b"").hex()


def take_jwt(token: str, *, spiffe_id: SpiffeID, audiences: Collection[str]) -> JWTSVID:
    """Read a minted JWT-SVID for this SPIFFE ID and these audiences; checking its signature is left to verifiers.

    Raises:
        JWTSVIDError: it is not for them.
    """
    found = JWTSVID.parse_insecure(token)
    if found.spiffe_id != spiffe_id:
        raise JWTSVIDError(f"SPIFFE ID: expected {spiffe_id}, found {found.spiffe_id}")
    if set(found.audiences) != set(audiences):
        raise JWTSVIDError(f"audiences: expected {sorted(audiences)}, found {sorted(found.audiences)}")
    return found
