"""A component that keeps using its last credentials, as a thief would, so that only what the others do can stop it."""

from collections.abc import Collection, Mapping
from contextlib import suppress

from svid import JWTSVID, X509SVID, Bundle, JWTSource, SpiffeID, SVIDError, TrustDomain, WorkloadAPIError, X509Source
from svid.clock import SystemClock
from svid.jwtsvid import verify

__all__ = ["Clinging"]


class Clinging:
    """Both identities of a component, current or as they were when the attestor took them away; it ignores denials.

    Args:
        own: which of its SPIFFE IDs it uses.
    """

    def __init__(self, x509: X509Source, jwt: JWTSource, own: SpiffeID) -> None:
        self._x509 = x509
        self._jwt = jwt
        self._own = own
        self._svid = x509.svid
        self._bundles = x509.bundles
        self._jwt_bundles = jwt.bundles
        self._tokens: dict[str, JWTSVID] = {}

    @property
    def svid(self) -> X509SVID:
        """The newest X509-SVID that it received."""
        with suppress(SVIDError):
            self._svid = next((one for one in self._x509.context.svids if one.spiffe_id == self._own), self._svid)
        return self._svid

    @property
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """The newest bundles that it received."""
        with suppress(SVIDError):
            self._bundles = self._x509.bundles
        return self._bundles

    def fetch(self, audience: str) -> JWTSVID:
        """A JWT-SVID for that audience: a new one, or the last.

        Raises:
            WorkloadAPIError: it can get neither.
        """
        try:
            self._tokens[audience] = self._jwt.fetch(audience, spiffe_id=self._own)
        except WorkloadAPIError:
            if audience not in self._tokens:
                raise
        return self._tokens[audience]

    def verify(self, token: str, audience: str | Collection[str]) -> JWTSVID:
        """Verify a token; raises JWTSVIDError if it is invalid."""
        with suppress(SVIDError):
            self._jwt_bundles = self._jwt.bundles
        return verify(token, self._jwt_bundles.get, audience=audience, at=SystemClock().now())
