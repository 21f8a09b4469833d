"""JWT-SVIDs on demand: kept, shared, batched; against an issuer in memory, with a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest

from attestor.cache import Cache
from attestor.decisions.node import Joining, joined
from attestor.decisions.sync import Change
from attestor.deniallog import DenialLog, number_of
from attestor.flows.mint_jwts import MintJWTs
from attestor.issuerclient.port import MAX_BATCH, JWTRequest, MintedJWT
from attestor.nodeclock import NodeClock
from bench.rig.attestorsurroundings import surroundings
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from issuer.decisions.feedsteps import in_order
from svid.denials import Denial
from svid.jwtsvid import JWTSVID
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.issuerclient import InMemoryIssuerClient, IssuerInMemory
from tests.doubles.until import until

WEB, DB = entry("web"), entry("db")
HALF = timedelta(minutes=2.5)


@dataclass(frozen=True, kw_only=True)
class Minting:
    issuer: IssuerInMemory
    clock: FakeClock
    jwts: MintJWTs
    cache: Cache
    running: "asyncio.Task[None]"


def taint(minting: Minting) -> None:
    """What the attestor learns when the authority that signs now is tainted."""
    minting.issuer.taint()
    learn(minting)


def learn(minting: Minting) -> None:
    """Have the attestor learn of the issuer's authorities."""
    updates = tuple(in_order(bundle=minting.issuer.bundle, tainted=minting.issuer.tainted))
    minting.cache.apply(Change(cursor=Cursor(incarnation="1", number=1), snapshot=False, updates=updates))


@pytest.fixture
async def minting() -> AsyncIterator[Minting]:
    clock = FakeClock()
    issuer = IssuerInMemory(clock, TrustDomain("example.org"), ttl=timedelta(days=1))
    issuer.put(WEB, DB)
    client, invite = issuer.client(), issuer.invite()
    key = generate_private_key(KeyKind.EC_P256)
    credential = issuer.join(invite.token, public_key_to_der(key.public_key()))
    await client.use(joined(invite, credential, Joining(private_key=key, token_hash=""), at=NodeClock(clock).read()))
    cache = Cache(issuer.bundle, DenialLog())
    jwts = MintJWTs(client=client, cache=cache, around=surroundings(clock))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(jwts.run())
        yield Minting(issuer=issuer, clock=clock, jwts=jwts, cache=cache, running=task)
        task.cancel()


async def test_a_token_is_minted_once_and_kept_until_half_life(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["a"])
    minting.clock.advance(HALF - timedelta(seconds=1))
    assert await minting.jwts.jwt_svid(WEB, ["a"]) is first
    minting.clock.advance(1)
    assert await minting.jwts.jwt_svid(WEB, ["a"]) is not first
    assert minting.issuer.jwt_mints == [1, 1]


async def test_a_token_that_is_denied_is_handed_out_no_more(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["a"])
    deny(minting, first)
    second = await minting.jwts.jwt_svid(WEB, ["a"])
    assert second.token != first.token
    assert await minting.jwts.jwt_svid(WEB, ["a"]) is second


async def test_a_token_of_a_tainted_authority_gives_way_at_once_to_another(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["a"])
    taint(minting)
    second = await minting.jwts.jwt_svid(WEB, ["a"])
    assert second.token != first.token
    assert await minting.jwts.jwt_svid(WEB, ["a"]) is second


async def test_a_token_of_a_tainted_authority_is_handed_out_while_the_issuer_is_away(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["a"])
    taint(minting)
    minting.issuer.set_reachable(reachable=False)
    assert await minting.jwts.jwt_svid(WEB, ["a"]) is first


async def test_a_token_whose_authority_has_left_the_bundle_is_handed_out_no_more(minting: Minting) -> None:
    await minting.jwts.jwt_svid(WEB, ["a"])
    minting.issuer.lose_authorities()
    learn(minting)
    minting.issuer.set_reachable(reachable=False)
    with pytest.raises(Refused, match="cannot be minted now"):
        await minting.jwts.jwt_svid(WEB, ["a"])


async def test_a_token_that_is_denied_is_no_help_while_the_issuer_is_away(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["a"])
    minting.issuer.set_reachable(reachable=False)
    minting.clock.advance(HALF)
    assert await minting.jwts.jwt_svid(WEB, ["a"]) is first
    deny(minting, first)
    with pytest.raises(Refused) as refused:
        await minting.jwts.jwt_svid(WEB, ["a"])
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_a_token_that_was_denied_before_it_came_is_not_taken(minting: Minting) -> None:
    coming = minting.issuer.authority.token(WEB.spiffe_id, ["a"], ttl=HALF)
    number = number_of(JWTSVID.parse_insecure(coming))
    assert number is not None
    minting.cache.denials.put([Denial(number + 1, minting.clock.now() + HALF)], Cursor(incarnation="1", number=1))
    with pytest.raises(Refused) as refused:
        await minting.jwts.jwt_svid(WEB, ["a"])
    assert refused.value.kind is Kind.UNAVAILABLE
    assert minting.jwts.kept == 0
    await minting.jwts.jwt_svid(WEB, ["a"])


def deny(minting: Minting, minted: MintedJWT) -> None:
    number = number_of(JWTSVID.parse_insecure(minted.token))
    assert number is not None
    minting.cache.denials.put([Denial(number, minted.expires_at)], Cursor(incarnation="1", number=1))


async def test_audiences_are_a_set(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["a", "b"])
    assert await minting.jwts.jwt_svid(WEB, ["b", "a", "b"]) is first


async def test_another_revision_of_the_entry_has_tokens_of_its_own(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["a"])
    assert await minting.jwts.jwt_svid(entry("web", revision=2), ["a"]) is not first


async def test_who_asks_at_the_same_time_for_the_same_shares_a_mint(minting: Minting) -> None:
    tokens = await asyncio.gather(*(minting.jwts.jwt_svid(WEB, ["a"]) for _ in range(20)))
    assert len({token.token for token in tokens}) == 1
    assert minting.issuer.jwt_mints == [1]


async def test_who_asks_at_the_same_time_for_something_else_shares_a_call(minting: Minting) -> None:
    wishes = [(WEB, ["a"]), (WEB, ["b"]), (DB, ["a"])]
    tokens = await asyncio.gather(*(minting.jwts.jwt_svid(one, audiences) for one, audiences in wishes))
    assert len({token.token for token in tokens}) == 3
    assert minting.issuer.jwt_mints == [3]


async def test_one_who_gives_up_takes_nothing_from_the_others(minting: Minting) -> None:
    async with asyncio.TaskGroup() as group:
        patient = group.create_task(minting.jwts.jwt_svid(WEB, ["a"]))
        hasty = group.create_task(minting.jwts.jwt_svid(WEB, ["a"]))
        await asyncio.sleep(0)
        hasty.cancel()
    assert isinstance(patient.result(), MintedJWT)


async def test_without_the_issuer_the_old_token_is_served_while_it_is_valid(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["a"])
    minting.issuer.set_reachable(reachable=False)
    minting.clock.advance(2 * HALF - timedelta(seconds=1))
    assert await minting.jwts.jwt_svid(WEB, ["a"]) is first
    minting.clock.advance(1)
    with pytest.raises(Refused) as refused:
        await minting.jwts.jwt_svid(WEB, ["a"])
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_a_fresh_token_is_shared_with_nobody_and_kept_for_nobody(minting: Minting) -> None:
    kept = await minting.jwts.jwt_svid(WEB, ["a"])
    fresh = await asyncio.gather(*(minting.jwts.jwt_svid(WEB, ["a"], fresh=True) for _ in range(3)))
    assert len({kept.token, *(one.token for one in fresh)}) == 4
    assert minting.issuer.jwt_mints == [1, 3]
    assert await minting.jwts.jwt_svid(WEB, ["a"]) is kept
    assert minting.jwts.kept == 1


async def test_fresh_tokens_are_within_the_limits_of_all_others(minting: Minting) -> None:
    kept = await minting.jwts.jwt_svid(WEB, ["a"])
    minting.issuer.refused_entries[WEB.id] = Refused(Kind.EXHAUSTED, "budget: expected at most 20 SVIDs a second")
    for _ in range(50):
        with pytest.raises(Refused) as refused:
            await minting.jwts.jwt_svid(WEB, ["a"], fresh=True)
        assert refused.value.kind is Kind.EXHAUSTED
    assert minting.issuer.jwt_mints == [1, 1]  # the first of the fifty asked the issuer
    assert await minting.jwts.jwt_svid(WEB, ["a"]) is kept


async def test_a_refusal_of_the_request_is_told_as_it_is(minting: Minting) -> None:
    minting.issuer.refused_entries[WEB.id] = Refused(Kind.INVALID, "audiences: expected at most 16")
    with pytest.raises(Refused, match="expected at most 16"):
        await minting.jwts.jwt_svid(WEB, ["a"])


async def test_an_entry_whose_budget_is_spent_is_told_so_and_rests_and_the_others_go_on(minting: Minting) -> None:
    kept = await minting.jwts.jwt_svid(WEB, ["kept"])
    minting.issuer.refused_entries[WEB.id] = Refused(Kind.EXHAUSTED, "budget: expected at most 20 SVIDs a second")
    for number in range(50):
        with pytest.raises(Refused) as refused:
            await minting.jwts.jwt_svid(WEB, [f"a{number}"])
        assert refused.value.kind is Kind.EXHAUSTED
    assert minting.issuer.jwt_mints == [1, 1]  # the first of the fifty asked the issuer
    assert await minting.jwts.jwt_svid(WEB, ["kept"]) is kept
    assert isinstance(await minting.jwts.jwt_svid(DB, ["a"]), MintedJWT)
    del minting.issuer.refused_entries[WEB.id]
    minting.clock.advance(1)
    assert isinstance(await minting.jwts.jwt_svid(WEB, ["a"]), MintedJWT)


async def test_an_entry_that_rests_passes_on_the_issuers_reason(minting: Minting) -> None:
    minting.issuer.refused_entries[WEB.id] = Refused(Kind.EXHAUSTED, "limit of component a/b: expected at most 2")
    for _ in range(2):  # from the issuer, then while it rests
        with pytest.raises(Refused, match="limit of component a/b: expected at most 2"):
            await minting.jwts.jwt_svid(WEB, ["a"])
    assert minting.issuer.jwt_mints == [1]


async def test_an_entry_that_rests_renews_its_tokens(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["kept"])
    minting.clock.advance(HALF)
    minting.issuer.refused_entries[WEB.id] = Refused(Kind.EXHAUSTED, "limit of component a/b: expected at most 2")
    with pytest.raises(Refused):
        await minting.jwts.jwt_svid(WEB, ["another"])
    del minting.issuer.refused_entries[WEB.id]
    assert await minting.jwts.jwt_svid(WEB, ["kept"]) is not first


async def test_an_entry_with_declared_audiences_that_rests_may_try_some_others(minting: Minting) -> None:
    declared = entry("web", audiences=tuple(sorted(f"a{number}" for number in range(100))))
    minting.issuer.refused_entries[WEB.id] = Refused(Kind.EXHAUSTED, "limit of component a/b: expected at most 2")
    for number in range(100):
        with pytest.raises(Refused, match="limit of component a/b"):
            await minting.jwts.jwt_svid(declared, [f"a{number}"])
        with pytest.raises(Refused, match="limit of component a/b"):
            await minting.jwts.jwt_svid(declared, ["a0"], fresh=True)
    assert sum(minting.issuer.jwt_mints) == 16


async def test_a_renewal_that_is_refused_is_not_asked_for_at_each_call(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["kept"])
    taint(minting)
    minting.issuer.refused_entries[WEB.id] = Refused(Kind.EXHAUSTED, "budget: expected at most 20 SVIDs a second")
    for _ in range(50):
        assert await minting.jwts.jwt_svid(WEB, ["kept"]) is first
    assert minting.issuer.jwt_mints == [1, 1]
    minting.clock.advance(2)
    del minting.issuer.refused_entries[WEB.id]
    assert await minting.jwts.jwt_svid(WEB, ["kept"]) is not first


async def test_a_refusal_of_the_node_is_none_of_the_workloads_business(minting: Minting) -> None:
    minting.issuer.refused_node = Refused(Kind.DENIED, "node SVID: superseded by a later one")
    with pytest.raises(Refused) as refused:
        await minting.jwts.jwt_svid(WEB, ["a"])
    assert refused.value.kind is Kind.UNAVAILABLE
    assert "node" not in refused.value.detail


async def test_an_entry_that_the_issuer_no_longer_knows_is_unavailable(minting: Minting) -> None:
    minting.issuer.delete(WEB.id)
    with pytest.raises(Refused) as refused:
        await minting.jwts.jwt_svid(WEB, ["a"])
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_a_token_of_another_name_is_not_taken(minting: Minting) -> None:
    other = entry("web", spiffe_id=SpiffeID.parse("spiffe://example.org/other"))
    with pytest.raises(Refused) as refused:
        await minting.jwts.jwt_svid(other, ["a"])
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_a_uid_waits_for_one_batch_however_much_another_has_asked_for_and_of_the_same_entry(
    minting: Minting,
) -> None:
    many = [asyncio.ensure_future(minting.jwts.jwt_svid(WEB, [f"a{n}"], whose=1)) for n in range(1000)]
    await until(lambda: len(minting.issuer.jwt_mints) >= 1)
    begun = len(minting.issuer.jwt_mints)
    await minting.jwts.jwt_svid(WEB, ["a999"], whose=2)  # which the other has asked for, too, as its last one
    assert len(minting.issuer.jwt_mints) <= begun + 3
    assert len({(await one).token for one in many}) == 1000
    assert len(minting.issuer.jwt_mints) == 16, "none was minted twice"


async def test_only_so_many_tokens_are_kept_and_the_longest_unused_goes(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(WEB, ["first"])
    second = await minting.jwts.jwt_svid(WEB, ["second"])
    assert await minting.jwts.jwt_svid(WEB, ["first"]) is first
    await asyncio.gather(*(minting.jwts.jwt_svid(WEB, [f"a{number}"]) for number in range(999)))
    assert await minting.jwts.jwt_svid(WEB, ["first"]) is first
    assert await minting.jwts.jwt_svid(WEB, ["second"]) is not second


async def test_only_so_many_may_be_minted_at_the_same_time_and_one_uid_leaves_room(minting: Minting) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(minting.jwts.jwt_svid(WEB, [f"a{number}"])) for number in range(2048)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await minting.jwts.jwt_svid(WEB, ["one more"])
        assert isinstance(await minting.jwts.jwt_svid(DB, ["a"], whose=2), MintedJWT)
        for task in tasks:
            task.cancel()
    assert refused.value.kind is Kind.EXHAUSTED


async def test_fresh_tokens_have_no_more_room_than_others(minting: Minting) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(minting.jwts.jwt_svid(WEB, ["a"], fresh=True)) for _ in range(2048)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await minting.jwts.jwt_svid(WEB, ["a"], fresh=True)
        assert isinstance(await minting.jwts.jwt_svid(DB, ["a"], whose=2, fresh=True), MintedJWT)
        for task in tasks:
            task.cancel()
    assert refused.value.kind is Kind.EXHAUSTED


async def test_one_uid_throws_away_no_token_of_another(minting: Minting) -> None:
    first = await minting.jwts.jwt_svid(DB, ["a"], whose=2)
    for start in range(0, 3000, 500):
        wishes = (minting.jwts.jwt_svid(WEB, [f"a{number}"]) for number in range(start, start + 500))
        await asyncio.gather(*wishes)
    assert await minting.jwts.jwt_svid(DB, ["a"]) is first


class HangingClient(InMemoryIssuerClient):
    """A client whose issuer never answers."""

    async def mint_jwt(self, requests: Sequence[JWTRequest]) -> Sequence[MintedJWT | Refused]:
        await asyncio.Event().wait()
        return await super().mint_jwt(requests)


async def test_nobody_waits_for_ever_when_minting_ends() -> None:
    clock = FakeClock()
    issuer = IssuerInMemory(clock, TrustDomain("example.org"))
    jwts = MintJWTs(
        client=HangingClient(issuer),
        cache=Cache(issuer.bundle, DenialLog()),
        around=surroundings(clock),
    )

    async def ask() -> None:
        with pytest.raises(Refused, match="cannot be minted now"):
            await jwts.jwt_svid(WEB, ["a"])

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        running = group.create_task(jwts.run())
        for _ in range(10):
            await asyncio.sleep(0)
        running.cancel()


async def test_what_a_run_that_ended_has_left_in_the_queue_the_next_one_mints(minting: Minting) -> None:
    minting.issuer.is_silent = True
    asked = [asyncio.ensure_future(minting.jwts.jwt_svid(WEB, [f"a{number}"])) for number in range(MAX_BATCH + 1)]
    for _ in range(10):
        await asyncio.sleep(0)
    minting.running.cancel()
    with pytest.raises(Refused, match="cannot be minted now"):
        await asyncio.gather(*asked[:-1])
    minting.issuer.is_silent = False
    next_run = asyncio.ensure_future(minting.jwts.run())
    assert isinstance(await asyncio.wait_for(asked[-1], 5), MintedJWT)
    next_run.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
