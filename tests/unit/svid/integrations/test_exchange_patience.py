"""svid/integrations/exchange: who waits while a provider is silent or refuses, and how often it is asked."""

import asyncio
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from svid.errors import ExchangeError
from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import generic_profile
from tests.doubles.clock import FakeClock
from tests.doubles.freshtokens import FreshTokensDouble
from tests.doubles.provider import AUDIENCE, ProviderDouble, Scripted, error_of

SECONDS = 5.0  # until a caller who should not have waited is known to wait
FAILURES = [Scripted(status=400), Scripted(status=500), Scripted(raw=b""), Scripted(status=200, body=b"[]")]


def test_while_one_caller_renews_the_others_get_the_last_token_at_once(
    exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock
) -> None:
    first = exchange.token()
    clock.advance(541)
    bank.may_answer.clear()
    with ThreadPoolExecutor(2) as pool:
        try:
            renewing = pool.submit(exchange.token)
            while len(bank.asked) < 2:
                pass
            assert pool.submit(exchange.token).result(SECONDS) is first
            assert not renewing.done()
        finally:
            bank.may_answer.set()
        assert renewing.result() is exchange.token() is not first


async def test_while_one_task_renews_the_others_get_the_last_token_at_once(
    exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock
) -> None:
    first = exchange.token()
    clock.advance(541)
    bank.may_answer.clear()
    with ThreadPoolExecutor(1) as pool:
        try:
            renewing = pool.submit(exchange.token)
            while len(bank.asked) < 2:
                pass
            assert await asyncio.wait_for(exchange.token_async(), SECONDS) is first
            assert not renewing.done()
        finally:
            bank.may_answer.set()


def test_a_token_that_is_over_is_given_to_nobody_while_it_is_renewed(
    exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock
) -> None:
    first = exchange.token()
    clock.advance(541)
    bank.may_answer.clear()
    with ThreadPoolExecutor(2) as pool:
        renewing = pool.submit(exchange.token)
        while len(bank.asked) < 2:
            pass
        clock.advance(59)
        waiting = pool.submit(exchange.token)
        bank.may_answer.set()
        assert waiting.result() is not first
        assert renewing.result() is not first


PAUSES = [(600, 541, 5.9), (3600, 3310, 29), (40, 25, 5), (86400, 86110, 29), (86400, 86395, 5)]


@pytest.mark.parametrize("times", PAUSES)
def test_a_renewal_that_failed_is_tried_again_after_a_part_of_what_is_left(
    times: tuple[int, int, float], exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock
) -> None:
    life, at, pause = times
    bank.expires_in = life
    first = exchange.token()
    clock.advance(at)
    bank.script = [Scripted(status=500)] * 9
    for seconds, asked in ((0, 2), (pause - 0.2, 2)):
        clock.advance(seconds)
        assert exchange.token() is first
        assert len(bank.asked) == asked
    clock.advance(0.3)
    if at + pause < life:
        assert exchange.token() is first
    else:
        error_of(exchange, "answered 500")
    assert len(bank.asked) == 3


@pytest.mark.parametrize("failure", FAILURES)
def test_after_a_failure_callers_get_its_error_until_a_short_rest_is_over(
    failure: Scripted, exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock, tokens: FreshTokensDouble
) -> None:
    bank.script = [failure]
    error = error_of(exchange)
    for _ in range(3):
        clock.advance(0.125)
        again = error_of(exchange)
        assert again is not error
        assert (str(again), again.status) == (str(error), error.status)
    assert len(bank.asked) == len(tokens.asked) == 1
    clock.advance(0.125)
    assert exchange.token().value == "access-0"


def test_a_storm_of_callers_makes_one_exchange(exchange: TokenExchange, bank: ProviderDouble) -> None:
    """The clock stands still, so that the rest does not end."""
    bank.script = [Scripted(status=400)] * 500
    begun = threading.Barrier(50)

    def ask() -> int:
        begun.wait()
        failed = 0
        for _ in range(10):
            try:
                exchange.token()
            except ExchangeError:
                failed += 1
        return failed

    with ThreadPoolExecutor(50) as pool:
        asking = [pool.submit(ask) for _ in range(50)]
        assert [one.result() for one in asking] == [10] * 50
    assert len(bank.asked) == 1


def test_a_provider_that_nobody_can_reach_is_rested_from_as_well(
    tokens: FreshTokensDouble, context: ssl.SSLContext, clock: FakeClock
) -> None:
    profile = generic_profile("https://localhost:1/", AUDIENCE)
    exchange = TokenExchange(profile, tokens, context=context, clock=clock, timeout=timedelta(seconds=2))
    for _ in range(3):
        error_of(exchange, "connection refused")
    assert len(tokens.asked) == 1
