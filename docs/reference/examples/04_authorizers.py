"""Who may be at the other end.

An authorizer is a function that takes the peer's SPIFFE ID. `True` and `None` admit the peer, everything else refuses it.

Names: any_in, exactly, matching, AuthorizationError
"""

from svid import AuthorizationError, SpiffeID, any_in, exactly, matching

web = SpiffeID.parse("spiffe://example.org/web")
everybody = any_in("example.org")
one_of_two = exactly("spiffe://example.org/web", "spiffe://example.org/mail")
listed = matching({web: True}.get)  # dict.get says None for "no", and `matching` takes that as a refusal


def below_concierge(peer: SpiffeID) -> bool:
    return peer.trust_domain.name == "example.org" and peer.is_below("/concierge")


for authorize in (everybody, one_of_two, listed):
    authorize(web)
assert not below_concierge(web)

try:
    one_of_two(SpiffeID.parse("spiffe://example.org/legacy"))
except AuthorizationError as e:
    print(e)
