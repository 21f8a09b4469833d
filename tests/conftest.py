"""What every test has: the same examples of hypothesis each time (`--hypothesis-profile explore` looks for new ones), two ends of TLS."""

import pytest
from hypothesis import HealthCheck, settings

from tests.doubles.identity import Identity
from tests.doubles.trustdomain import TrustDomainDouble

settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=2000)
settings.load_profile("same")


@pytest.fixture
def domain() -> TrustDomainDouble:
    """Whose `client` and `server` are."""
    return TrustDomainDouble()


@pytest.fixture
def client(domain: TrustDomainDouble) -> Identity:
    return Identity(domain.svid("/client"), domain.bundle)


@pytest.fixture
def server(domain: TrustDomainDouble) -> Identity:
    return Identity(domain.svid("/server"), domain.bundle)
