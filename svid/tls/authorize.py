"""Who may be on the other side of a connection: functions that take a proven SPIFFE ID and raise where it is not wanted.

That the ID is proven is svid/tls/context's; here it is only compared, whole and case-sensitive.
"""

from collections.abc import Callable
from typing import TypeAlias

from svid.errors import AuthorizationError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["Authorizer", "any_in", "exactly", "matching"]

Authorizer: TypeAlias = Callable[[SpiffeID], None]
"""Raises AuthorizationError where this peer may not be on the other side."""


def any_in(trust_domain: TrustDomain) -> Authorizer:
    """Accept everybody of that trust domain."""

    def authorize(peer: SpiffeID) -> None:
        if not peer.is_member_of(trust_domain):
            raise AuthorizationError(f"peer: expected a member of {trust_domain}, found {peer}")

    return authorize


def exactly(spiffe_id: SpiffeID, *others: SpiffeID) -> Authorizer:
    """Accept that SPIFFE ID, or one of those."""
    wanted = frozenset((spiffe_id, *others))

    def authorize(peer: SpiffeID) -> None:
        if peer not in wanted:
            raise AuthorizationError(f"peer: expected {' or '.join(sorted(map(str, wanted)))}, found {peer}")

    return authorize


def matching(predicate: Callable[[SpiffeID], bool]) -> Authorizer:
    """Accept whom `predicate` is true for."""

    def authorize(peer: SpiffeID) -> None:
        if not predicate(peer):
            raise AuthorizationError(f"peer: expected one that is allowed here, found {peer}")

    return authorize
