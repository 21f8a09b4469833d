"""One end of an mTLS connection: an identity that a test changes by hand."""

from collections.abc import Mapping

from svid.bundle import Bundle
from svid.errors import SVIDError, WorkloadAPIError
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import X509SVID

__all__ = ["CLIENT", "SERVER", "Identity"]

CLIENT = SpiffeID.parse("spiffe://example.org/client")
SERVER = SpiffeID.parse("spiffe://example.org/server")


class Identity:
    """A svid.source.X509Identity that a test changes by hand."""

    def __init__(self, svid: X509SVID, *bundles: Bundle) -> None:
        self._svid = svid
        self._bundles: Mapping[TrustDomain, Bundle] = {}
        self._error: SVIDError | None = None
        self.change(svid, *bundles)

    def change(self, svid: X509SVID, *bundles: Bundle) -> None:
        self._svid = svid
        self._bundles = {bundle.trust_domain: bundle for bundle in bundles}

    def deny(self) -> None:
        self._error = WorkloadAPIError("no identity issued", code="PERMISSION_DENIED")

    @property
    def svid(self) -> X509SVID:
        if self._error:
            raise self._error
        return self._svid

    @property
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        if self._error:
            raise self._error
        return self._bundles
