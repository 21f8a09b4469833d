"""What a node signs to come back, and how it is invited again: both daemons must build the same bytes, and say the same."""

import hashlib

from svid.spiffeid import TrustDomain

__all__ = ["THEN_REJOIN", "readmission_bytes"]

THEN_REJOIN = (
    "then on the node, while its attestor is stopped: cognomen attestor rejoin --config CONFIG --invite FILE"
    " (without a configuration file: --state DIR); then start the attestor again"
)
"""What an operator does with a new invite for a node that has joined before; the end of a hint."""

_CONTEXT = b"cognomen readmission 1"


def readmission_bytes(trust_domain: TrustDomain, nonce: bytes, public_key: bytes) -> bytes:
    """Build the bytes that the key of the last node SVID signs.

    Shape: four parts, each preceded by its length as 4 bytes, big-endian: a fixed context, the trust domain's name, the issuer's nonce, the
    SHA-256 of the new SubjectPublicKeyInfo.
    """
    parts = (_CONTEXT, trust_domain.name.encode(), nonce, hashlib.sha256(public_key).digest())
    return b"".join(len(part).to_bytes(4) + part for part in parts)
