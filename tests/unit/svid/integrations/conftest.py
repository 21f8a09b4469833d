"""An exchange, its source, and a provider over real TLS that verifies what comes."""

import ssl
from collections.abc import Iterator

import pytest

from bench.rig.webca import WebAuthority
from cognomen.protocol.openid import keys_document
from svid.clock import SystemClock
from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import generic_profile
from tests.doubles.clock import FakeClock
from tests.doubles.freshtokens import FreshTokensDouble
from tests.doubles.provider import AUDIENCE, ProviderDouble, provider
from tests.doubles.trustdomain import TrustDomainDouble


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> WebAuthority:
    return WebAuthority(tmp_path_factory.mktemp("web"))


@pytest.fixture
def bank(domain: TrustDomainDouble, authority: WebAuthority) -> Iterator[ProviderDouble]:
    with provider(keys_document(domain.bundle), authority.server_context()) as double:
        double.audience = AUDIENCE
        yield double


@pytest.fixture
def tokens(domain: TrustDomainDouble) -> FreshTokensDouble:
    return FreshTokensDouble(domain)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(SystemClock().now())


@pytest.fixture
def context(authority: WebAuthority) -> ssl.SSLContext:
    return authority.client_context()


@pytest.fixture
def exchange(
    bank: ProviderDouble, tokens: FreshTokensDouble, clock: FakeClock, context: ssl.SSLContext
) -> TokenExchange:
    return TokenExchange(generic_profile(bank.url, AUDIENCE), tokens, context=context, clock=clock)
