"""Something that can be asked for what is true now: an X509-SVID, bundles. One Protocol each, so that a test or a file can be one, too.

Who keeps them up to date is svid/workloadapi/sources.
"""

from collections.abc import Mapping
from typing import Protocol

from svid.bundle import Bundle
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID

__all__ = ["BundleSource", "SVIDSource", "X509Identity"]


class SVIDSource(Protocol):
    """Knows the X509-SVID to present now."""

    @property
    def svid(self) -> X509SVID:
        """Today's X509-SVID, the same object until there is a newer one.

        Raises:
            SVIDError: there is none, or none that is valid.
        """


class BundleSource(Protocol):
    """Knows the bundles to check peers with now."""

    @property
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """Today's bundles, the same object until one changes; a trust domain that is missing is not trusted.

        Raises:
            SVIDError: they must not be used any more.
        """


class X509Identity(SVIDSource, BundleSource, Protocol):
    """What one end of an mTLS connection needs: an identity, and the bundles to check the other end."""
