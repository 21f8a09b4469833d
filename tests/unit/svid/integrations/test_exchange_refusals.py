"""svid/integrations/exchange: what a provider, or somebody in its place, may answer, and what is not sent at all."""

import contextlib
import logging
import re
import socket
import ssl
import threading
from datetime import timedelta

import pytest

from cognomen.protocol.openid import keys_document
from svid.clock import SystemClock
from svid.errors import ExchangeError, NotSentError
from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import (
    aws_sts_profile,
    generic_profile,
)
from svid.tls.authorize import exactly
from svid.tls.context import client_context, server_context
from tests.doubles.clock import FakeClock
from tests.doubles.freshtokens import FreshTokensDouble
from tests.doubles.identity import Identity
from tests.doubles.provider import AUDIENCE, ISSUER, ProviderDouble, Scripted, error_of, provider
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.webserver import proxy, web_server

SECOND = timedelta(seconds=1)


# What the provider, or somebody in its place, may answer


def test_a_page_in_place_of_json_is_named(exchange: TokenExchange, bank: ProviderDouble) -> None:
    page = Scripted(status=200, body=b"<html>hello</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    bank.script = [page]
    assert str(error_of(exchange)) == (
        "generic: answer 200: expected a JSON object, found text/html of 18 bytes; is the URL right?"
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(status: int, exchange: TokenExchange, bank: ProviderDouble) -> None:
    with web_server() as elsewhere:
        where = f"http://user@localhost:{elsewhere.port}/there?assertion=ASSERTION"
        bank.script = [Scripted(status=status, headers={"Location": where})]
        error = error_of(exchange)
        assert f"a redirect to http://localhost:{elsewhere.port}/there, which is not followed" in str(error)
        assert not elsewhere.heads


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_says_what_to_look_at(status: int, exchange: TokenExchange, bank: ProviderDouble) -> None:
    body = {"error": "invalid_grant", "error_description": "no rule \n matches" + 400 * "!"}
    bank.script = [Scripted(status=status, body=body)]
    error = error_of(exchange)
    assert (error.status, error.code, error.is_temporary) == (status, "invalid_grant", False)
    text = str(error)
    assert text.startswith(f"generic: answered {status} invalid_grant: no rule   matches!!!")
    assert text.count("!") < 256
    assert f"iss {ISSUER}, sub spiffe://example.org/web, aud {AUDIENCE}" in text


@pytest.mark.parametrize(
    "echo",
    [
        {"error": "ASSERTION", "error_description": "bad token ASSERTION, it is expired"},
        {"error": {"type": "x", "message": "xxASSERTIONxx"}},
        {"errors": ["ASSERTION"]},
        {"Error": {"Code": "InvalidIdentityToken", "Message": "ASSERTION"}},
    ],
)
@pytest.mark.parametrize("status", [200, 400, 429, 500, 302])
def test_no_text_has_a_part_of_the_assertion(
    echo: dict[str, object],
    status: int,
    exchange: TokenExchange,
    bank: ProviderDouble,
    caplog: pytest.LogCaptureFixture,
) -> None:
    headers = {"Location": "https://elsewhere/ASSERTION", "Content-Type": "text/ASSERTION"}
    bank.script = [Scripted(status=status, body=echo, echoes=True, headers=headers)]
    with caplog.at_level(logging.DEBUG):
        error = error_of(exchange)
    (assertion,) = bank.assertions()
    seen: BaseException | None = error
    while seen is not None:
        text = f"{seen} {seen!r} {seen.args}{caplog.text}"
        assert not [start for start in range(len(assertion) - 8) if assertion[start : start + 8] in text]
        seen = seen.__cause__ or seen.__context__


WAITS = [
    ("7", 7),
    ("0", 1),
    ("999999", 600),
    ("99999999999", 600),
    ("9" * 5000, 600),
    ("soon", 1),
    ("-5", 1),
    ("", 1),
    ("٣", 1),
]


@pytest.mark.parametrize(("after", "seconds"), WAITS)
def test_no_new_attempt_is_made_before_the_provider_wants_one(
    after: str, seconds: int, exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock
) -> None:
    status = 429 if seconds % 2 else 503
    bank.script = [Scripted(status=status, headers={"Retry-After": after.encode("utf-8").decode("latin-1")})]
    error = error_of(exchange, f"answered {status}.*no new attempt before")
    assert error.retry_at == clock.now() + seconds * SECOND
    clock.advance(seconds - 0.5)
    assert error_of(exchange).retry_at == error.retry_at
    exchange.forget()
    assert error_of(exchange).retry_at == error.retry_at
    assert len(bank.asked) == 1
    clock.advance(0.5)
    assert exchange.token().value == "access-0"


def test_retry_after_may_be_a_date_by_the_providers_clock(
    exchange: TokenExchange, bank: ProviderDouble, clock: FakeClock
) -> None:
    headers = {"Retry-After": "Thu, 01 Jan 2026 00:01:00 GMT", "Date": "Thu, 01 Jan 2026 00:00:20 GMT"}
    bank.script = [Scripted(status=429, headers=headers)]
    assert error_of(exchange).retry_at == clock.now() + 40 * SECOND


@pytest.mark.parametrize(
    ("ahead", "words"), [(-600, "our clock is 600 s ahead of the provider's"), (7200, "our clock is 7200 s behind")]
)
def test_clocks_that_differ_are_named(ahead: int, words: str, exchange: TokenExchange, bank: ProviderDouble) -> None:
    bank.ahead = ahead * SECOND
    text = str(error_of(exchange, "answered 401 invalid_grant: the assertion"))
    seconds = int(text.partition("our clock is ")[2].split()[0])
    assert abs(seconds - abs(ahead)) < 30
    assert words.split(" s ")[1] in text


def test_the_clock_of_an_issuer_that_is_ahead_of_us_is_named_and_ours_is_not_blamed(
    bank: ProviderDouble, tokens: FreshTokensDouble, context: ssl.SSLContext
) -> None:
    ours = FakeClock(SystemClock().now() - 90 * SECOND)
    exchange = TokenExchange(generic_profile(bank.url, AUDIENCE), tokens, context=context, clock=ours)
    bank.ahead = -90 * SECOND
    text = str(error_of(exchange, "answered 401 invalid_grant: the assertion"))
    assert re.search(r"its iat is (8|9)\d s in the future by our clock: the issuer's clock is ahead", text)
    assert "our clock is" not in text


def test_a_provider_that_does_not_say_its_time_is_told_apart(exchange: TokenExchange, bank: ProviderDouble) -> None:
    bank.script = [Scripted(status=401, body={"error": "token expired"}, headers={"Date": "yesterday"})]
    assert "does not say what time it is there" in str(error_of(exchange))


WRONG = [
    b"",
    b"[]",
    b"null",
    b'{"access_token": "a", "access_token": "b"}',
    b'{"access_token": 1}',
    b'{"access_token": "a b"}',
    b'{"access_token": "a\\r\\nX-Evil: 1"}',
    b'{"access_token": "\\ud800"}',
    b'{"access_token": ""}',
    b'{"access_token": "abc", "expires_in": 0}',
    b'{"access_token": "abc", "expires_in": -1}',
    b'{"access_token": "abc", "expires_in": true}',
    b'{"access_token": "abc", "expires_in": NaN}',
    b'{"access_token": "abc", "expires_in": "soon"}',
    b'{"access_token": "abc", "token_type": "DPoP"}',
    b'{"access_token": "abc", "token_type": 1}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("body", WRONG)
def test_an_answer_that_is_no_token_is_refused(body: bytes, exchange: TokenExchange, bank: ProviderDouble) -> None:
    bank.script = [Scripted(status=200, body=body)]
    assert error_of(exchange, "generic: answer 200: .*expected").status == 200


def test_a_token_that_has_ended_by_the_providers_own_clock_is_refused(
    bank: ProviderDouble, tokens: FreshTokensDouble, context: ssl.SSLContext
) -> None:
    profile = aws_sts_profile("arn:aws:iam::1:role/r", "s", url=bank.url)
    gone = {"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": "2020-01-01T00:00:00Z"}
    result = {"AssumeRoleWithWebIdentityResult": {"Credentials": gone}}
    bank.script = [Scripted(status=200, body={"AssumeRoleWithWebIdentityResponse": result})]
    error_of(TokenExchange(profile, tokens, context=context), "the token expired at 2020-01-01T00:00:00")


@pytest.mark.parametrize("size", [(1 << 16) + 1, 5 << 20])
def test_a_long_answer_is_not_read_to_its_end(size: int, exchange: TokenExchange, bank: ProviderDouble) -> None:
    bank.script = [Scripted(status=200, body=b" " * size)]
    error_of(exchange, r"localhost:[0-9]+: answer: expected at most 65536 bytes, found more")


RAW = [
    (b"", True),
    (b"hello\r\n\r\n", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", True),
    (b"HTTP/1.1 abc\r\n\r\n", False),
    (b"\0" * 70000, False),
]


@pytest.mark.parametrize(("raw", "is_temporary"), RAW)
def test_what_is_not_http_is_an_error_of_ours_and_what_ended_early_may_succeed_later(
    raw: bytes, exchange: TokenExchange, bank: ProviderDouble, *, is_temporary: bool
) -> None:
    bank.script = [Scripted(raw=raw)]
    error = error_of(exchange, r"^generic: localhost:[0-9]+: .*; is the URL right\?$")
    assert error.is_temporary is is_temporary


def test_a_refused_connection_says_so_and_where_and_what_to_look_at(
    tokens: FreshTokensDouble, context: ssl.SSLContext
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    exchange = TokenExchange(generic_profile(f"https://127.0.0.1:{port}/", AUDIENCE), tokens, context=context)
    error = error_of(exchange, f"^generic: 127.0.0.1:{port}: connection refused; can this machine reach it")
    assert isinstance(error, NotSentError)
    assert error.is_temporary


@pytest.mark.parametrize(
    "begins", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"]
)
def test_an_answer_that_trickles_in_has_an_end(
    begins: bytes, bank: ProviderDouble, tokens: FreshTokensDouble, context: ssl.SSLContext
) -> None:
    bank.script = [Scripted(raw=begins, trickles=True)]
    profile = generic_profile(bank.url, AUDIENCE)
    exchange = TokenExchange(profile, tokens, context=context, timeout=timedelta(seconds=0.4))
    assert error_of(exchange, "no answer within 0.4 s").is_temporary


def test_a_server_that_takes_no_part_in_a_handshake_has_an_end(
    tokens: FreshTokensDouble, context: ssl.SSLContext
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        profile = generic_profile(f"https://localhost:{silent.getsockname()[1]}/", AUDIENCE)
        exchange = TokenExchange(profile, tokens, context=context, timeout=timedelta(seconds=0.4))
        error_of(exchange, "no answer within 0.4 s")


def test_a_proxy_that_trickles_has_an_end(
    tokens: FreshTokensDouble, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trickle() -> None:
        near, _ = slow.accept()
        with near, contextlib.suppress(OSError):
            while True:
                near.sendall(b"H")
                threading.Event().wait(0.02)

    with socket.create_server(("127.0.0.1", 0)) as slow:
        threading.Thread(target=trickle, daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{slow.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        profile = generic_profile("https://sts.example.org/", AUDIENCE)
        exchange = TokenExchange(profile, tokens, context=context, timeout=timedelta(seconds=0.4))
        error_of(exchange, "sts.example.org: no answer within 0.4 s")


def test_a_provider_may_prove_a_spiffe_id_in_place_of_a_host_name(
    domain: TrustDomainDouble, tokens: FreshTokensDouble
) -> None:
    here, there = (Identity(domain.svid(path), domain.bundle) for path in ("/web", "/sts"))
    serving = server_context(there, exactly("spiffe://example.org/web"))
    with provider(keys_document(domain.bundle), serving) as bank:
        bank.audience = AUDIENCE
        profile = generic_profile(bank.url, AUDIENCE)
        right = client_context(here, exactly("spiffe://example.org/sts"))
        assert TokenExchange(profile, tokens, context=right).token().value == "access-0"
        wrong = client_context(here, exactly("spiffe://example.org/bank"))
        assert not error_of(TokenExchange(profile, tokens, context=wrong), "spiffe://example.org/sts").is_temporary
    assert len(bank.asked) == 1


# What is not sent at all


def test_an_untrusted_certificate_ends_the_exchange(bank: ProviderDouble, tokens: FreshTokensDouble) -> None:
    error_of(TokenExchange(generic_profile(bank.url, AUDIENCE), tokens), "certificate is not trusted")
    assert not bank.asked


def test_a_context_that_checks_nothing_is_refused(tokens: FreshTokensDouble, context: ssl.SSLContext) -> None:
    profile = generic_profile("https://sts.example.org/token", AUDIENCE)
    context.check_hostname = False
    with pytest.raises(ExchangeError, match="checks the server's certificate and host name"):
        TokenExchange(profile, tokens, context=context)
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ExchangeError, match="checks the server's certificate and host name"):
        TokenExchange(profile, tokens, context=context)


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_timeout_is_positive(seconds: int, tokens: FreshTokensDouble) -> None:
    with pytest.raises(ExchangeError, match="timeout: expected a positive time"):
        TokenExchange(generic_profile("https://a.example/", AUDIENCE), tokens, timeout=seconds * SECOND)


def test_a_timeout_that_is_no_timedelta_says_what_is_expected(tokens: FreshTokensDouble) -> None:
    for wrong in (5, 0.5, "5s"):
        with pytest.raises(TypeError, match=r"timeout: expected a timedelta, such as timedelta\(seconds=5\), found"):
            TokenExchange(generic_profile("https://sts.example.org/", AUDIENCE), tokens, timeout=wrong)  # type: ignore[arg-type]  # as somebody without a type checker


def test_what_is_no_source_is_refused(context: ssl.SSLContext) -> None:
    with pytest.raises(TypeError, match="expected one that has fetch"):
        TokenExchange(generic_profile("https://a.example/", AUDIENCE), context)  # type: ignore[arg-type]  # the test


def test_a_proxy_of_the_environment_sees_only_a_tunnel_and_loopback_needs_none(
    exchange: TokenExchange,
    tokens: FreshTokensDouble,
    bank: ProviderDouble,
    context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with proxy() as between:
        for name in ("https_proxy", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{between.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert exchange.token().value == "access-0"
        assert not between.heads
        port = bank.url.rpartition(":")[2].partition("/")[0]
        other = TokenExchange(generic_profile(f"https://sts.example.org:{port}/", AUDIENCE), tokens, context=context)
        error_of(other, "certificate is not trusted: Hostname mismatch")
        assert between.tunnels == [f"sts.example.org:{port}"]
    assert len(bank.asked) == 1


def test_plain_http_on_loopback_goes_to_no_proxy(
    domain: TrustDomainDouble, tokens: FreshTokensDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with provider(keys_document(domain.bundle), None) as plain:
        plain.audience = AUDIENCE
        assert TokenExchange(generic_profile(plain.url, AUDIENCE), tokens).token().value == "access-0"


def test_a_token_without_an_issuer_is_not_sent_where_one_is_needed(
    exchange: TokenExchange, bank: ProviderDouble, tokens: FreshTokensDouble
) -> None:
    tokens.issuer = None
    error_of(exchange, "the JWT-SVID has no iss; the issuer's jwt_issuer is not set")
    assert not bank.asked


def test_a_token_for_others_as_well_is_not_sent(
    exchange: TokenExchange, bank: ProviderDouble, tokens: FreshTokensDouble
) -> None:
    tokens.others = ("https://elsewhere.example",)
    error_of(exchange, f"aud: expected only {AUDIENCE}")
    assert not bank.asked
