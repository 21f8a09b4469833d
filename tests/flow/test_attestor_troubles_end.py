"""Each trouble of the attestor ends when its cause is over, and what fails meanwhile costs the issuer nothing: on a FakeClock."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from attestor.parts import Flows
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from svid.spiffeid import TrustDomain
from tests.doubles.attestorflows import running_flows
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.state import MemoryState
from tests.doubles.until import pass_until, until

FULL = Refused(Kind.UNAVAILABLE, "no space left on device")


@dataclass(frozen=True, kw_only=True)
class House:
    """An attestor's flows, running, its disk, and the issuer."""

    issuer: IssuerInMemory
    clock: FakeClock
    state: MemoryState
    flows: Flows

    def troubles(self) -> set[str]:
        return {one.what for one in self.flows.around.troubles.all()}

    async def let_pass(self, seconds: float) -> None:
        """Let that time pass, in steps that nobody's rest is shorter than."""
        end = self.clock.monotonic() + seconds
        await pass_until(self.clock, lambda: self.clock.monotonic() >= end, step=0.1)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock, state = FakeClock(), MemoryState()
    issuer = IssuerInMemory(clock, TrustDomain("example.org"))
    async with running_flows(issuer, clock, state) as flows:
        yield House(issuer=issuer, clock=clock, state=state, flows=flows)


async def test_a_token_that_could_not_be_minted_is_told_for_half_a_minute_though_nobody_asks_again(
    house: House,
) -> None:
    house.issuer.put(entry("web"))
    house.issuer.most = 0
    with pytest.raises(Refused):
        await house.flows.jwts.jwt_svid(entry("web"), ["a"])
    assert "jwt-svid mint" in house.troubles()
    house.issuer.most = None
    await pass_until(house.clock, lambda: not house.troubles())
    assert house.clock.monotonic() <= 31


async def test_a_mint_of_an_entry_that_goes_away_is_no_trouble_any_more(house: House) -> None:
    house.issuer.most = 0
    house.issuer.put(entry("web"))
    await until(lambda: house.troubles() == {"x509-svid renewal"})
    house.issuer.delete(EntryID("web"))
    await pass_until(house.clock, lambda: not house.troubles())


async def test_a_bundle_that_the_disk_does_not_take_is_trusted_told_and_kept_once_it_does(house: House) -> None:
    feeds = house.issuer.feeds
    house.state.refuses = FULL
    house.issuer.rotate()
    house.issuer.put(entry("web"))
    await until(lambda: EntryID("web") in house.flows.cache.svids)
    await house.let_pass(60)
    node = house.flows.node.node
    assert node.bundle == house.issuer.bundle
    assert house.troubles() == {"node on disk"}
    assert house.issuer.feeds == feeds + 1, "one, over the channel that trusts the new bundle"
    assert house.state.load() != node
    house.state.refuses = None
    await pass_until(house.clock, lambda: not house.troubles())
    assert house.state.load() == node


async def test_a_node_svid_that_the_disk_does_not_take_costs_the_issuer_one_and_not_one_for_each_attempt(
    house: House,
) -> None:
    house.state.refuses = FULL
    house.clock.advance(timedelta(minutes=30))
    await house.let_pass(300)
    assert house.issuer.renewals == 1
    assert house.troubles() == {"node svid renewal", "node on disk"}
    before, house.state.refuses = house.flows.node.node, None
    await pass_until(house.clock, lambda: not house.troubles())
    assert house.flows.node.node is not before
    assert house.state.load() == house.flows.node.node
    assert house.issuer.renewals == 2


async def test_feeds_that_end_after_their_first_message_are_opened_at_rests_that_grow(house: House) -> None:
    house.issuer.ends_feeds = True
    house.issuer.put(entry("web"))
    before = house.issuer.feeds
    await house.let_pass(60)
    assert house.issuer.feeds - before <= 60 / 0.75 + 5, "a second, give or take a quarter"
    house.issuer.ends_feeds = False
    await pass_until(house.clock, lambda: not house.troubles())
