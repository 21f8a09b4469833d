"""Check that somebody has the key to be certified for a node. cognomen/protocol/possession defines what they sign."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.possession import MAX_SIGNATURE_BYTES, Purpose, possession_bytes
from issuer.decisions.minting import parse_key
from svid.keys import hash_of, kind_of
from svid.spiffeid import TrustDomain

__all__ = ["proved_key"]


def proved_key(
    der: bytes, signature: bytes, *, purpose: Purpose, trust_domain: TrustDomain, bound_to: bytes
) -> ec.EllipticCurvePublicKey:
    """The public key, once its owner has signed with the private key for exactly this purpose.

    Raises:
        Refused: INVALID for a type or curve that we do not certify, or without a signature; UNAUTHENTICATED for a signature by another
            key or over something else.
    """
    key = parse_key(der)
    if not signature:
        raise Refused(
            Kind.INVALID,
            "key_signature: missing, expected one by the key to be certified; is the attestor older than the issuer?",
        )
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise Refused(
            Kind.INVALID, f"key_signature: expected at most {MAX_SIGNATURE_BYTES} bytes, found {len(signature)}"
        )
    signed = possession_bytes(purpose, trust_domain, bound_to, der)
    try:
        key.verify(signature, signed, ec.ECDSA(hash_of(kind_of(key))))
    except InvalidSignature as e:
        raise Refused(Kind.UNAUTHENTICATED, "key_signature: invalid, expected one by the key to be certified") from e
    return key
