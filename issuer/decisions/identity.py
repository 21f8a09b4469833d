"""The issuer's own identity, as its doors present it. issuer/flows/renew_issuer_svid issues and renews it."""

from dataclasses import dataclass, field
from datetime import datetime

from svid.bundle import Bundle
from svid.keys import KeyID, PrivateKey

__all__ = ["IssuerIdentity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerIdentity:
    """The issuer's X509-SVID (DER, leaf first), who signed it, and the bundle that its node door trusts."""

    chain: tuple[bytes, ...]
    private_key: PrivateKey = field(repr=False)
    bundle: Bundle
    authority_id: KeyID
    issued_at: datetime
    not_before: datetime
    not_after: datetime

    def is_valid(self, now: datetime) -> bool:
        """Whether it is valid by our clock."""
        return self.not_before <= now < self.not_after
