"""SPIFFE IDs and trust domains.

They are parsed strictly, and compared only with each other: comparing one with a text is a TypeError.

Names: SpiffeID, TrustDomain, SpiffeIDError
"""

from svid import SpiffeID, SpiffeIDError, TrustDomain

domain = TrustDomain("example.org")
peer = SpiffeID.parse("spiffe://example.org/concierge/reasoning")
assert peer == SpiffeID.from_segments(domain, "concierge", "reasoning")
assert peer.is_member_of(domain)
assert peer.is_below("/concierge")
assert str(peer) == "spiffe://example.org/concierge/reasoning"

try:
    SpiffeID.parse("spiffe://example.org/concierge/../admin")
except SpiffeIDError as e:
    print(e, e.clause)
