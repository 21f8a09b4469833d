"""Protocols for the sources of identities, bundles and denials, so that a test or a file can stand in for the Workload API.

The sources that the Workload API keeps up to date are in svid/workloadapi/sources.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Protocol, runtime_checkable

from svid.bundle import Bundle
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import X509SVID

__all__ = [
    "DeclaredCallers",
    "FreshTokens",
    "KnowsCallers",
    "KnowsDenials",
    "KnowsItsEnd",
    "TokenVerifier",
    "X509Identity",
    "demand_duration",
    "demand_source",
]


class X509Identity(Protocol):
    """What one end of an mTLS connection needs: an identity, and the bundles to check the other end."""

    @property
    def svid(self) -> X509SVID:
        """The current X509-SVID; the same object until there is a newer one.

        Raises:
            SVIDError: there is no valid one.
        """

    @property
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """The current bundles; the same object until one changes. A trust domain that is missing is not trusted.

        Raises:
            SVIDError: the bundles must not be used any more.
        """


@runtime_checkable
class KnowsDenials(Protocol):
    """A source that knows which credentials were revoked, as X509Source and JWTSource do.

    With a source that does not, credentials end only by expiring.
    """

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        """Whether this serial or jti of that trust domain is denied, as far as we know now."""

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        """Call `callback` with newly denied numbers, and with no numbers at every other message; returns a function that stops this.

        `is_denied` is True for the numbers before the callback is called. The source calls it from one of its threads, one call at a time;
        it must be quick. When it returns, the attestor learns that this enforcement point enforces the denials; if it raises, it does not.

        Args:
            point: the name of the enforcement point, for people; at most 256 bytes.
        """

    def denials_age(self) -> timedelta | None:
        """How old the issuer's data behind `is_denied` is; None if nobody reports denials."""


class DeclaredCallers(Protocol):
    """Who may call the identities of this process, kept up to date."""

    def of(self, spiffe_id: SpiffeID | None) -> frozenset[SpiffeID] | None:
        """Who may call that identity, or the default one; None if nobody declared it.

        Raises:
            SVIDError: it is not known, or this process does not have that identity.
        """

    def silent_for(self) -> timedelta | None:
        """How long ago the attestor sent something; None if it never did."""

    def age(self) -> timedelta | None:
        """How old the issuer's data behind `of` is; None if it is not known."""

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when there is a new answer; returns a function that stops this."""

    def wait(self, timeout: timedelta) -> None:
        """Wait for the first answer; raises SVIDError if none comes."""

    async def ready(self, timeout: timedelta) -> None:  # noqa: ASYNC109 - the error says why nothing came
        """Do the same as `wait` without blocking the event loop."""


class KnowsCallers(Protocol):
    """A source that knows who may call the identity that it uses, as X509Source and JWTSource do."""

    def declared_callers(self) -> DeclaredCallers:
        """Who may call; the first call begins to follow it.

        Raises:
            SVIDError: the source was closed.
        """

    def called_as(self) -> SpiffeID | None:
        """The identity that peers call when they call us; None means the default one.

        Raises:
            SVIDError: there is none now.
        """


class FreshTokens(Protocol):
    """What gives JWT-SVIDs to present to somebody who accepts each only once; a JWTSource does."""

    def fetch(
        self, audience: str | Collection[str], *, spiffe_id: SpiffeID | str | None = None, fresh: bool = False
    ) -> JWTSVID:
        """Fetch a JWT-SVID for that audience, of the default identity or of `spiffe_id`.

        Args:
            fresh: ask for one that nobody else has received or will receive.

        Raises:
            SVIDError: there is none.
        """


@runtime_checkable
class KnowsItsEnd(Protocol):
    """A source that knows whether it was closed, and that its identities or bundles changed, as X509Source and JWTSource do."""

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when there is a new value, or no value any more; returns a function that stops this."""


class TokenVerifier(Protocol):
    """What a service needs to check JWT-SVIDs; a JWTSource is one."""

    def verify(self, token: str, audience: str | Collection[str]) -> JWTSVID:
        """Check a token that we received, and return it parsed.

        Raises:
            JWTSVIDError: it is not valid here and now.
            SVIDError: no token can be verified now (any other SVIDError).
        """


def demand_source(source: object, *names: str) -> None:
    """Refuse an object without these attributes, such as an argument in the wrong place; the attributes are not read yet.

    Raises:
        TypeError: an attribute is missing.
    """
    for name in names:
        try:
            inspect.getattr_static(source, name)
        except AttributeError:
            if not hasattr(type(source), "__getattr__"):  # a proxy object's attributes are invisible to getattr_static
                wanted = " and ".join(names)
                raise TypeError(f"source: expected one that has {wanted}, found {type(source).__name__}") from None


def demand_duration(value: object, *, field: str) -> None:
    """Refuse what is no timedelta, such as a number of seconds: nobody knows its unit.

    Raises:
        TypeError: it is not one.
    """
    if not isinstance(value, timedelta):
        raise TypeError(f"{field}: expected a timedelta, such as timedelta(seconds=5), found {value!r:.100}")
