"""Authorities: their states, and which step is due next.

Who makes the key and signs the certificate: issuer/flows/rotate_authority.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from svid.keys import KeyID

__all__ = ["Authority", "AuthorityKind", "AuthorityState"]


class AuthorityKind(StrEnum):
    """What an authority signs."""

    X509 = "x509"
    JWT = "jwt"


class AuthorityState(StrEnum):
    """Where an authority is in its life; all but `intended` and `retired` stand in the bundle."""

    INTENDED = "intended"  # the row names a key that may not exist yet
    NEXT = "next"  # published, not signing
    ACTIVE = "active"  # signs
    OLD = "old"  # signs no more, its SVIDs are still valid
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A signing authority of this issuer.

    Args:
        certificate: DER, for X.509; empty for JWT.
        public_key: SubjectPublicKeyInfo DER.
        published_at: when it went into the bundle.
    """

    key_id: KeyID
    kind: AuthorityKind
    state: AuthorityState
    public_key: bytes = b""
    certificate: bytes = b""
    not_before: datetime
    not_after: datetime
    published_at: datetime | None = None
    activated_at: datetime | None = None
