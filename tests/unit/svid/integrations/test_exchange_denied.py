"""svid/integrations/exchange: a kept token is dropped when its JWT-SVID is denied, the identity is gone, or the source is closed."""

import gc
import ssl
import weakref
from collections.abc import Callable, Collection
from datetime import timedelta

import pytest

from svid.denials import number_of_jti
from svid.errors import WorkloadAPIError
from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import generic_profile
from svid.spiffeid import TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.freshtokens import FreshTokensDouble
from tests.doubles.provider import AUDIENCE, ProviderDouble
from tests.doubles.trustdomain import TrustDomainDouble

DOMAIN = TrustDomain("example.org")


class Telling(FreshTokensDouble):
    """A source that knows denials, and whether it was closed; it is a KnowsDenials and a KnowsItsEnd."""

    def __init__(self, domain: TrustDomainDouble) -> None:
        super().__init__(domain)
        self.is_closed = False
        self.denied: set[int] = set()
        self.hearing: list[Callable[[TrustDomain, Collection[int]], None]] = []
        self.subscribed: list[Callable[[], None]] = []

    def is_denied(self, trust_domain: TrustDomain, number: int) -> bool:
        return trust_domain == DOMAIN and number in self.denied

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        assert point == "token exchange"
        self.hearing.append(callback)
        return lambda: self.hearing.remove(callback)

    def denials_age(self) -> timedelta | None:
        return timedelta()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.subscribed.append(callback)
        return lambda: self.subscribed.remove(callback)

    def deny(self, *numbers: int) -> None:
        self.denied.update(numbers)
        for hear in self.hearing:
            hear(DOMAIN, numbers)


@pytest.fixture
def source(domain: TrustDomainDouble) -> Telling:
    return Telling(domain)


@pytest.fixture
def exchange(source: Telling, bank: ProviderDouble, clock: FakeClock, context: ssl.SSLContext) -> TokenExchange:
    return TokenExchange(generic_profile(bank.url, AUDIENCE), source, context=context, clock=clock)


def sent(source: Telling) -> int:
    number = number_of_jti(source.given[-1].jti)
    assert number is not None
    return number


def test_a_token_whose_jwt_svid_is_denied_is_replaced(exchange: TokenExchange, source: Telling) -> None:
    first = exchange.token()
    source.denied.add(sent(source))  # before the callback comes
    second = exchange.token()
    assert second is not first
    assert exchange.token() is second


def test_a_denied_token_is_not_given_while_no_other_can_be_had(exchange: TokenExchange, source: Telling) -> None:
    exchange.token()
    source.deny(sent(source))
    source.error = WorkloadAPIError("away", code="UNAVAILABLE")
    with pytest.raises(WorkloadAPIError, match="away"):
        exchange.token()


@pytest.mark.parametrize("is_told_by_bundles", [False, True])
def test_if_somebody_is_denied_we_ask_once_whether_our_identity_is_there(
    exchange: TokenExchange, source: Telling, bank: ProviderDouble, *, is_told_by_bundles: bool
) -> None:
    def tell() -> None:
        if is_told_by_bundles:
            source.subscribed[0]()
        else:
            source.deny(1)

    first = exchange.token()
    tell()
    assert [exchange.token(), exchange.token()] == [first, first]
    assert source.asked == [(None, True), (None, False)]
    assert len(bank.asked) == 1
    tell()
    source.error = WorkloadAPIError("away", code="UNAVAILABLE")
    assert exchange.token() is first, "nobody says that it is gone"
    tell()
    source.error = WorkloadAPIError("no identity issued", code="PERMISSION_DENIED")
    with pytest.raises(WorkloadAPIError, match="no identity issued"):
        exchange.token()


def test_a_message_that_denies_nobody_raises_no_doubt(exchange: TokenExchange, source: Telling) -> None:
    exchange.token()
    source.deny()
    exchange.token()
    assert source.asked == [(None, True)]


def test_a_token_of_a_closed_source_is_not_given(exchange: TokenExchange, source: Telling) -> None:
    exchange.token()
    source.is_closed, source.error = True, WorkloadAPIError("source: already closed", code="CANCELLED")
    with pytest.raises(WorkloadAPIError, match="already closed"):
        exchange.token()


def test_a_source_keeps_no_exchange_alive(source: Telling) -> None:
    one = TokenExchange(generic_profile("https://sts.example.org/", AUDIENCE), source)
    gone = weakref.ref(one)
    assert (len(source.hearing), len(source.subscribed)) == (1, 1)
    del one
    gc.collect()
    assert gone() is None
    assert (source.hearing, source.subscribed) == ([], [])
