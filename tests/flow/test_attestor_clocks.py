"""A node whose clock and the issuer's are apart, or are set while it runs: against an issuer in memory that has a clock of its own."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from attestor.cache import HeldX509
from attestor.decisions.clocks import is_valid
from attestor.parts import Flows
from attestor.web.health import health_pages
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from svid.spiffeid import TrustDomain
from tests.doubles.attestorflows import running_flows
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.ownthreads import own_threads_done
from tests.doubles.until import until

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WEB = entry("web")


@dataclass(kw_only=True)
class House:
    """An attestor's flows, running with one clock, and the issuer with another."""

    own: FakeClock
    theirs: FakeClock
    issuer: IssuerInMemory
    flows: Flows

    @property
    def held(self) -> HeldX509 | None:
        return self.flows.cache.svids.get(EntryID("web"))

    def node_renewals(self) -> float:
        registry = self.flows.around.metrics.registry
        return registry.get_sample_value("cognomen_attestor_renewals_total", {"kind": "node", "outcome": "ok"}) or 0

    def is_good(self) -> bool:
        """Whether what is held is valid by both clocks."""
        held = self.held
        return held is not None and all(
            held.svid.not_before <= clock.now() < held.svid.not_after for clock in (self.own, self.theirs)
        )

    def is_served(self) -> bool:
        held = self.held
        return held is not None and is_valid(held.svid.not_before, held.svid.not_after, self.flows.around.clock.read())

    async def let_pass(self, time: timedelta, *, step: timedelta = timedelta(seconds=5)) -> None:
        """Let that time pass for both, in steps; what is held is served all the while."""
        for _ in range(int(time / step)):
            self.own.advance(step)
            self.theirs.advance(step)
            await settle()
            assert self.is_served()

    async def pass_seconds(self, seconds: int) -> None:
        """Let them pass for both, one by one."""
        for _ in range(seconds):
            await settle()
            self.own.advance(1)
            self.theirs.advance(1)
        await settle()

    def set_both(self, by: timedelta) -> None:
        self.own.jump(by)
        self.theirs.jump(by)


async def settle() -> None:
    """Let the loop run until it has nothing more to do without time; the node is kept by a thread."""
    for _ in range(3):
        for _ in range(20):
            await asyncio.sleep(0)
        await own_threads_done()


@pytest.fixture
def ahead() -> timedelta:
    """How far the node's clock is ahead from the start; negative: behind."""
    return timedelta()


@pytest.fixture
async def house(ahead: timedelta) -> AsyncIterator[House]:
    theirs = FakeClock()
    own = FakeClock(theirs.now() + ahead)
    issuer = IssuerInMemory(theirs, TrustDomain("example.org"))
    async with running_flows(issuer, own) as flows:
        issuer.put(WEB)
        one = House(own=own, theirs=theirs, issuer=issuer, flows=flows)
        await until(lambda: one.held is not None)
        yield one


AHEAD = [
    -DAY,
    -10 * MINUTE,
    -timedelta(seconds=75),
    timedelta(seconds=75),
    10 * MINUTE,
    40 * MINUTE,
    59 * MINUTE,
    8 * DAY,
]


@pytest.mark.parametrize("ahead", AHEAD, ids=str)
async def test_a_clock_that_is_wrong_costs_no_svid_and_makes_no_storm(house: House) -> None:
    await house.let_pass(6 * HOUR, step=MINUTE / 2)
    # 12 half-lives; a clock that sees little left hurries it to a twentieth of a life at most
    assert len(house.issuer.mints) <= 6 * 20 + 1
    assert 10 <= house.node_renewals() <= 6 * 20 + 1


@pytest.mark.parametrize(
    "ahead", [timedelta(), -10 * MINUTE, -timedelta(seconds=75), 20 * timedelta(seconds=1)], ids=str
)
async def test_a_clock_that_is_right_or_behind_renews_at_half_life(house: House) -> None:
    await house.let_pass(6 * HOUR, step=MINUTE / 2)
    assert 12 <= len(house.issuer.mints) <= 13


@pytest.mark.parametrize("ahead", AHEAD, ids=str)
async def test_clocks_that_are_apart_are_told_everywhere_until_one_is_put_right(house: House, ahead: timedelta) -> None:
    await house.let_pass(MINUTE / 2)
    seen = house.flows.observe()
    assert [one.what for one in seen.troubles] == ["clock"]
    assert "this node's clock says" in seen.troubles[0].reason
    assert house.flows.around.metrics.registry.get_sample_value(
        "cognomen_attestor_clock_ahead_seconds"
    ) == pytest.approx(ahead.total_seconds(), abs=1)
    ready = health_pages(lambda: house.flows.observe, list, house.flows.around.metrics)["/ready"]
    page = await ready(False)
    assert page.status == 503
    house.own.jump(-ahead)
    assert not house.flows.observe().troubles
    assert (await ready(False)).status == 200


@pytest.mark.parametrize("by", [-8 * DAY, -2 * HOUR, -10 * MINUTE, 10 * MINUTE, 2 * HOUR, 8 * DAY], ids=str)
async def test_a_node_whose_clock_is_set_keeps_its_svids_in_service(house: House, by: timedelta) -> None:
    await house.let_pass(5 * MINUTE)
    house.own.jump(by)
    await house.let_pass(2 * HOUR, step=MINUTE / 2)
    house.own.jump(-by)
    await house.let_pass(timedelta(seconds=30))
    assert house.is_good()
    assert len(house.issuer.mints) <= 2 * 20 + 4


@pytest.mark.parametrize("by", [2 * HOUR, 13 * DAY], ids=str)
async def test_an_issuer_that_is_fast_for_five_minutes_leaves_nothing_behind(house: House, by: timedelta) -> None:
    await house.let_pass(28 * MINUTE)
    before = house.held
    house.theirs.jump(by)
    await house.let_pass(5 * MINUTE)
    assert house.held is before  # what it mints now nobody would take
    house.theirs.jump(-by)
    await house.let_pass(timedelta(seconds=30))
    assert house.is_good()
    assert house.held is not before
    assert len(house.issuer.mints) <= 3


async def test_what_came_first_from_an_issuer_that_was_fast_is_made_anew_once_it_is_right(house: House) -> None:
    house.theirs.jump(50 * MINUTE)
    house.issuer.put(entry("db"))
    db = EntryID("db")
    await until(lambda: db in house.flows.cache.svids)
    token = await house.flows.jwts.jwt_svid(entry("db"), ["a"])
    house.theirs.jump(-50 * MINUTE)
    await house.let_pass(timedelta(seconds=30))
    assert house.flows.cache.svids[db].svid.not_before <= house.own.now()
    assert await house.flows.jwts.jwt_svid(entry("db"), ["a"]) is not token
    assert house.flows.node.node.svid.not_before <= house.own.now()


@pytest.mark.parametrize("by", [-8 * DAY, -10 * MINUTE, 10 * MINUTE, 65 * MINUTE, 8 * DAY], ids=str)
async def test_both_clocks_set_together_are_followed_within_half_a_minute(house: House, by: timedelta) -> None:
    await house.let_pass(5 * MINUTE)
    house.set_both(by)
    house.issuer.rotate()
    await house.pass_seconds(30)
    assert house.is_good()
    assert house.flows.node.node.svid.not_before <= house.own.now() < house.flows.node.node.svid.not_after


@pytest.mark.parametrize("asleep", [65 * MINUTE, 2 * DAY], ids=str)
async def test_a_machine_that_slept_has_valid_svids_within_seconds(house: House, asleep: timedelta) -> None:
    house.own.advance(asleep)
    house.theirs.advance(asleep)
    await house.pass_seconds(5)
    assert house.is_good()
    token = await house.flows.jwts.jwt_svid(WEB, ["a"])
    assert token.expires_at > house.own.now()


async def test_a_machine_that_was_frozen_comes_back_by_its_own_clock(house: House) -> None:
    house.set_both(2 * HOUR)  # no clock counts while a virtual machine is paused; then the wall clocks are put right
    house.issuer.set_reachable(reachable=False)
    await house.pass_seconds(60)
    house.issuer.set_reachable(reachable=True)
    await house.pass_seconds(30)
    assert house.is_good()


@pytest.mark.parametrize("ahead", [-10 * MINUTE, 4 * MINUTE], ids=str)
async def test_tokens_are_kept_for_half_their_life_and_never_beyond_it(house: House) -> None:
    first = await house.flows.jwts.jwt_svid(WEB, ["a"])
    assert await house.flows.jwts.jwt_svid(WEB, ["a"]) is first
    await house.let_pass(6 * MINUTE)
    house.issuer.set_reachable(reachable=False)
    with pytest.raises(Refused):
        await house.flows.jwts.jwt_svid(WEB, ["a"])
    house.issuer.set_reachable(reachable=True)
    for _ in range(100):
        await house.flows.jwts.jwt_svid(WEB, ["a"])
    assert len(house.issuer.jwt_mints) <= 3


async def test_the_trouble_of_a_return_that_was_tried_in_silence_ends_with_the_silence(house: House) -> None:
    house.issuer.set_reachable(reachable=False)
    await house.pass_seconds(60)
    assert "node svid renewal" in {one.what for one in house.flows.observe().troubles}
    house.issuer.set_reachable(reachable=True)
    await house.pass_seconds(30)
    assert not house.flows.observe().troubles


async def test_a_node_that_is_refused_asks_for_no_mints_each_second(house: House) -> None:
    house.issuer.refused_node = Refused(Kind.UNAUTHENTICATED, "node SVID: expired")
    house.issuer.refused_return = Refused(Kind.DENIED, "return: no")
    await house.pass_seconds(2400)
    failed = house.flows.around.metrics.registry.get_sample_value(
        "cognomen_attestor_renewals_total", {"kind": "x509", "outcome": "failed"}
    )
    assert failed is not None
    assert 10 <= failed <= 120
