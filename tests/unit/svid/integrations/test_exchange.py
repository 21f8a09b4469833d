"""svid/integrations/exchange: when an exchange is made, by whom, and what becomes of its outcome; against a provider over real TLS."""

import asyncio
import logging
import os
import signal
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from svid.errors import ExchangeError, WorkloadAPIError
from svid.integrations.exchange import AccessToken, TokenExchange
from svid.integrations.exchange_profiles import (
    Profile,
    anthropic_profile,
    aws_sts_profile,
    azure_profile,
    gcp_sts_profile,
    generic_profile,
    openai_profile,
    vault_profile,
)
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.freshtokens import FreshTokensDouble
from tests.doubles.provider import AUDIENCE, ProviderDouble, Scripted, error_of
from tests.doubles.until import until

SECOND = timedelta(seconds=1)

PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/own"
PROFILES = {
    "oauth anthropic": lambda url: anthropic_profile("fdrl_1", "org", service_account_id="svac_1", url=url),
    "oauth openai": lambda url: openai_profile("idp_1", "sa_1", url=url),
    "oauth gcp": lambda url: gcp_sts_profile(PROVIDER, url=url),
    "oauth azure": lambda url: azure_profile("tenant", "client", "https://vault.azure.net/.default", authority=url),
    "oauth bearer": lambda url: generic_profile(url, AUDIENCE),
    "oauth exchange": lambda url: generic_profile(url, AUDIENCE, grant="token-exchange", fields={"scope": "a b"}),
    "vault vault": lambda url: vault_profile(url, "role", "vault", namespace="team"),
    "aws aws": lambda url: aws_sts_profile("arn:aws:iam::1:role/r", "s", url=url),
    "aws-xml aws": lambda url: aws_sts_profile("arn:aws:iam::1:role/r", "s", url=url, duration=timedelta(minutes=15)),
}


@pytest.mark.parametrize("kind", PROFILES)
def test_each_provider_takes_what_its_profile_sends(
    kind: str, bank: ProviderDouble, tokens: FreshTokensDouble, clock: FakeClock, context: ssl.SSLContext
) -> None:
    profile: Profile = PROFILES[kind](bank.url)
    bank.form, bank.audience = kind.split(maxsplit=1)[0], profile.audience
    token = TokenExchange(profile, tokens, context=context, clock=clock).token()
    assert token.value == "access-0"
    assert token.expires_at is not None
    assert abs(token.expires_at - clock.now() - 600 * SECOND) < 3 * SECOND
    assert tokens.asked == [(None, True)]
    (asked,) = bank.asked
    assert profile.fields.items() <= asked.items()
    assert len(asked) == len(profile.fields) + 1
    assert {name.lower(): value for name, value in profile.headers.items()}.items() <= bank.headers[0].items()


def test_credentials_of_aws_are_in_the_fields_and_in_no_text(
    bank: ProviderDouble, tokens: FreshTokensDouble, context: ssl.SSLContext
) -> None:
    profile = aws_sts_profile("arn:aws:iam::1:role/r", "s", url=bank.url)
    bank.form, bank.audience = "aws", profile.audience
    token = TokenExchange(profile, tokens, context=context).token()
    assert token.fields == {"AccessKeyId": "ASIA1", "SecretAccessKey": "secret-access-0", "SessionToken": "access-0"}
    assert "access-0" not in repr(token)
    assert "ASIA1" not in repr(token)


LIVES = [(20, 10), (50, 25), (100, 70), (600, 540), (3600, 3300), (7200, 6900), (10**12, 3660 * 86400 - 300)]


@pytest.mark.parametrize(("life", "kept"), LIVES)
def test_a_token_is_kept_until_shortly_before_its_end(
    life: int, kept: int, exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock
) -> None:
    bank.expires_in = life
    first = exchange.token()
    clock.advance(kept - 1)
    assert exchange.token() is first
    clock.jump(-(kept - 1) * SECOND)  # the JWT-SVIDs of the double live around the machine's time
    clock.advance(1)
    assert exchange.token() is not first


def test_a_step_of_the_wall_clock_changes_nothing(exchange: TokenExchange, clock: FakeClock) -> None:
    first = exchange.token()
    clock.jump(timedelta(days=8))
    assert exchange.token() is first
    clock.jump(timedelta(days=-16))
    assert exchange.token() is first


@pytest.mark.parametrize("expires_in", [None, "600", 600.0])
def test_a_life_may_be_written_in_several_ways(
    expires_in: object, exchange: TokenExchange, bank: ProviderDouble
) -> None:
    bank.expires_in = expires_in
    first = exchange.token()
    assert (first.expires_at is None) == (expires_in is None)
    assert (exchange.token() is first) == (expires_in is not None)  # without an end it is used once


def test_a_profile_may_give_a_life_to_tokens_without_one(
    bank: ProviderDouble, tokens: FreshTokensDouble, clock: FakeClock, context: ssl.SSLContext
) -> None:
    bank.expires_in = None
    profile = generic_profile(bank.url, AUDIENCE, default_life=100 * SECOND)
    exchange = TokenExchange(profile, tokens, context=context, clock=clock)
    first = exchange.token()
    assert first.expires_at == clock.now() + 100 * SECOND
    assert exchange.token() is first


def test_threads_that_come_at_once_share_one_exchange(exchange: TokenExchange, bank: ProviderDouble) -> None:
    bank.may_answer.clear()
    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(exchange.token) for _ in range(20)]
        while not bank.asked:
            pass
        bank.may_answer.set()
    assert {one.result().value for one in asking} == {"access-0"}
    assert len(bank.asked) == 1


async def test_tasks_that_come_at_once_share_one_exchange_and_one_that_is_cancelled_stops_nobody(
    exchange: TokenExchange, bank: ProviderDouble
) -> None:
    bank.may_answer.clear()
    asking = [asyncio.create_task(exchange.token_async()) for _ in range(20)]
    await until(lambda: bool(bank.asked))
    asking[0].cancel()  # it began the exchange
    bank.may_answer.set()
    tokens = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(tokens[0], asyncio.CancelledError)
    assert {one.value for one in tokens if isinstance(one, AccessToken)} == {"access-0"}
    assert len(bank.asked) == 1


def test_an_exchange_outlives_the_loop_of_the_task_that_began_it(exchange: TokenExchange, bank: ProviderDouble) -> None:
    bank.may_answer.clear()

    async def leave() -> None:
        asking = asyncio.create_task(exchange.token_async())
        await until(lambda: bool(bank.asked))
        asking.cancel()

    asyncio.run(leave())
    bank.may_answer.set()
    assert exchange.token().value == "access-0"
    assert len(bank.asked) == 1


def test_those_who_wait_share_the_error_as_well(exchange: TokenExchange, bank: ProviderDouble) -> None:
    bank.script = [Scripted(status=500)]
    bank.may_answer.clear()
    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(exchange.token) for _ in range(5)]
        while not bank.asked:
            pass
        threading.Event().wait(0.05)
        bank.may_answer.set()
    assert all(isinstance(one.exception(), ExchangeError) for one in asking)
    assert len(bank.asked) == 1


def test_each_exchange_sends_another_assertion(exchange: TokenExchange, bank: ProviderDouble) -> None:
    values = []
    for _ in range(3):
        values.append(exchange.token().value)
        exchange.forget()
    assert values == ["access-0", "access-1", "access-2"]
    assert len(set(bank.assertions())) == 3


def test_an_assertion_is_never_sent_twice_whoever_sent_it(
    exchange: TokenExchange, bank: ProviderDouble, tokens: FreshTokensDouble, clock: FakeClock, context: ssl.SSLContext
) -> None:
    tokens.is_foreign = True
    exchange.token()
    exchange.forget()
    another = TokenExchange(generic_profile(bank.url, AUDIENCE), tokens, context=context, clock=clock)
    for one in (exchange, another):
        assert "was already sent; its attestor does not know" in str(error_of(one))
    assert len(bank.asked) == 1


def test_an_assertion_that_never_left_may_be_sent_later(
    bank: ProviderDouble, tokens: FreshTokensDouble, context: ssl.SSLContext
) -> None:
    tokens.is_foreign = True
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    away = TokenExchange(generic_profile(f"https://localhost:{port}/", AUDIENCE), tokens, context=context)
    assert error_of(away, f"localhost:{port}: connection refused").is_temporary
    assert TokenExchange(generic_profile(bank.url, AUDIENCE), tokens, context=context).token().value == "access-0"


def test_only_the_token_that_was_refused_is_forgotten(exchange: TokenExchange) -> None:
    first = exchange.token()
    exchange.forget(first)
    second = exchange.token()
    assert second is not first
    exchange.forget(first)  # by a caller that is late
    assert exchange.token() is second


def test_a_forked_child_makes_its_own_exchange_even_amidst_one_of_its_parent(
    exchange: TokenExchange, bank: ProviderDouble
) -> None:
    bank.may_answer.clear()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(exchange.token)
        while not bank.asked:
            pass
        child = os.fork()
        if not child:
            signal.alarm(30)
            os._exit(exchange.token().value != "access-1")
        while len(bank.asked) < 2:
            pass
        bank.may_answer.set()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert asking.result().value == "access-0"


PAGE = Scripted(status=200, body=b"<html>we will be back</html>", headers={"Content-Type": "text/html"})
TROUBLES = [Scripted(status=500), Scripted(raw=b""), Scripted(status=429), Scripted(status=302), PAGE]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_cannot_be_renewed_for_a_while_is_given_until_its_end(
    trouble: Scripted, exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    first = exchange.token()
    clock.advance(541)
    bank.script = [trouble] * 20
    with caplog.at_level(logging.WARNING):
        assert [exchange.token() for _ in range(3)] == [first] * 3
    assert len(bank.asked) == 2
    assert "token not renewed, the last one is given until its end: " in caplog.text
    clock.advance(6)
    assert exchange.token() is first
    assert len(bank.asked) == 3
    clock.advance(60)
    assert error_of(exchange).status in {trouble.status, None}


def test_a_refusal_takes_away_the_last_token(exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock) -> None:
    exchange.token()
    clock.advance(541)
    bank.script = [Scripted(status=403)]
    assert error_of(exchange, "answered 403").status == 403
    clock.advance(0.5)
    assert exchange.token().value == "access-1"


def test_the_last_token_bridges_an_attestor_that_is_away_and_not_an_identity_that_is_gone(
    exchange: TokenExchange, tokens: FreshTokensDouble, clock: FakeClock
) -> None:
    first = exchange.token()
    clock.advance(541)
    tokens.error = WorkloadAPIError("away", code="UNAVAILABLE")
    assert exchange.token() is first
    clock.advance(6)
    tokens.error = WorkloadAPIError("no identity issued", code="PERMISSION_DENIED")
    for _ in range(2):
        with pytest.raises(WorkloadAPIError, match="no identity"):
            exchange.token()


def test_the_wanted_identity_is_asked_for(
    bank: ProviderDouble, tokens: FreshTokensDouble, context: ssl.SSLContext
) -> None:
    web = SpiffeID.parse("spiffe://example.org/web")
    TokenExchange(generic_profile(bank.url, AUDIENCE), tokens, spiffe_id=str(web), context=context).token()
    assert tokens.asked == [(web, True)]


def test_an_exchange_that_is_interrupted_leaves_nobody_waiting(
    exchange: TokenExchange, tokens: FreshTokensDouble, bank: ProviderDouble
) -> None:
    tokens.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        exchange.token()
    tokens.error = None
    assert exchange.token().value == "access-0"
    assert len(bank.asked) == 1


def test_an_error_of_a_source_of_your_own_comes_through(exchange: TokenExchange, tokens: FreshTokensDouble) -> None:
    tokens.error = TimeoutError("my source")
    with pytest.raises(TimeoutError, match="my source"):
        exchange.token()


async def test_an_error_comes_through_to_tasks_as_well(exchange: TokenExchange, tokens: FreshTokensDouble) -> None:
    tokens.error = TimeoutError("my source")
    with pytest.raises(TimeoutError, match="my source"):
        await exchange.token_async()
    tokens.error = None
    first = await exchange.token_async()
    assert await exchange.token_async() is first
