"""The one profile of everything we sign: what a certificate or a token of ours looks like, as drafts that are not signed yet.

What a draft must satisfy before it is recorded is decided in lint; who signs it: issuer/signing.
"""

from dataclasses import dataclass
from datetime import datetime

from svid.keys import PublicKey
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["ISSUER_DNS_NAME", "CADraft", "JWTDraft", "X509Draft"]

ISSUER_DNS_NAME = "issuer.cognomen.internal"
"""The name in the issuer's own SVID that attestors' TLS checks (gRPC checks host names, not SPIFFE IDs); nobody else gets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CADraft:
    """A signing certificate to be made."""

    trust_domain: TrustDomain
    serial: int
    common_name: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Draft:
    """An X509-SVID to be signed."""

    spiffe_id: SpiffeID
    serial: int
    public_key: PublicKey
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTDraft:
    """A JWT-SVID to be signed."""

    spiffe_id: SpiffeID
    audiences: tuple[str, ...]
    jti: str
    issued_at: datetime
    expires_at: datetime
