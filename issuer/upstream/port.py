"""What the issuer asks of an upstream authority: a certificate for its own signing key."""

from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from cognomen.daemon.plugins import PluginContext, Seam
from issuer.decisions.profile import CADraft
from svid.keys import SigningKey

__all__ = ["UPSTREAM_AUTHORITIES", "SignedCA", "UpstreamAuthority"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCA:
    """A signing certificate: the chain from ours up to below the root, and the roots for the bundle."""

    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]


class UpstreamAuthority(Protocol):
    """An authority that vouches for our signing keys: ourselves, or one above us."""

    async def sign_ca(self, draft: CADraft, key: SigningKey) -> SignedCA:
        """Have this draft signed for this key; issuer/issuance checks the result before anybody else gets it.

        If an answer fails or is lost, the same draft is asked for again, with the same serial number.
        """


UPSTREAM_AUTHORITIES: Seam[PluginContext, UpstreamAuthority] = Seam(
    group="cognomen.issuer.upstream_authorities", key="upstream_authority"
)
"""Where to find the installed ones."""
