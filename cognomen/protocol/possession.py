"""What a node signs to show that it has the key that it wants certified: both daemons must build the same bytes."""

import hashlib
from enum import StrEnum

from svid.spiffeid import TrustDomain

__all__ = ["MAX_SIGNATURE_BYTES", "Purpose", "possession_bytes"]

MAX_SIGNATURE_BYTES = 256
"""The size of a signature that shows possession of a key, in DER: enough for every kind of key that we accept."""

_CONTEXT = b"cognomen possession 1"


class Purpose(StrEnum):
    """What the key is wanted for, so that a signature for one purpose is of no use for another."""

    JOIN = "join"
    RENEWAL = "renewal"
    READMISSION = "readmission"


def possession_bytes(purpose: Purpose, trust_domain: TrustDomain, bound_to: bytes, public_key: bytes) -> bytes:
    """Build the bytes that a key must sign before it is certified.

    Shape: five parts, each preceded by its length as 4 bytes, big-endian: a fixed context, the purpose, the trust domain's name, the
    SHA-256 of what it is bound to, the SHA-256 of the SubjectPublicKeyInfo.

    Args:
        bound_to: for a join the evidence; for a renewal the serial of the SVID in use, lower-case hexadecimal; for a readmission the nonce.
    """
    parts = (
        _CONTEXT,
        purpose.encode(),
        trust_domain.name.encode(),
        hashlib.sha256(bound_to).digest(),
        hashlib.sha256(public_key).digest(),
    )
    return b"".join(len(part).to_bytes(4) + part for part in parts)
