"""svid/tls/chains: what is remembered of the chains that peers showed. How they are verified: test_livecontext.py."""

from svid.clock import SystemClock
from svid.tls.chains import Chains
from tests.doubles.trustdomain import TrustDomainDouble


def test_only_so_many_chains_are_remembered() -> None:
    domain = TrustDomainDouble()
    chains, bundles, now = Chains(), {domain.name: domain.bundle}, SystemClock().now()
    for number in range(300):
        assert chains.peer(domain.svid(f"/n{number}").chain_der(), bundles, now).spiffe_id.path == f"/n{number}"
    assert len(chains) == 256
