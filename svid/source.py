"""Something that can be asked for what is true now, as a Protocol, so that a test or a file can be one, too.

Who keeps it up to date is svid/workloadapi/sources.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Protocol, runtime_checkable

from svid.bundle import Bundle
from svid.jwtsvid import JWTSVID
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID

__all__ = ["KnowsDenials", "TokenVerifier", "X509Identity", "demand_source"]


class X509Identity(Protocol):
    """What one end of an mTLS connection needs: an identity, and the bundles to check the other end."""

    @property
    def svid(self) -> X509SVID:
        """Today's X509-SVID, the same object until there is a newer one.

        Raises:
            SVIDError: there is none, or none that is valid.
        """

    @property
    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """Today's bundles, the same object until one changes; a trust domain that is missing is not trusted.

        Raises:
            SVIDError: they must not be used any more.
        """


@runtime_checkable
class KnowsDenials(Protocol):
    """Something that knows which credentials ended before their time; an X509Source and a JWTSource do.

    A source that does not is one whose peers end by themselves alone.
    """

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        """Whether this serial or jti of that trust domain is denied, as far as is known now."""

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        """Have `callback` told which numbers are denied from now on, of none at each other word; returns what ends that.

        It is called after `is_denied` says so, from a thread of the source, one call at a time; it must be quick. Once it has returned, the
        attestor is told that this enforcement point enforces them; where it raised, it is not.

        Args:
            point: what enforces it, for people; at most 256 bytes.
        """

    def denials_age(self) -> timedelta | None:
        """How old the issuer's last word is that stands behind `is_denied`; None: nobody tells."""


class TokenVerifier(Protocol):
    """What a service needs that is shown JWT-SVIDs; a JWTSource is one."""

    def verify(self, token: str, audience: str | Collection[str]) -> JWTSVID:
        """Check a token that somebody sent us, and return whose it is.

        Raises:
            JWTSVIDError: it is not valid here and now.
            SVIDError: any other: nothing can be verified now.
        """


def demand_source(source: object, *names: str) -> None:
    """Refuse what is no source of these, such as arguments in the wrong order; nothing is asked for yet.

    Raises:
        TypeError: something is missing.
    """
    for name in names:
        try:
            inspect.getattr_static(source, name)
        except AttributeError:
            if not hasattr(type(source), "__getattr__"):  # who answers for somebody else has no attributes to see
                wanted = " and ".join(names)
                raise TypeError(f"source: expected one that has {wanted}, found {type(source).__name__}") from None
