"""What the issuer asks of an upstream authority: a certificate for its own signing key."""

from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from issuer.decisions.profile import CADraft
from svid.keys import SigningKey

__all__ = ["SignedCA", "UpstreamAuthority"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCA:
    """A signing certificate: the chain from ours up to below the root, and the roots that stand in the bundle."""

    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]


class UpstreamAuthority(Protocol):
    """Who vouches for our signing keys: ourselves, or an authority above."""

    async def sign_ca(self, draft: CADraft, key: SigningKey) -> SignedCA:
        """Have this draft signed for this key."""
