"""The attestor's tasks when a call ends as nobody asked it to, or never: started again, told, and nothing is left undone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from attestor.cache import Cache
from attestor.deniallog import DenialLog
from attestor.flows.keep_node import KeepNode
from attestor.flows.mint_jwts import MintJWTs
from attestor.issuerclient.port import MintedJWT
from attestor.parts import tasks_of
from bench.rig.attestorsurroundings import surroundings
from cognomen.daemon.supervisor import Supervisor
from cognomen.daemon.troubles import Troubles
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from svid.spiffeid import TrustDomain
from tests.doubles.attestorflows import joined_flows
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.until import pass_until, until

WEB = entry("web")


@dataclass(frozen=True, kw_only=True)
class House:
    """An attestor's tasks under their supervisor, and the issuer."""

    issuer: IssuerInMemory
    clock: FakeClock
    cache: Cache
    node: KeepNode
    jwts: MintJWTs
    supervisor: Supervisor
    troubles: Troubles

    def failing(self) -> set[str]:
        return {one.what for one in self.troubles.all() if one.what.startswith("task ")}

    def serial(self) -> int:
        return self.cache.svids[EntryID("web")].svid.serial

    async def pass_until(self, condition: Callable[[], bool]) -> None:
        await pass_until(self.clock, condition)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock, stop = FakeClock(), asyncio.Event()
    issuer = IssuerInMemory(clock, TrustDomain("example.org"))
    issuer.put(WEB)
    flows = await joined_flows(issuer, clock)
    supervisor = Supervisor(clock=clock, troubles=flows.around.troubles, restarts=flows.around.metrics.task_restarts)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run(tasks_of(flows), stop=stop))
        await until(lambda: EntryID("web") in flows.cache.svids and issuer.acknowledged == [flows.cache.cursor])
        yield House(
            issuer=issuer,
            clock=clock,
            cache=flows.cache,
            node=flows.node,
            jwts=flows.jwts,
            supervisor=supervisor,
            troubles=flows.around.troubles,
        )
        stop.set()


async def test_renewals_go_on_after_their_calls_were_cancelled_by_the_network(house: House) -> None:
    node, svid = house.node.node.svid, house.serial()
    house.issuer.cancels = 2
    house.clock.advance(timedelta(minutes=30))
    await until(lambda: house.failing() == {"task node svid", "task svids"})
    await house.pass_until(lambda: house.node.node.svid is not node and house.serial() != svid)
    await house.pass_until(lambda: not house.failing())


async def test_a_token_whose_mint_was_cancelled_is_refused_and_the_next_one_minted(house: House) -> None:
    house.issuer.cancels = 1
    with pytest.raises(Refused) as refused:
        await house.jwts.jwt_svid(WEB, ["a"])
    assert refused.value.kind is Kind.UNAVAILABLE
    later = asyncio.ensure_future(house.jwts.jwt_svid(WEB, ["a"]))
    await house.pass_until(later.done)
    assert isinstance(await later, MintedJWT)


async def test_an_acknowledgement_that_was_cancelled_is_made_up_for(house: House) -> None:
    house.issuer.cancels = 2  # the mint for the entry, too
    house.issuer.put(entry("web", dns_names=("another",)))
    await until(lambda: house.failing() == {"task acknowledgements", "task svids"})
    await house.pass_until(lambda: house.issuer.acknowledged[-1] == house.cache.cursor != house.issuer.acknowledged[0])
    assert house.clock.monotonic() < 60, "it does not take the next feed's first step"


async def test_a_silent_issuer_keeps_nobody_waiting_for_ever_and_nothing_is_left_undone(house: House) -> None:
    node, svid = house.node.node.svid, house.serial()
    house.issuer.is_silent = True
    house.issuer.put(entry("web", hint="another"))
    first = asyncio.ensure_future(house.jwts.jwt_svid(WEB, ["a"]))
    house.clock.advance(timedelta(minutes=30))
    stuck = {"task acknowledgements", "task node svid", "task svids", "task jwt-svids"}
    await house.pass_until(lambda: house.failing() == stuck)
    assert first.done(), "its mint was given up"
    assert isinstance(first.exception(), Refused)
    house.issuer.is_silent = False
    await house.pass_until(lambda: house.node.node.svid is not node and house.serial() != svid)
    await house.pass_until(lambda: house.issuer.acknowledged[-1] == house.cache.cursor)
    await house.pass_until(lambda: not house.failing())
    assert not house.supervisor.failing()


async def test_whoever_asks_for_a_token_gets_an_answer_although_nobody_mints() -> None:
    clock = FakeClock()
    issuer = IssuerInMemory(clock, TrustDomain("example.org"))
    cache = Cache(issuer.bundle, DenialLog())
    jwts = MintJWTs(client=issuer.client(), cache=cache, around=surroundings(clock), answer_seconds=0.05)
    with pytest.raises(Refused, match="cannot be minted now"):
        await asyncio.wait_for(jwts.jwt_svid(WEB, ["a"]), 5)
