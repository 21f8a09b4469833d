"""What a started attestor says of when it heard its issuer, before it has: how long it may be, and that it does not know."""

from datetime import timedelta

from svid.spiffeid import TrustDomain
from tests.doubles.attestorflows import joined_flows, running_flows
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import IssuerInMemory


async def test_before_the_first_word_since_the_start_nothing_is_claimed_heard() -> None:
    clock = FakeClock()
    flows = await joined_flows(IssuerInMemory(clock, TrustDomain("example.org")), clock)
    clock.advance(timedelta(seconds=737))
    seen = flows.observe()
    assert (seen.has_heard, seen.heard_ago) == (False, timedelta(seconds=737)), "the age that denials are taken to have"


async def test_after_it_the_age_is_known() -> None:
    clock = FakeClock()
    async with running_flows(IssuerInMemory(clock, TrustDomain("example.org")), clock) as flows:
        assert flows.observe().has_heard
