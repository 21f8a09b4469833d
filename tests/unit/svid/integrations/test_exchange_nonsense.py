"""svid/integrations/exchange: whatever a provider sends, the outcome is a token or an ExchangeError, and little is read."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.openid import keys_document
from svid.clock import SystemClock
from svid.errors import ExchangeError
from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_post import Reply, post
from svid.integrations.exchange_profiles import aws_sts_profile, generic_profile
from svid.integrations.exchange_refusals import apart, date_of
from tests.doubles.clock import FakeClock
from tests.doubles.freshtokens import FreshTokensDouble
from tests.doubles.provider import AUDIENCE, ProviderDouble, Scripted, error_of, provider
from tests.doubles.trustdomain import TrustDomainDouble

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TOKEN = b'{"access_token": "abc"}'
PIECE = b"x" * (1 << 20)


@pytest.fixture(scope="module")
def scripted() -> Iterator[ProviderDouble]:
    with provider(keys_document(TrustDomainDouble().bundle), None) as double:
        yield double


@pytest.fixture
def plain(scripted: ProviderDouble) -> Iterator[ProviderDouble]:
    yield scripted
    scripted.script = []


@pytest.fixture
def bare(plain: ProviderDouble, tokens: FreshTokensDouble) -> TokenExchange:
    return TokenExchange(generic_profile(plain.url, AUDIENCE), tokens)


# Answers without an end

ENDLESS = [
    (CHUNKED + b"-1\r\n", PIECE),
    (CHUNKED + b"-01;a=b\r\n", PIECE),
    (CHUNKED + b"0\r\n", b"A: b\r\n" * 10_000),
    (CHUNKED + b"1;", b"a" * 60_000 + b"\r\nx\r\n1;"),
    (CHUNKED, b"f" * (1 << 20)),
    (CHUNKED + b"f" * 60_000 + b"\r\n", PIECE),
    (OK + b"Content-Length: -1\r\n\r\n", PIECE),
    (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", PIECE),
    (OK + b"Content-Length: 99999999999\r\n\r\n", PIECE),
    (OK + b"\r\n", PIECE),
    (OK, b"A: " + b"b" * 60_000 + b"\r\n"),
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000),
]


@pytest.mark.parametrize(("begins", "goes_on"), ENDLESS)
def test_of_an_answer_without_an_end_little_is_read(begins: bytes, goes_on: bytes, tokens: FreshTokensDouble) -> None:
    ended: Future[OSError] = Future()

    def answer() -> None:
        near, _ = listener.accept()
        with near:
            near.settimeout(20)
            near.recv(1 << 16)
            try:
                near.sendall(begins)
                for _ in range(256 * len(PIECE) // len(goes_on)):
                    near.sendall(goes_on)
            except OSError as e:
                ended.set_result(e)
            else:
                ended.set_exception(AssertionError("everything was taken"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=answer)
        answering.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/t"
        error_of(TokenExchange(generic_profile(url, AUDIENCE), tokens))
        answering.join()
    assert isinstance(ended.result(), ConnectionError)  # we hung up


def test_what_is_read_has_a_limit_whatever_length_the_library_asks_for(
    bare: TokenExchange, plain: ProviderDouble
) -> None:
    plain.script = [Scripted(raw=CHUNKED + b"-1\r\n" + PIECE)]
    error_of(bare, "expected an answer of at most 262144 bytes with its head, found more")


def test_a_proxy_whose_head_has_no_end_is_read_no_further_and_the_assertion_may_be_sent_later(
    plain: ProviderDouble, tokens: FreshTokensDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> None:
        near, _ = between.accept()
        with near, suppress(OSError):
            near.settimeout(20)
            near.recv(1 << 16)
            near.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(1000):
                near.sendall(b"A: " + b"b" * 60_000 + b"\r\n")

    tokens.is_foreign = True
    with socket.create_server(("127.0.0.1", 0)) as between:
        answering = threading.Thread(target=answer)
        answering.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{between.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        away = TokenExchange(generic_profile("https://sts.example.org/", AUDIENCE), tokens)
        error_of(away, "sts.example.org: expected an answer of at most 262144 bytes")
        answering.join()
    plain.script = [Scripted(status=200, body=TOKEN)]
    assert TokenExchange(generic_profile(plain.url, AUDIENCE), tokens).token().value == "abc"


def test_a_token_in_chunks_of_one_byte_is_read(bare: TokenExchange, plain: ProviderDouble) -> None:
    body = b"".join(b"1\r\n%c\r\n" % one for one in TOKEN)
    plain.script = [Scripted(raw=CHUNKED + body + b"0\r\n\r\n")]
    assert bare.token().value == "abc"


# Lengths, heads

LENGTHS = [b"-1", b"-5", b"-0", b"", b"zz", b"+5", b"0x5", b"\xb3", b"-" + b"f" * 5000, b"5\0", b";5"]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_chunk_whose_length_is_none_or_another_is_an_error_of_ours(
    length: bytes, bare: TokenExchange, plain: ProviderDouble
) -> None:
    plain.script = [Scripted(raw=CHUNKED + length + b"\r\n" + TOKEN + b"\r\n0\r\n\r\n")]
    error_of(bare)


def test_a_negative_chunk_is_told_as_other_things_that_are_not_http(bare: TokenExchange, plain: ProviderDouble) -> None:
    plain.script = [Scripted(raw=CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n")]
    assert not error_of(bare, "expected an answer of HTTP, found none").is_temporary


CODECS = [b"boundary*=undefined''x", b"boundary*=idna''%41", b"boundary*=a\0b''x", b"boundary*0=a; boundary*=b"]


@pytest.mark.parametrize("parameter", CODECS)
def test_a_head_that_the_library_cannot_parse_is_an_error_of_ours(
    parameter: bytes, bare: TokenExchange, plain: ProviderDouble
) -> None:
    head = b"Content-Type: multipart/mixed; " + parameter + b"\r\n\r\n"
    plain.script = [Scripted(raw=OK + head + TOKEN)]
    assert not error_of(bare, "expected an answer of HTTP, found none").is_temporary


PARTS = [
    b"Content-Type: ",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked",
    b"Date: ",
    b"multipart/a",
    b";",
    b"a*0*=",
]
PARTS += [b"message/rfc822", b"undefined''", b"-", b"1", b"9999", b"\0", b"\xff", b" ", b"\r\n", b"\r\n\r\n", TOKEN]


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@given(after=st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join))
def test_any_bytes_after_the_status_are_a_reply_or_an_error_of_ours(after: bytes, scripted: ProviderDouble) -> None:
    scripted.script = [Scripted(raw=OK + after)]
    try:
        reply = post(scripted.url, b"assertion=a", FORM, context=None, timeout=timedelta(seconds=20))
    except ExchangeError:
        return
    assert reply.status == 200


# Dates, lives

DATES = ["Mon, 01 Jan 1000 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"]
DATES += ["Mon, 01 Jan 0001 00:00:00 +2359", "Thu, 01 Jan 2026 00:00:00 +999999999", "1", "-", ""]
ENDS = ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "1000-01-01", 253402300799, -62135596800, 5e-324, 1e308]


@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize("end", ENDS)
def test_with_any_dates_the_outcome_is_a_token_or_an_error_of_ours(
    date: str, end: object, plain: ProviderDouble, tokens: FreshTokensDouble, clock: FakeClock
) -> None:
    credentials = {"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": end}
    result = {"AssumeRoleWithWebIdentityResult": {"Credentials": credentials}}
    plain.script = [
        Scripted(status=200, headers={"Date": date}, body={"AssumeRoleWithWebIdentityResponse": result}),
    ]
    profile = aws_sts_profile("arn:aws:iam::1:role/r", "s", url=plain.url, audience=AUDIENCE)
    try:
        token = TokenExchange(profile, tokens, clock=clock).token()
    except ExchangeError:
        return
    assert token.expires_at is not None
    assert timedelta() < token.expires_at - clock.now() <= timedelta(hours=12)


@pytest.mark.parametrize("life", ["5e-324", "1e308", "9" * 300, '"999999999999"', '"\\u0663"', "{}"])
def test_with_any_life_the_outcome_is_a_token_or_an_error_of_ours(
    life: str, bare: TokenExchange, plain: ProviderDouble
) -> None:
    plain.script = [Scripted(status=200, body=b'{"access_token": "abc", "expires_in": %s}' % life.encode())]
    with suppress(ExchangeError):
        assert bare.token().expires_at is not None


WORDS = st.lists(st.sampled_from(["Mon, ", "01", " Jan", " 9999", "0", " ", ":", "-", "+", "GMT", "9" * 20, "\0", "²"]))


@given(date=WORDS.map("".join) | st.text(max_size=40), after=WORDS.map("".join) | st.text(max_size=40))
def test_any_text_is_a_date_or_none(date: str, after: str) -> None:
    headers = Message()
    headers["Date"], headers["X-After"] = date.replace("\r", "").replace("\n", ""), after
    now = SystemClock().now()
    for name in ("Date", "X-After"):
        assert (found := date_of(headers, name)) is None or found.tzinfo is not None
    assert isinstance(apart(headers, "expired", now=now), str)


# What is shown, what is passed on


def test_no_text_of_a_reply_holds_what_came() -> None:
    headers = Message()
    headers["Set-Cookie"] = "head-secret"
    reply = Reply(200, headers, b"body-secret")
    assert repr(reply) == str(reply) == "Reply(status=200)"


@pytest.mark.parametrize("text", ["a\\r\\nX: y", "\\u0000", "\\u001b[2J", "\\u2028", "\\u202e", "\\u0085"])
def test_fields_that_are_not_printable_are_left_out(text: str, bare: TokenExchange, plain: ProviderDouble) -> None:
    body = f'{{"access_token": "abc", "scope": "{text}", "{text}": "a", "id": "é b"}}'
    plain.script = [Scripted(status=200, body=body.encode())]
    assert bare.token().fields == {"id": "é b"}
