"""svid/integrations/exchange_post: a host with several addresses, some of them dark, gets no more time than one with a single one."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import generic_profile
from tests.doubles.freshtokens import FreshTokensDouble
from tests.doubles.provider import AUDIENCE, ProviderDouble, error_of

_FULL = 3  # connections that nobody accepts; the kernel answers no more of them


@pytest.fixture
def dark() -> Iterator[tuple[str, int]]:
    """An address where no connection is refused, and none is made."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        where = listener.getsockname()
        for _ in range(_FULL):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(where)
        yield where


def _named(monkeypatch: pytest.MonkeyPatch, *places: tuple[str, int]) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place) for place in places]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_a_dark_address_leaves_time_to_the_next_one(
    dark: tuple[str, int],
    bank: ProviderDouble,
    tokens: FreshTokensDouble,
    context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _named(monkeypatch, dark, ("127.0.0.1", int(bank.url.rpartition(":")[2].partition("/")[0])))
    exchange = TokenExchange(generic_profile(bank.url, AUDIENCE), tokens, context=context, timeout=timedelta(seconds=2))
    assert exchange.token().value == "access-0"


def test_when_the_time_is_over_no_further_address_is_tried(
    dark: tuple[str, int], tokens: FreshTokensDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as last:
        last.setblocking(False)
        _named(monkeypatch, *[dark] * 30, last.getsockname())
        profile = generic_profile("https://localhost:1/", AUDIENCE)
        exchange = TokenExchange(profile, tokens, timeout=timedelta(seconds=0.2))
        assert error_of(exchange, "no answer within 0.2 s").is_temporary
        with pytest.raises(BlockingIOError):
            last.accept()
