"""What an issuer does when its clock is set, when it sleeps, and when it was off: on a store in memory, at once.

Each stop of the product × off or asleep × a clock that is wrong afterwards: everything works again within seconds, nothing that is valid
is lost, and nobody has to do anything.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from enum import StrEnum

import pytest
from cryptography import x509

from issuer.decisions.authority import AuthorityKind, AuthorityState
from svid.bundle import Bundle
from svid.errors import X509SVIDError
from svid.x509svid import verify
from tests.doubles.agingissuer import AgingIssuer, aging
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW
from tests.doubles.until import until

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STEPS = (timedelta(), 10 * MINUTE, -10 * MINUTE)
AWAY = (HOUR, DAY, 7 * DAY, 30 * DAY, 60 * DAY)


@pytest.fixture
async def issuer() -> AsyncIterator[AgingIssuer]:
    async with aging(FakeClock(NOW)) as started:
        yield started


class Stop(StrEnum):
    """What holds something up when the issuer goes away."""

    NOTHING = "nothing"
    SPREAD = "the spread time of an authority that was asked for"
    GUARD = "a clock that is doubted"
    BACKOFF = "the delays of a store that refuses"
    OLD_AGE = "an authority that is about to end"


async def come_to(issuer: AgingIssuer, stop: Stop) -> None:
    """Bring it to where that holds something up."""
    await issuer.mint()
    await issuer.mint_jwt()
    match stop:
        case Stop.SPREAD:
            for kind in AuthorityKind:
                await issuer.ask(kind)
            await issuer.go_on(10)
        case Stop.GUARD:
            issuer.clock.jump(2 * HOUR)
            await issuer.go_on(10)
            assert issuer.guard.doubt
        case Stop.BACKOFF:
            issuer.store.refuses = True
            issuer.clock.advance(6 * DAY)
            await issuer.go_on(60)
            assert issuer.troubles.all()
        case Stop.OLD_AGE:
            await issuer.restart_after(13 * DAY)
        case Stop.NOTHING:
            pass


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("away", AWAY, ids=str)
@pytest.mark.parametrize("stop", Stop)
async def test_an_issuer_that_was_off_comes_back(
    issuer: AgingIssuer, stop: Stop, away: timedelta, step: timedelta
) -> None:
    await come_to(issuer, stop)
    await issuer.restart_after(away, step=step)
    await issuer.comes_back()


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("away", AWAY, ids=str)
@pytest.mark.parametrize("stop", Stop)
async def test_an_issuer_that_slept_comes_back(
    issuer: AgingIssuer, stop: Stop, away: timedelta, step: timedelta
) -> None:
    await come_to(issuer, stop)
    issuer.clock.suspend(away)
    issuer.clock.jump(step)
    issuer.store.refuses = False
    await issuer.comes_back(within=40 if stop is Stop.BACKOFF else 20)  # the delays are up to half a minute


@pytest.mark.parametrize(
    "step", [10 * MINUTE, -10 * MINUTE, 65 * MINUTE, 8 * DAY, -8 * DAY, 60 * DAY, -60 * DAY], ids=str
)
async def test_a_clock_that_is_set_and_put_right_needs_no_restart_and_loses_nothing(
    issuer: AgingIssuer, step: timedelta
) -> None:
    await issuer.check()
    issuer.clock.jump(step)
    await issuer.comes_back()
    await issuer.go_on(60)
    issuer.clock.jump(-step)
    await issuer.comes_back()
    await issuer.go_on(60)
    await issuer.check()
    assert not issuer.guard.doubt


async def test_what_failed_by_a_wrong_clock_is_no_trouble_once_it_is_right(issuer: AgingIssuer) -> None:
    issuer.store.refuses = True
    issuer.clock.jump(-10 * MINUTE)
    await issuer.go_on(30)
    assert {"issuer svid renewal", "authority rotation"} <= {one.what for one in issuer.troubles.all()}
    issuer.store.refuses = False
    issuer.clock.jump(10 * MINUTE)
    await issuer.go_on(20)
    assert not issuer.troubles.all()
    await issuer.check()


async def test_an_issuer_that_started_20_minutes_fast_comes_back_once_its_clock_is_right() -> None:
    async with aging(FakeClock(NOW + 20 * MINUTE)) as issuer:
        await issuer.check()
        early = issuer.identity.not_before
        issuer.clock.jump(-20 * MINUTE)
        assert early > issuer.clock.now()
        await issuer.comes_back()
        assert issuer.identity.is_valid(issuer.clock.now())
        await issuer.go_on(30 * 60)
        await issuer.check()


@pytest.mark.parametrize("after", range(0, 12, 3))
async def test_an_svid_that_is_over_is_replaced_within_a_second_of_the_stores_return(
    issuer: AgingIssuer, after: int
) -> None:
    issuer.store.refuses = True
    await issuer.go_on(HOUR.total_seconds() - 7)
    for _ in range(7 + after):
        issuer.clock.advance(1)
        await issuer.settle()
    before = issuer.identity
    assert not before.is_valid(issuer.clock.now())
    issuer.store.refuses = False
    issuer.clock.advance(1)
    await until(lambda: issuer.identity is not before)


async def test_an_svid_that_became_due_in_a_sleep_is_renewed_at_the_next_look(issuer: AgingIssuer) -> None:
    before = issuer.identity
    issuer.clock.suspend(65 * MINUTE)
    await issuer.go_on(5)
    await issuer.comes_back(within=1)
    assert issuer.identity.issued_at > before.not_after


@pytest.mark.parametrize("day", [5, 10, 13])
async def test_an_issuer_that_was_off_until_some_day_and_runs_through_day_14_loses_nothing(
    issuer: AgingIssuer, day: int
) -> None:
    await issuer.check()
    first = {row.key_id for row in await issuer.rows()}
    await issuer.restart_after(day * DAY)
    assert issuer.guard.doubt
    while issuer.clock.now() < NOW + 15 * DAY:
        issuer.clock.advance(6 * HOUR)
        await issuer.comes_back()
    await issuer.go_on(20)  # so that everybody has looked since the last step
    assert not issuer.guard.doubt, "a day of an even clock was enough"
    states = {row.state for row in await issuer.rows() if row.key_id in first}
    assert states == {AuthorityState.RETIRED}, "what destroys went on"


async def test_nothing_is_retired_and_no_key_destroyed_while_the_clock_is_doubted(issuer: AgingIssuer) -> None:
    keys = set(await issuer.keys.list())
    bundle = await issuer.bundle()
    issuer.clock.jump(60 * DAY)
    await issuer.comes_back()
    for _ in range(23):
        issuer.clock.advance(HOUR)
        await issuer.comes_back()
    assert keys <= set(await issuer.keys.list())
    assert set(bundle.x509_authorities) <= set((await issuer.bundle()).x509_authorities)
    issuer.clock.advance(2 * HOUR)
    await issuer.comes_back()
    await issuer.go_on(20)
    assert not keys & set(await issuer.keys.list())


async def test_one_that_signed_before_and_whose_key_is_gone_is_not_let_sign_again(issuer: AgingIssuer) -> None:
    await issuer.check()
    issuer.clock.jump(60 * DAY)
    await issuer.comes_back()
    old = [row for row in await issuer.rows() if row.state is AuthorityState.OLD]
    assert {row.kind for row in old} == set(AuthorityKind)
    for row in old:
        await issuer.keys.delete(row.key_id)
    issuer.clock.jump(-60 * DAY)
    await issuer.comes_back()
    states = {row.key_id: row.state for row in await issuer.rows()}
    assert {states[row.key_id] for row in old} == {AuthorityState.OLD}
    assert "authority not let sign again" in await issuer.audit()


@pytest.mark.parametrize("slow", [-10 * MINUTE, -8 * DAY], ids=str)
async def test_an_issuer_that_was_started_with_a_slow_clock_is_trusted_again_once_it_is_right(
    issuer: AgingIssuer, slow: timedelta
) -> None:
    kept = await issuer.bundle()
    await issuer.restart_after(timedelta(), step=slow)
    await issuer.comes_back()
    await issuer.go_on(60)
    issuer.clock.jump(-slow)
    await issuer.go_on(30)
    await issuer.comes_back()
    leaf = x509.load_der_x509_certificate(issuer.identity.chain[0])
    assert is_vouched_for(leaf, kept, issuer.clock)
    active = [row.key_id for row in await issuer.rows() if row.state is AuthorityState.ACTIVE]
    await issuer.go_on(3600)
    assert [row.key_id for row in await issuer.rows() if row.state is AuthorityState.ACTIVE] == active


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize(
    ("away", "trusts"), [(HOUR, True), (DAY, True), (5 * DAY, True), (7 * DAY, True), (30 * DAY, False)], ids=str
)
@pytest.mark.parametrize("who", ["its attestor", "everybody"])
async def test_a_node_that_was_away_trusts_the_issuer_when_it_returns_within_its_window(
    issuer: AgingIssuer, who: str, away: timedelta, step: timedelta, *, trusts: bool
) -> None:
    kept = await issuer.bundle()
    if who == "everybody":
        await issuer.restart_after(away, step=step)
    else:
        end = issuer.clock.now() + away
        while issuer.clock.now() < end:
            issuer.clock.advance(min(6 * HOUR, end - issuer.clock.now()))
            await issuer.go_on(10)
        issuer.clock.jump(step)
    await issuer.comes_back()
    leaf = x509.load_der_x509_certificate(issuer.identity.chain[0])
    found = is_vouched_for(leaf, kept, issuer.clock)
    assert found is trusts


def is_vouched_for(leaf: x509.Certificate, kept: Bundle, clock: FakeClock) -> bool:
    """Whether whoever kept that bundle takes this leaf now."""
    try:
        verify([leaf], kept, at=clock.now())
    except X509SVIDError:
        return False
    return True
