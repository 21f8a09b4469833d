"""Who may be on the other side."""

import pytest

from svid.errors import AuthorizationError
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.authorize import Authorizer, any_in, exactly, matching

A = SpiffeID.parse("spiffe://example.org/a")
B = SpiffeID.parse("spiffe://example.org/b")
BELOW_A = SpiffeID.parse("spiffe://example.org/a/b")
ELSEWHERE = SpiffeID.parse("spiffe://example.org.evil/a")
CASED = SpiffeID.parse("spiffe://example.org/A")

ACCEPTED = [
    (any_in(TrustDomain("example.org")), {A, B, BELOW_A, CASED}),
    (exactly(A), {A}),
    (exactly(A, B), {A, B}),
    (matching(lambda peer: peer.is_below("/a")), {BELOW_A}),
]


@pytest.mark.parametrize(("authorize", "accepted"), ACCEPTED)
@pytest.mark.parametrize("peer", [A, B, BELOW_A, ELSEWHERE, CASED], ids=str)
def test_only_who_is_meant_is_accepted(authorize: Authorizer, accepted: set[SpiffeID], peer: SpiffeID) -> None:
    if peer in accepted:
        authorize(peer)
    else:
        with pytest.raises(AuthorizationError, match=f"found {peer}"):
            authorize(peer)


def test_a_refusal_says_who_was_expected() -> None:
    with pytest.raises(AuthorizationError, match=r"expected spiffe://example\.org/a or spiffe://example\.org/b, found"):
        exactly(B, A)(CASED)
