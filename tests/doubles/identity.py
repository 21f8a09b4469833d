"""One end of an mTLS connection: an identity that a test changes by hand, and one that knows of denials; a verifier of tokens that does."""

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta

from svid.bundle import Bundle
from svid.clock import SystemClock
from svid.denials import number_of_jti
from svid.errors import JWTSVIDError, RevokedError, SVIDError, WorkloadAPIError
from svid.jwtsvid import JWTSVID, verify
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import X509SVID

__all__ = ["CLIENT", "SERVER", "Identity", "KnowingIdentity", "KnowingTokens"]

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


class KnownDenials:
    """A svid.source.KnowsDenials: a test denies by hand, and `deny` returns when every enforcement point has done its part."""

    def __init__(self) -> None:
        self.age: timedelta | None = timedelta(0)
        self._denied: set[tuple[TrustDomain, int]] = set()
        self._points: dict[object, tuple[str, Callable[[TrustDomain, Collection[int]], None]]] = {}

    @property
    def points(self) -> list[str]:
        """The enforcement points there are."""
        return [name for name, _ in self._points.values()]

    def revoke(self, trust_domain: TrustDomain, *numbers: int) -> None:
        self._denied.update((trust_domain, number) for number in numbers)
        for _, callback in tuple(self._points.values()):
            callback(trust_domain, numbers)

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        return (trust_domain, number) in self._denied

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        key = object()
        self._points[key] = point, callback

        def leave() -> None:
            self._points.pop(key, None)

        return leave

    def denials_age(self) -> timedelta | None:
        return self.age


class KnowingIdentity(KnownDenials, Identity):
    """An identity whose source knows of denials, and tells of every change."""

    def __init__(self, svid: X509SVID, *bundles: Bundle) -> None:
        self._subscribers: dict[object, Callable[[], None]] = {}
        KnownDenials.__init__(self)
        Identity.__init__(self, svid, *bundles)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        key = object()
        self._subscribers[key] = callback

        def leave() -> None:
            self._subscribers.pop(key, None)

        return leave

    @property
    def subscribers(self) -> int:
        """How many are told of changes."""
        return len(self._subscribers)

    def change(self, svid: X509SVID, *bundles: Bundle) -> None:
        super().change(svid, *bundles)
        for callback in tuple(self._subscribers.values()):
            callback()

    def revoke_svid(self, svid: X509SVID) -> None:
        """Deny a peer's."""
        self.revoke(svid.spiffe_id.trust_domain, svid.serial)


class _RevokedTokenError(RevokedError, JWTSVIDError):
    """As a JWTSource raises it."""


class KnowingTokens(KnownDenials):
    """A svid.source.TokenVerifier of one bundle that knows of denials."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self._bundles = {bundle.trust_domain: bundle}

    def verify(self, token: str, audience: str | Collection[str]) -> JWTSVID:
        svid = verify(token, self._bundles.get, audience=audience, at=SystemClock().now())
        number = number_of_jti(svid.jti)
        if number is not None and self.is_denied(svid.spiffe_id.trust_domain, number):
            raise _RevokedTokenError("jti: expected a token that is not revoked")
        return svid
